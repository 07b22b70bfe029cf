import { after, before } from 'node:test'
import { tableOutbox } from '../../src/primitives/events/table.ts'
import { tableQueue } from '../../src/primitives/jobs/table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { eventsContract } from './events.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

eventsContract('table', async () => {
  const { database } = await openSystemTables(postgres)
  return { outbox: tableOutbox(database), queue: tableQueue(database), database, close: () => database.close() }
})
