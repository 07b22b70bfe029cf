import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { createRecorder } from '../../../src/history.ts'
import { placeOf } from '../../../src/kernel/spread.ts'
import { assertKept, type CacheNode, eventually, schedule, type Thing } from '../../support/cache.ts'
import { bare, type CacheFleet, openClusterFleet, untilUp, watchThings } from '../../support/cache-fleet.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'
import { noRedis } from '../../support/redis.ts'
import type { TestRedisCluster } from '../../support/redis-cluster.ts'

/** The shared layer on three nodes of Redis, of which some are away. */
describe('a cluster', { skip: noRedis }, () => {
  let postgres: TestPostgres
  let fleet: CacheFleet<TestRedisCluster>
  let nodes: CacheNode[]
  before(async () => {
    postgres = await testPostgres()
  })
  after(() => postgres.stop())
  beforeEach(async () => {
    fleet = await openClusterFleet(postgres)
    nodes = [await fleet.node(), await fleet.node(bare), await fleet.node({ deaf: true })]
    await untilUp(nodes)
  })
  afterEach(() => fleet.close())

  const homeOf = ({ name }: Thing) => placeOf(`m/${name}`, 3)
  const failing = () => Promise.reject(new Error('it is loaded, where another process has it'))

  /** At least two on each node. */
  async function things(): Promise<Thing[]> {
    const all = await fleet.things(24)
    const has = (home: number) => all.filter((thing) => homeOf(thing) === home).length > 1
    while (![0, 1, 2].every(has)) all.push(...(await fleet.things(1)))
    return all
  }

  it('has keys on each node, and none that another node has', async () => {
    for (const thing of await things()) await thing.get(nodes[0]!)
    for (const { tell } of fleet.redis.nodes) {
      const keys = (await tell('KEYS', '*:e:*')) as string[]
      assert.ok(keys.length > 1)
      assert.equal(new Set(keys.map((key) => key.slice(0, key.indexOf('}')))).size, 1)
    }
  })

  it('loses one node after the other under load: no read fails, nobody misses what they wrote, nothing old is shown', async () => {
    const all = await things()
    const recorder = createRecorder()
    const watch = watchThings(all, nodes)
    let ended = false
    let seed = 0
    async function work(): Promise<void> {
      while (!ended) {
        seed += 1
        await schedule(seed, all.slice(seed % 20, (seed % 20) + 4), nodes, recorder)
      }
    }
    async function strike(): Promise<void> {
      for (const [index, redis] of fleet.redis.nodes.entries()) {
        await redis.kill()
        await until(() => nodes.every(({ shared }) => !shared!.nodes[index]!.up), 'it is missed')
        for (const thing of all) watch.wrote(thing, await thing.write(nodes[index]!))
        for (const { shared } of nodes) {
          assert.deepEqual(
            shared!.nodes.map(({ up }) => up),
            [0, 1, 2].map((at) => at !== index),
            'the other nodes are in use',
          )
        }
        await redis.start()
        await untilUp(nodes)
      }
      ended = true
    }
    await Promise.all([strike(), work(), work()])
    assert.ok((await watch.stop()) > 0)
    assertKept(recorder)
    for (const thing of all) {
      const truth = await thing.load(nodes[0]!)
      for (const node of nodes) await eventually(async () => assert.equal(await thing.get(node), truth))
    }
  })

  it('a node that hung, and kept what was invalidated meanwhile, shows nothing of it', async () => {
    const all = await things()
    for (const thing of all) assert.equal(await thing.get(nodes[1]!), 0)
    const [hung] = fleet.redis.nodes
    hung!.hang()
    for (const thing of all) await thing.write(nodes[0]!)
    for (const thing of all) assert.equal(await thing.get(nodes[1]!), 1)
    hung!.goOn()
    await untilUp(nodes)
    for (const thing of all) assert.equal(await thing.get(nodes[1]!), 1)
    // And it is in use again.
    for (const thing of all) assert.equal(await thing.get(nodes[1]!, failing), 1)
  })

  it('the last node that is left serves its keys, and is told of every invalidation', async () => {
    const all = (await things()).filter((thing) => homeOf(thing) === 2)
    await fleet.redis.nodes[0]!.kill()
    await fleet.redis.nodes[1]!.kill()
    for (const thing of all) assert.equal(await thing.get(nodes[1]!), 0)
    for (const thing of all) await thing.write(nodes[0]!)
    for (const thing of all) {
      await eventually(async () => {
        assert.equal(await thing.get(nodes[1]!), 1)
        assert.equal(await thing.get(nodes[1]!, failing), 1) // once it has heard of the write, it has nothing more to tell
      })
    }
  })

  it('whoever spreads over another number of nodes has entries of its own, and misses nothing', async () => {
    const other = await fleet.node({ url: fleet.redis.urls, spread: 1, ...bare })
    await untilUp([other])
    const [thing] = await fleet.things(1)
    assert.deepEqual([await thing!.get(nodes[1]!), await thing!.get(other)], [0, 0])
    await thing!.write(other)
    await eventually(async () => assert.equal(await thing!.get(nodes[1]!), 1))
    await thing!.write(nodes[0]!)
    await eventually(async () => assert.equal(await thing!.get(other), 2))
  })
})
