import { after, before } from 'node:test'
import { placeOf } from '../../src/kernel/spread.ts'
import { memoryLimiter } from '../../src/primitives/limits/memory.ts'
import { redisLimiter } from '../../src/primitives/limits/redis.ts'
import { spreadLimiter } from '../../src/primitives/limits/spread.ts'
import { tableLimiter } from '../../src/primitives/limits/table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { loneNode, patientRedis, testRedis } from '../support/redis.ts'
import { openCluster, testRedisCluster } from '../support/redis-cluster.ts'
import { limitsContract } from './limits.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

limitsContract('memory', async () => {
  const limiter = memoryLimiter()
  return { limiters: [limiter, limiter], close: async () => {} }
})

limitsContract('table', async () => {
  const { database } = await openSystemTables(postgres)
  return { limiters: [tableLimiter(database), tableLimiter(database)], close: () => database.close() }
})

limitsContract('redis', async () => {
  const redis = await testRedis()
  const clients = await Promise.all([patientRedis(redis.url), patientRedis(redis.url)])
  return {
    limiters: [redisLimiter(loneNode(clients[0])[0]), redisLimiter(loneNode(clients[1])[0])],
    has: async (key) => (await clients[0].call('EXISTS', `{test}:limits:${key}`)) === 1,
    async close() {
      for (const client of clients) client.close()
      await redis.stop()
    },
  }
})

limitsContract('redis in a cluster of three', async () => {
  const cluster = await testRedisCluster()
  const [one, other] = [await openCluster(cluster), await openCluster(cluster)]
  return {
    limiters: [one, other].map((nodes) => spreadLimiter(nodes.map(redisLimiter))) as [Spread, Spread],
    async has(key) {
      const found = one.map(({ client, root }) => client.call('EXISTS', `${root}:limits:${key}`))
      return (await Promise.all(found)).includes(1)
    },
    receiptOf: (key, slot) => ({ place: placeOf(key, 3), receipt: { key, slot } }),
    async close() {
      for (const { client } of [...one, ...other]) client.close()
      await cluster.stop()
    },
  }
})

type Spread = ReturnType<typeof spreadLimiter>
