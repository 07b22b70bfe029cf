import { after, before } from 'node:test'
import { tableSessions } from '../../src/primitives/sessions/table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
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
