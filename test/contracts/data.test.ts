import { after, before } from 'node:test'
import { openPostgres } from '../support/data.ts'
import { noPooler, type Pooler, startPooler } from '../support/pgbouncer.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { dataContract } from './data.ts'

let postgres: TestPostgres
let pooler: Pooler | undefined
before(async () => {
  postgres = await testPostgres()
})
after(async () => {
  await pooler?.stop()
  await postgres.stop()
})

const connectionsMax = { read: 2, write: 2 }
dataContract('postgres', () => openPostgres(postgres, { connectionsMax }))
dataContract(
  'postgres through a transaction pooler',
  async () => {
    const connection = await postgres.createDatabase()
    pooler = await startPooler(connection)
    return openPostgres(postgres, { connection, pooler: pooler.addresses, connectionsMax })
  },
  noPooler,
)
