import { after, before } from 'node:test'
import { copyMs } from '../../src/primitives/sessions/contract.ts'
import { redisSessions } from '../../src/primitives/sessions/redis.ts'
import { rememberedSessions } from '../../src/primitives/sessions/remembered.ts'
import { tableSessions } from '../../src/primitives/sessions/table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { loneNode, noRedis, patientRedis, testRedis } from '../support/redis.ts'
import { openCluster, testRedisCluster } from '../support/redis-cluster.ts'
import { sessionsContract } from './sessions.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

sessionsContract('table', async () => {
  const { database } = await openSystemTables(postgres)
  return { store: tableSessions(database), other: tableSessions(database), close: () => database.close() }
})

sessionsContract(
  'remembered by each process',
  async () => {
    const { database } = await openSystemTables(postgres)
    const store = () => rememberedSessions(tableSessions(database))
    return { store: store(), other: store(), close: () => database.close() }
  },
  copyMs,
)

if (noRedis === false) {
  sessionsContract('redis over table', async () => {
    const { database } = await openSystemTables(postgres)
    const redis = await testRedis()
    const clients = [await patientRedis(redis.url), await patientRedis(redis.url)] as const
    const [store, other] = clients.map((client) => redisSessions(loneNode(client), tableSessions(database)))
    return {
      store: store!,
      other: other!,
      async close() {
        for (const client of clients) client.close()
        await database.close()
        await redis.stop()
      },
    }
  })

  sessionsContract('redis in a cluster of three, over table', async () => {
    const { database } = await openSystemTables(postgres)
    const cluster = await testRedisCluster()
    const clients = [await openCluster(cluster), await openCluster(cluster)]
    const [store, other] = clients.map((nodes) => redisSessions(nodes, tableSessions(database)))
    return {
      store: store!,
      other: other!,
      async close() {
        for (const { client } of clients.flat()) client.close()
        await database.close()
        await cluster.stop()
      },
    }
  })
}
