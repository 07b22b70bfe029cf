import { after, before } from 'node:test'
import { openPostgres } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { dataContract } from './data.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

dataContract('postgres', () => openPostgres(postgres, { connectionsMax: { read: 2, write: 2 } }))
