import { after, before } from 'node:test'
import { clusterDatabase } from '../../src/primitives/data/cluster.ts'
import { postgresServer } from '../../src/primitives/data/postgres.ts'
import { openPostgres, testLimits } from '../support/data.ts'
import { noPooler, type Pooler, startPooler } from '../support/pgbouncer.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { openScratch } from '../support/process.ts'
import { type Pair, startPair, untilReplicaReads } from '../support/standby.ts'
import { dataContract } from './data.ts'

let postgres: TestPostgres
let pooler: Pooler | undefined
let pair: Pair | undefined
let scratch: Awaited<ReturnType<typeof openScratch>>
before(async () => {
  postgres = await testPostgres()
  scratch = await openScratch()
})
after(async () => {
  await pooler?.stop()
  await pair?.stop()
  await scratch.end()
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
dataContract('a primary and its replica', async () => {
  pair = await startPair(scratch.dir)
  const server = (name: string, connection: Pair['primary']) =>
    postgresServer({ name, connection, limits: testLimits, connectionsMax, idleTimeoutMs: 60_000 })
  const database = clusterDatabase({
    name: 'main',
    servers: [server('postgres', pair.primary), server('postgres-2', pair.standby)],
    lagMsMax: 60_000,
    primaryReadsMax: 2,
  })
  await untilReplicaReads(database)
  return database
})
