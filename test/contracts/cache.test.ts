import { after, before } from 'node:test'
import { memoryNodes } from '../support/cache.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { cacheContract } from './cache.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

cacheContract('memory, table, notify', () => memoryNodes(postgres))
