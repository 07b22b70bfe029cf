import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import type { InvalidationLog } from '../../src/primitives/cache/contract.ts'
import { EdgeCache, edgeTag } from '../../src/primitives/cache/edge.ts'
import { nginxEdge } from '../../src/primitives/cache/nginx.ts'
import { notifyBus } from '../../src/primitives/cache/notify.ts'
import { tableLog } from '../../src/primitives/cache/table.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { type CacheNode, createThings, openNode, openRedisNode } from '../support/cache.ts'
import { openSystemTables } from '../support/data.ts'
import { askPage, testPageCache, testUpstream } from '../support/nginx.ts'
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

test('page edge: nginx: what was written is new at the edge when its writer is answered, whichever node the edge asks', async () => {
  const page = { version: 0, tag: edgeTag('m/page') }
  const answers: { cache: string | undefined; version: number }[] = []
  const apps = await Promise.all(
    [0, 1].map((place) =>
      testUpstream((_request, response) => {
        void under.nodes[place as 0 | 1].cache
          .get('page', { ttl: '1h', tags: ['page'] }, () => page.version)
          .then((version) => {
            response.setHeader('cache-control', 'public, s-maxage=600')
            response.setHeader('surrogate-key', page.tag)
            response.end(String(version))
          })
      }),
    ),
  )
  const pageCache = await testPageCache(apps.map(({ address }) => address))
  const edge = () => new EdgeCache(nginxEdge(pageCache.server.admin), () => {})
  const under = await openNodes(async ({ database, connection, log }) =>
    openNode({ database, log, bus: notifyBus(database, connection), edge: edge() }),
  )
  const ask = async () => {
    const { headers, body } = await askPage(pageCache.server.url, '/page')
    answers.push({ cache: String(headers['x-cache']), version: Number(body) })
    return Number(body)
  }
  try {
    for (const { core } of under.nodes) await core.open()
    for (let round = 1; round <= 50; round += 1) {
      await ask()
      const writer = under.nodes[round % 2 === 0 ? 0 : 1]!
      await writer.data.write(async (tx) => {
        page.version = round
        tx.invalidate(['page'])
      })
      // The edge asks either node: the other may not have heard of it, and says so to nobody for long.
      for (let attempt = 0; (await ask()) !== round; attempt += 1) assert.ok(attempt < 1_000, 'the old page stays')
      await under.nodes[0].core.look()
      await under.nodes[1].core.look()
      assert.equal(await ask(), round)
    }
    assert.ok(answers.some(({ cache }) => cache === 'HIT'))
  } finally {
    await under.close()
    await pageCache.stop()
    for (const app of apps) await app.close()
  }
})
