import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, beforeEach, describe, it } from 'node:test'
import { openRedis, type RedisClient } from '../../../src/engines/redis/client.ts'
import { placeOf } from '../../../src/kernel/spread.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { type LimitDecided, limitDecided } from '../../../src/primitives/limits/channels.ts'
import type { Limiter, Quota, Verdict } from '../../../src/primitives/limits/contract.ts'
import { withLocalShare } from '../../../src/primitives/limits/local-share.ts'
import { memoryLimiter } from '../../../src/primitives/limits/memory.ts'
import { redisLimiter } from '../../../src/primitives/limits/redis.ts'
import { spreadLimiter } from '../../../src/primitives/limits/spread.ts'
import { until } from '../../support/process.ts'
import { loneNode, noRedis, type TestRedis, testRedis } from '../../support/redis.ts'
import { openCluster, testRedisCluster } from '../../support/redis-cluster.ts'

const database = {} as Database

describe('limits with Redis that fails', { skip: noRedis }, () => {
  let redis: TestRedis
  let nodes: { limiter: Limiter; client: RedisClient }[] = []
  before(async () => {
    redis = await testRedis()
  })
  after(async () => {
    for (const { client } of nodes) client.close()
    await redis.stop()
  })
  const fresh = (max: number, windowMs = 600_000): Quota => ({ key: randomUUID(), max, windowMs })
  const take = async (quota: Quota, node: number) => (await nodes[node]!.limiter.take([quota]))[0]!

  async function admitted(quota: Quota, times: number): Promise<number> {
    const verdicts = await Promise.all(Array.from({ length: times }, (_, n) => take(quota, n % nodes.length)))
    return verdicts.filter((one) => one.admitted).length
  }

  beforeEach(async () => {
    for (const { client } of nodes) client.close()
    nodes = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const client = await openRedis({ url: redis.url })
        const limiter = withLocalShare(redisLimiter(loneNode(client)[0]), memoryLimiter(), { database, processes: 4 })
        return { limiter, client }
      }),
    )
    await nodes[0]!.client.call('FLUSHALL')
  })

  it('admit a quarter of the limit in each of four processes, and no more than the limit in any window', async () => {
    const told: LimitDecided[] = []
    const listener = (message: unknown) => void told.push(message as LimitDecided)
    limitDecided.subscribe(listener)
    const [used, unused] = [fresh(100), fresh(100)]
    assert.equal(await admitted(used, 40), 40)
    await redis.kill()
    assert.equal(await admitted(unused, 400), 100)
    assert.equal(await admitted(used, 400), 60, 'what was admitted before is not forgotten')
    const one = await take(fresh(100), 0)
    assert.deepEqual([one.admitted, 100 - one.used], [true, 24], 'it says what is left here')
    assert.ok(told.some(({ outcome }) => outcome === 'unavailable'))
    limitDecided.unsubscribe(listener)
    await redis.start()
    await until(() => nodes.every(({ client }) => client.isUp), 'they are connected')
    assert.equal(await admitted(used, 400), 0, 'nor after its return')
    assert.equal(await admitted(unused, 400), 0)
  })

  it('are counted together again when it is back', async () => {
    const windowMs = 300
    await redis.kill()
    assert.equal(await admitted(fresh(8), 100), 8)
    await redis.start()
    // One node alone gets the whole limit, which is more than its share, once a window has passed.
    await until(async () => {
      const quota = fresh(8, windowMs)
      const verdicts = []
      for (let n = 0; n < 9; n += 1) verdicts.push(await take(quota, 0))
      return verdicts.filter((verdict) => verdict.admitted).length === 8
    }, 'the whole limit is there for one node')
  })

  it('make few requests wait for a server that hangs', async () => {
    redis.hang()
    const quota = fresh(1_000)
    const began = performance.now()
    let times = 0
    for (; times < 100; times += 1) await take(quota, 0)
    redis.goOn()
    assert.equal(times, 100)
    assert.ok(performance.now() - began < 100 * 200, 'not every request waits for the time-out')
  })

  it('do not count what was given back', async () => {
    const quota = fresh(4)
    const verdict = await take(quota, 0)
    await nodes[0]!.limiter.giveBack([verdict.receipt])
    assert.equal((await take(quota, 0)).used, 1)
    await redis.kill()
    const other = fresh(4)
    const mine = await take(other, 1)
    assert.equal((await take(other, 1)).admitted, false)
    await nodes[1]!.limiter.giveBack([mine.receipt])
    assert.equal((await take(other, 1)).admitted, true)
    await redis.start()
  })
})

describe('limits on a cluster of three, of which one node is dead', { skip: noRedis }, () => {
  it('admit a share of what was counted there, and all of what is counted elsewhere', async () => {
    const cluster = await testRedisCluster()
    const opened = await Promise.all([openCluster(cluster), openCluster(cluster)])
    const [one, other] = opened.map((nodes) =>
      spreadLimiter(
        nodes.map((node) => withLocalShare(redisLimiter(node), memoryLimiter(), { database, processes: 2 })),
      ),
    ) as [Limiter, Limiter]
    const quotaAt = (home: number): Quota => {
      const quota = { key: randomUUID(), max: 10, windowMs: 600_000 }
      return placeOf(quota.key, 3) === home ? quota : quotaAt(home)
    }
    const all = [0, 1, 2].map(quotaAt)
    const before = await one.take(all)
    assert.deepEqual(
      before.map(({ admitted, used }) => [admitted, used]),
      all.map(() => [true, 1]),
    )
    await cluster.nodes[1]!.kill()
    const admitted = [0, 0, 0]
    for (let n = 0; n < 40; n += 1) {
      const verdicts = await [one, other][n % 2]!.take(all)
      for (const [at, verdict] of verdicts.entries()) admitted[at]! += verdict.admitted ? 1 : 0
    }
    // Of the dead node's: five for each of the two, of which one has used one already.
    assert.deepEqual(admitted, [9, 9, 9])
    const [alone, shared] = [quotaAt(1), quotaAt(2)]
    const byOne: Verdict[][] = []
    for (let n = 0; n < 12; n += 1) byOne.push(await one.take([alone, shared]))
    assert.deepEqual(
      [0, 1].map((at) => byOne.filter((verdicts) => verdicts[at]!.admitted).length),
      [5, 10],
    )
    await one.giveBack(byOne.flat().flatMap(({ receipt }) => receipt ?? []))
    assert.equal((await other.take([shared]))[0]!.used, 1)
    for (const { client } of opened.flat()) client.close()
    await cluster.stop()
  })
})
