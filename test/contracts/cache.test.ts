import { after, before } from 'node:test'
import { notifyBus } from '../../src/primitives/cache/notify.ts'
import { tableLog } from '../../src/primitives/cache/table.ts'
import { runAlone } from '../../src/primitives/data/alone.ts'
import { sql } from '../../src/primitives/data/sql.ts'
import { openNode } from '../support/cache.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { cacheContract } from './cache.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

cacheContract('memory, table, notify', async () => {
  const { database, connection } = await openSystemTables(postgres)
  await runAlone(database, sql`create schema m`)
  await runAlone(database, sql`create table m.thing (name text primary key, version int not null)`)
  const node = () => openNode({ database, log: tableLog(database), bus: notifyBus(database, connection) })
  const nodes = [node(), node()] as const
  return {
    nodes,
    async close() {
      for (const { core } of nodes) await core.close()
      await database.close()
    },
  }
})
