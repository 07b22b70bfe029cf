import { after, before } from 'node:test'
import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import type { InvalidationLog } from '../../src/primitives/cache/contract.ts'
import { notifyBus } from '../../src/primitives/cache/notify.ts'
import { tableLog } from '../../src/primitives/cache/table.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { type CacheNode, createThings, openNode, openRedisNode } from '../support/cache.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { testRedis } from '../support/redis.ts'
import { type CacheUnderTest, cacheContract } from './cache.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

/** Two nodes on a database of their own. */
async function openNodes(
  open: (parts: { database: Database; connection: ConnectionConfig; log: InvalidationLog }) => Promise<CacheNode>,
  close: () => Promise<void> = async () => {},
): Promise<CacheUnderTest> {
  const { database, connection } = await openSystemTables(postgres)
  await createThings(database)
  const log = tableLog(database)
  const nodes = [await open({ database, connection, log }), await open({ database, connection, log })] as const
  return {
    nodes,
    async close() {
      for (const { core } of nodes) await core.close()
      await database.close()
      await close()
    },
  }
}

cacheContract('memory, table, notify', () =>
  openNodes(async ({ database, connection, log }) => openNode({ database, log, bus: notifyBus(database, connection) })),
)

cacheContract('memory and redis, table, redis-bus', async () => {
  const redis = await testRedis()
  return openNodes(
    ({ database, log }) => openRedisNode({ database, log, url: redis.url }),
    () => redis.stop(),
  )
})
