import { after, before } from 'node:test'
import { notifyBell } from '../../src/primitives/jobs/notify.ts'
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
  const { database, connection } = await openSystemTables(postgres)
  const bell = notifyBell(database, connection)
  return {
    queue: tableQueue(database),
    bell,
    database,
    close: () => bell.close().then(() => database.close()),
  }
})
