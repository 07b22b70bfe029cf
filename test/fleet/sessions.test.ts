import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type Client, type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import { watchSessions } from '../../src/fleet/sessions.ts'
import { noPooler, startPooler } from '../support/pgbouncer.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { until } from '../support/process.ts'

describe('what sessions wait for', () => {
  let server: TestPostgres
  let database: ConnectionConfig
  let admin: Client
  before(async () => {
    server = await testPostgres()
    database = await server.createDatabase()
    admin = await connectOnce(server.admin)
  })
  after(async () => {
    await admin?.end()
    await server?.stop()
  })
  const sessions = async (condition: string) => {
    const { rows } = await admin.query(`select pid from pg_stat_activity where datname = $1 and ${condition}`, [
      database.database,
    ])
    return (rows as { pid: number }[]).map(({ pid }) => pid)
  }
  const seenOf = async (name: string, address: string) => (await (await watchSessions({ name, address }))())!

  it('is found for locks', async () => {
    const [holder, ...others] = await Promise.all(Array.from({ length: 4 }, () => connectOnce(database)))
    await holder!.query(
      'begin; create table counter (value int); insert into counter values (0); commit; begin; update counter set value = 1',
    )
    const waiting = others.map((one) => one.query('update counter set value = value + 1'))
    await until(async () => (await sessions(`wait_event_type = 'Lock'`)).length === 3, 'three wait')
    const most = Number((await admin.query('show max_connections')).rows[0].max_connections)
    const { active, waiting: by, connections } = await seenOf('postgres', server.admin.host!)
    assert.ok(by.locks! >= 3 && active >= 3, JSON.stringify({ active, by }))
    assert.ok(
      connections!.most >= 5 && connections!.most <= connections!.of && connections!.of < most,
      JSON.stringify(connections),
    )
    await holder!.query('commit')
    await Promise.all(waiting)
    await Promise.all([holder!, ...others].map((one) => one.end()))
  })

  it('is found for a connection of the pooler', { skip: noPooler }, async () => {
    const pooler = await startPooler(database)
    const { url } = pooler.addresses.write
    const clients = await Promise.all(Array.from({ length: 8 }, () => connectOnce(pooler.addresses.write)))
    const ends = clients.map((one) => one.query('select pg_sleep(3600)').catch(() => {}))
    await until(async () => (await sessions(`wait_event = 'PgSleep'`)).length === 5, 'five have a connection')
    const seen = await seenOf('pooler', decodeURIComponent(/host=([^&]*)/.exec(url!)![1]!))
    assert.deepEqual(seen, { active: 8, waiting: { 'a connection to Postgres': 3 } })
    for (const pid of await sessions('true')) await admin.query('select pg_terminate_backend($1)', [pid])
    await pooler.stop()
    await Promise.all(ends)
  })

  it('is unknown of a server that does not run', async () => {
    assert.equal(await (await watchSessions({ name: 'postgres', address: '/nowhere' }))(), undefined)
  })
})
