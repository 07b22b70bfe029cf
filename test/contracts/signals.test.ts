import { openRedis } from '../../src/engines/redis/client.ts'
import { runAlone } from '../../src/primitives/data/alone.ts'
import { sql } from '../../src/primitives/data/sql.ts'
import { notifyLine } from '../../src/primitives/signals/notify.ts'
import { redisLine } from '../../src/primitives/signals/redis.ts'
import { openSystemTables } from '../support/data.ts'
import { testPostgres } from '../support/postgres.ts'
import { testRedis } from '../support/redis.ts'
import { signalsContract } from './signals.ts'

signalsContract('notify', async () => {
  const postgres = await testPostgres()
  const { database, connection } = await openSystemTables(postgres)
  return {
    open: async () =>
      notifyLine(
        database,
        async () => connection,
        () => {},
      ),
    async breakLines() {
      await runAlone(
        database,
        sql`select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%' and pid <> pg_backend_pid()`,
      )
    },
    async close() {
      await database.close()
      await postgres.stop()
    },
  }
})

signalsContract('redis', async () => {
  const redis = await testRedis()
  const clients: { close(): void }[] = []
  return {
    async open() {
      const client = await openRedis({ url: redis.url })
      clients.push(client)
      return redisLine({ client, url: redis.url, app: 'test' }, () => {})
    },
    async breakLines() {
      const { call, close } = await openRedis({ url: redis.url })
      await call('CLIENT', 'KILL', 'TYPE', 'pubsub')
      close()
    },
    async close() {
      for (const client of clients) client.close()
      await redis.stop()
    },
  }
})
