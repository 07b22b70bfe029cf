import { after, before } from 'node:test'
import { memoryLimiter } from '../../src/primitives/limits/memory.ts'
import { tableLimiter } from '../../src/primitives/limits/table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
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
