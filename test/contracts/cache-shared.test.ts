import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { EdgeCache, edgeTag } from '../../src/primitives/cache/edge.ts'
import { nginxEdge } from '../../src/primitives/cache/nginx.ts'
import { openSignals } from '../../src/runtime/wire.ts'
import {
  clusterNodes,
  eventually,
  openNode,
  openNodes,
  openRedisNode,
  openThing,
  redisNodes,
} from '../support/cache.ts'
import { askPage, testPageCache, testUpstream } from '../support/nginx.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { until } from '../support/process.ts'
import { testRedisCluster } from '../support/redis-cluster.ts'
import { cacheContract } from './cache.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

cacheContract('memory and redis, table, signals over redis', () => redisNodes(postgres))

cacheContract('memory and redis in a cluster of three, table, signals over redis', () => clusterNodes(postgres))

test('redis in a cluster: a slot that is given to another node is followed', async () => {
  const cluster = await testRedisCluster()
  const url = cluster.urlBeside('test')
  const under = await openNodes(
    postgres,
    ({ database, log }) => openRedisNode({ database, log, url, bytesMax: 1 }),
    () => cluster.stop(),
  )
  const [one, other] = under.nodes
  const allUp = () => until(() => under.nodes.every(({ shared }) => shared!.up), 'all use the shared layer')
  try {
    const thing = await openThing(one)
    for (let round = 1; round <= 3; round += 1) {
      await allUp()
      await thing.write(one)
      assert.equal(await thing.get(one), round)
      await cluster.moveSlotOf('test')
      assert.equal(await thing.get(one), round)
      await eventually(async () => assert.equal(await thing.get(other), round))
    }
    await allUp()
    // Through the shared layer again, not past it.
    await thing.get(one)
    await thing.get(other, () => Promise.reject(new Error('loaded')))
  } finally {
    await under.close()
  }
})

test('page edge: nginx: what was written is new at the edge when its writer is answered, whichever node the edge asks', async () => {
  const page = { version: 0, tag: edgeTag('m/page') }
  const answers: { cache: string | undefined; version: number }[] = []
  const apps = await Promise.all(
    [0, 1].map((place) =>
      testUpstream(async ({ headers }, response) => {
        const { core, cache } = under.nodes[place as 0 | 1]
        await core.caughtUp(String(headers['x-rung-purges']))
        const version = await cache.get('page', { ttl: '1h', tags: ['page'] }, () => page.version)
        response.setHeader('cache-control', 'public, s-maxage=600')
        response.setHeader('surrogate-key', page.tag)
        response.end(String(version))
      }),
    ),
  )
  const pageCache = await testPageCache(apps.map(({ address }) => address))
  const edge = () => new EdgeCache(nginxEdge(pageCache.server.admin), () => {})
  const under = await openNodes(postgres, async ({ database, connection, log }) =>
    openNode({ database, log, signals: await openSignals(database, async () => connection), edge: edge() }),
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
      // The edge asks either node: the other may not have heard of it yet, but hears that there is something.
      assert.equal(await ask(), round)
    }
    assert.ok(answers.some(({ cache }) => cache === 'HIT'))
  } finally {
    await under.close()
    await pageCache.stop()
    for (const app of apps) await app.close()
  }
})
