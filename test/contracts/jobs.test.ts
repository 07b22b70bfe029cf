import { after, before } from 'node:test'
import { tableQueue } from '../../src/primitives/jobs/table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { jobsContract } from './jobs.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

jobsContract('table', async () => {
  const { database } = await openSystemTables(postgres)
  return {
    queue: tableQueue(database),
    database,
    close: () => database.close(),
  }
})
