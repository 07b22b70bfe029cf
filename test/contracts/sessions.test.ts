import { randomBytes, randomUUID } from 'node:crypto'
import { after, before } from 'node:test'
import { copiedSessions } from '../../src/primitives/sessions/copied.ts'
import { redisSessionCopies } from '../../src/primitives/sessions/redis.ts'
import { tableSessionEditions, tableSessions } from '../../src/primitives/sessions/table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { until } from '../support/process.ts'
import { patientRedis, testRedis } from '../support/redis.ts'
import { sessionsContract } from './sessions.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

sessionsContract('table', async () => {
  const { database } = await openSystemTables(postgres)
  return { store: tableSessions(database), close: () => database.close() }
})

sessionsContract('redis over table', async () => {
  const { database } = await openSystemTables(postgres)
  const redis = await testRedis()
  const client = await patientRedis(redis.url)
  const table = tableSessions(database)
  let asked = 0
  const find = (digest: Uint8Array) => {
    asked += 1
    return table.find(digest)
  }
  const store = copiedSessions({ ...table, find }, redisSessionCopies(client, 'test'), tableSessionEditions(database))
  const digest = randomBytes(32)
  await store.create({ id: randomUUID(), digest, principal: randomUUID(), plan: undefined, lifetimeMs: 600_000 })
  await until(async () => {
    const before = asked
    return (await store.find(digest)) !== undefined && asked === before
  }, 'copies are used')
  return {
    store,
    async close() {
      client.close()
      await database.close()
      await redis.stop()
    },
  }
})
