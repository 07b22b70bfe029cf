import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { startEmbedded } from '../../src/engines/postgres/embedded.ts'
import { openPostgres } from '../support/data.ts'
import { urlOf, withTempDir } from '../support/postgres.ts'

/** As somebody has them who works with another database. */
const foreign = {
  PGSSLMODE: 'require',
  PGSSLNEGOTIATION: 'direct',
  PGOPTIONS: '-c no_such_setting=1',
  PGHOST: 'elsewhere.example',
  PGHOSTADDR: '192.0.2.1',
  PGPORT: '1',
  PGUSER: 'nobody',
  PGPASSWORD: 'x',
  PGDATABASE: 'other',
  PGDATA: '/nowhere',
  PGDATESTYLE: 'nonsense',
  PGTZ: 'nonsense',
  PGCLIENTENCODING: 'nonsense',
  PGCLIENT_ENCODING: 'LATIN1',
  PGAPPNAME: 'other',
  PGCONNECT_TIMEOUT: '0.001',
  PGREPLICATION: 'true',
}

test('nothing that the environment says of another database reaches the embedded one', async () => {
  const own = Object.fromEntries(Object.keys(foreign).map((name) => [name, process.env[name]]))
  Object.assign(process.env, foreign)
  try {
    await withTempDir(async (root) => {
      const server = await startEmbedded({ root, connectionsMax: 100 })
      try {
        // As the app connects, and as the processes of `rung up` do.
        for (const connection of [server.connection, { url: urlOf(server.connection) }]) {
          const client = await connectOnce(connection)
          const { rows } = await client.query(
            "select current_user as role, current_database() as database, current_setting('client_encoding') as encoding, 'ä' as text",
          )
          await client.end()
          assert.deepEqual(rows, [{ role: 'app', database: 'app', encoding: 'UTF8', text: 'ä' }])
        }
        const database = await openPostgres(undefined as never, { connection: { url: urlOf(server.connection) } })
        const reading = await database.connect({ target: 'read', deadlineAt: Number.POSITIVE_INFINITY })
        assert.equal((await reading.run({ text: 'select 1', values: [], name: undefined })).rowCount, 1)
        reading.release()
        await database.close()
      } finally {
        await server.stop()
      }
    })
  } finally {
    for (const [name, value] of Object.entries(own)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
})
