import { after, before } from 'node:test'
import { tableRecords } from '../../src/primitives/idempotency/table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { idempotencyContract } from './idempotency.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

idempotencyContract('table', async () => {
  const { database } = await openSystemTables(postgres)
  return { records: tableRecords(database), database }
})
