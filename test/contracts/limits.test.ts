import { after, before } from 'node:test'
import { memoryLimiter } from '../../src/primitives/limits/memory.ts'
import { redisLimiter } from '../../src/primitives/limits/redis.ts'
import { tableLimiter } from '../../src/primitives/limits/table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { patientRedis, testRedis } from '../support/redis.ts'
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
    limiters: [redisLimiter(clients[0], 'test'), redisLimiter(clients[1], 'test')],
    has: async (key) => (await clients[0].call('EXISTS', `{test}:limits:${key}`)) === 1,
    async close() {
      for (const client of clients) client.close()
      await redis.stop()
    },
  }
})
