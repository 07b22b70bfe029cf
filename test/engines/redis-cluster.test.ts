import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { keyOf, openRedisNodes, type RedisNodes } from '../../src/engines/redis/nodes.ts'
import { slotOf, slotsOf, tagOf } from '../../src/engines/redis/slots.ts'
import { until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { openCluster, type TestRedisCluster, testRedisCluster } from '../support/redis-cluster.ts'

describe('a cluster of Redis', { skip: noRedis }, () => {
  let cluster: TestRedisCluster
  const opened: RedisNodes[] = []
  const open = async (urls: readonly string[]) => {
    const nodes = await openRedisNodes({ urls, nodes: 3, app: 'test', commandTimeoutMs: 5_000 })
    opened.push(nodes)
    return nodes
  }
  before(async () => {
    cluster = await testRedisCluster()
  })
  after(async () => {
    for (const { client } of opened.flat()) client.close()
    await cluster.stop()
  })

  /** The number of the node that has the key, as the cluster says. */
  async function homeOf(key: string): Promise<number> {
    const slot = Number(await cluster.nodes[0]!.tell('CLUSTER', 'KEYSLOT', key))
    assert.equal(slot, slotOf(/^\{(.+)\}/.exec(key)![1]!))
    const lines = String(await cluster.nodes[0]!.tell('CLUSTER', 'NODES')).split('\n')
    const line = lines.find((one) => {
      const [, first, last] = / connected (\d+)-(\d+)$/.exec(one) ?? []
      return Number(first) <= slot && slot <= Number(last)
    })
    const port = Number(/:(\d+)@/.exec(line!)![1])
    return cluster.urls.findIndex((url) => url.endsWith(`:${port}`))
  }
  const keysOf = (nodes: RedisNodes) => nodes.map(({ root }) => `${root}:key`)

  it('divides the slots, and an app has one hash tag on each node', async () => {
    assert.deepEqual(
      [0, 1, 2].map((index) => slotsOf(index, 3)),
      [
        { first: 0, last: 5460 },
        { first: 5461, last: 10_922 },
        { first: 10_923, last: 16_383 },
      ],
    )
    for (const app of ['test', 'shop', 'a-long-name-of-an-app']) {
      for (const index of [0, 1, 2]) assert.equal(await homeOf(`{${tagOf(app, index, 3)}}:key`), index)
    }
    assert.equal(tagOf('shop', 0, 1), 'shop')
  })

  it('is reached through the sockets of its nodes, and from one address: then its answers lead on', async () => {
    const sockets = await openCluster(cluster)
    opened.push(sockets)
    for (const [at, { client }] of sockets.entries()) await client.call('SET', keysOf(sockets)[at]!, at)
    const seed = await open([cluster.urls[1]!])
    for (const [at, { client }] of seed.entries()) {
      const value = await until(() => client.call('GET', keysOf(seed)[at]!).catch(() => undefined), 'it is led on')
      assert.equal(value, String(at))
    }
  })

  it('spreads names evenly', () => {
    const counts = [0, 0, 0]
    const nodes = [{ root: '0' }, { root: '1' }, { root: '2' }] as unknown as RedisNodes
    for (let n = 0; n < 30_000; n += 1) counts[Number(keyOf(nodes, `name ${n}`).key[0])]! += 1
    for (const count of counts) assert.ok(count > 9_700 && count < 10_300, String(counts))
  })

  it('a node whose folder was lost takes its slots back, and the others follow', async () => {
    const [first] = cluster.nodes
    await first!.kill()
    await rm(path.join(first!.dir, 'nodes.conf'))
    await first!.start()
    const id = await first!.tell('CLUSTER', 'MYID')
    for (const { tell } of cluster.nodes) {
      await until(
        async () => new RegExp(`^${id}.* connected 0-5460$`, 'm').test(String(await tell('CLUSTER', 'NODES'))),
        'a node knows who has the slots',
      )
      assert.equal(
        String(await tell('CLUSTER', 'NODES'))
          .trim()
          .split('\n').length,
        3,
        'the earlier one is forgotten',
      )
    }
  })

  it('a slot that another node takes over is found while its own node is dead, by asking the others', async () => {
    const nodes = await open(cluster.urls)
    await until(() => nodes.every(({ client }) => client.isUp), 'all are connected')
    const [{ client, root }] = nodes
    const [dead, ...others] = cluster.nodes
    await dead!.kill()
    const id = String(await others[0]!.tell('CLUSTER', 'MYID'))
    for (const { tell } of others) await tell('CLUSTER', 'SETSLOT', String(slotOf(root.slice(1, -1))), 'NODE', id)
    const value = await until(
      () =>
        client.call('SET', `${root}:key`, 'new').then(
          (answer) => answer === 'OK',
          () => false,
        ),
      'the new place is found',
    )
    assert.equal(value, true)
    assert.equal(await others[0]!.tell('GET', `${root}:key`), 'new')
  })
})

it('a cluster of three becomes one of two: each node takes its new slots', { skip: noRedis }, async () => {
  const three = await testRedisCluster()
  const two = await three.again(2)
  const lines = String(await two.nodes[0]!.tell('CLUSTER', 'NODES'))
  assert.match(lines, /connected 0-8191$/m)
  assert.match(lines, /connected 8192-16383$/m)
  await two.stop()
})
