import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, beforeEach, describe, it } from 'node:test'
import { openRedis, type RedisClient } from '../../../src/engines/redis/client.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { type LimitDecided, limitDecided } from '../../../src/primitives/limits/channels.ts'
import type { Ask, Limiter } from '../../../src/primitives/limits/contract.ts'
import { countFleet } from '../../../src/primitives/limits/fleet.ts'
import { insured } from '../../../src/primitives/limits/insured.ts'
import { memoryLimiter } from '../../../src/primitives/limits/memory.ts'
import { redisLimiter, redisRollCall } from '../../../src/primitives/limits/redis.ts'
import { until } from '../../support/process.ts'
import { noRedis, type TestRedis, testRedis } from '../../support/redis.ts'

const database = {} as Database

describe('limits with Redis, where it fails', { skip: noRedis }, () => {
  let redis: TestRedis
  let nodes: { limiter: Limiter; client: RedisClient; size(): number }[] = []
  before(async () => {
    redis = await testRedis()
  })
  after(async () => {
    for (const { client } of nodes) client.close()
    await redis.stop()
  })
  const fresh = (max: number, windowMs = 600_000): Ask => ({ key: randomUUID(), max, windowMs })
  const take = async (ask: Ask, node: number) => (await nodes[node]!.limiter.take([ask]))[0]!

  async function admitted(ask: Ask, times: number): Promise<number> {
    const verdicts = await Promise.all(Array.from({ length: times }, (_, n) => take(ask, n % nodes.length)))
    return verdicts.filter((one) => one.admitted).length
  }

  beforeEach(async () => {
    for (const { client } of nodes) client.close()
    nodes = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const client = await openRedis({ url: redis.url })
        const fleet = countFleet(redisRollCall(client, 'test', randomUUID()))
        const limiter = insured(redisLimiter(client, 'test'), memoryLimiter(), { database, fleet })
        return { limiter, client, size: () => fleet.size }
      }),
    )
    await nodes[0]!.client.call('FLUSHALL')
    // The first who calls the roll is alone there; the last one knows all.
    await until(async () => {
      await admitted(fresh(1), 4)
      return nodes.every(({ size }) => size() === 4)
    }, 'all know how many they are')
  })

  it('each of four keeps to a quarter, and no window has more than the limit', async () => {
    const told: LimitDecided[] = []
    const listener = (message: unknown) => void told.push(message as LimitDecided)
    limitDecided.subscribe(listener)
    const [used, unused] = [fresh(100), fresh(100)]
    assert.equal(await admitted(used, 40), 40)
    await redis.kill()
    assert.equal(await admitted(unused, 400), 100)
    assert.equal(await admitted(used, 400), 60, 'what was admitted before is not forgotten')
    const one = await take(fresh(100), 0)
    assert.deepEqual([one.admitted, 100 - one.used], [true, 24], 'it says what is left to who asks here')
    assert.ok(told.some(({ outcome }) => outcome === 'unavailable'))
    limitDecided.unsubscribe(listener)
    await redis.start()
    await until(() => nodes.every(({ client }) => client.isUp), 'they are connected')
    assert.equal(await admitted(used, 400), 0, 'nor after its return')
    assert.equal(await admitted(unused, 400), 0)
  })

  it('uses the shared counts again, on their return', async () => {
    const windowMs = 300
    await redis.kill()
    assert.equal(await admitted(fresh(8), 100), 8)
    await redis.start()
    // One node alone gets the whole limit, which is more than its share, once a window has passed.
    await until(async () => {
      const ask = fresh(8, windowMs)
      const verdicts = []
      for (let n = 0; n < 9; n += 1) verdicts.push(await take(ask, 0))
      return verdicts.filter((verdict) => verdict.admitted).length === 8
    }, 'the whole limit is there for one node')
  })

  it('a server that hangs makes few wait', async () => {
    redis.hang()
    const ask = fresh(1_000)
    const began = performance.now()
    let times = 0
    for (; times < 100; times += 1) await take(ask, 0)
    redis.goOn()
    assert.equal(times, 100)
    assert.ok(performance.now() - began < 100 * 200, 'not every request waits for the time-out')
  })

  it('what was given back counts nowhere', async () => {
    const ask = fresh(4)
    const verdict = await take(ask, 0)
    await nodes[0]!.limiter.giveBack([{ key: ask.key, slot: verdict.slot, ownSlot: verdict.ownSlot }])
    assert.equal((await take(ask, 0)).used, 1)
    await redis.kill()
    const other = fresh(4)
    const mine = await take(other, 1)
    assert.equal((await take(other, 1)).admitted, false)
    await nodes[1]!.limiter.giveBack([{ key: other.key, slot: mine.slot, ownSlot: mine.ownSlot }])
    assert.equal((await take(other, 1)).admitted, true)
    await redis.start()
  })
})

describe('the size of the fleet', () => {
  it('grows at once, and shrinks only when that has been said for a while', async () => {
    let ticks = 0
    let answer: () => Promise<number> = async () => 3
    const fleet = countFleet(() => answer(), { now: () => 0, ticks: () => ticks })
    const asked = async (count: number | undefined, afterMs: number) => {
      ticks += afterMs
      answer = count === undefined ? () => Promise.reject(new Error('gone')) : async () => count
      fleet.seen()
      await new Promise(setImmediate)
      return fleet.size
    }
    assert.equal(fleet.size, 1)
    assert.equal(await asked(3, 0), 3)
    assert.equal(await asked(undefined, 3_600_000), 3)
    assert.equal(await asked(1, 3_000), 3, 'an engine without memory')
    assert.equal(await asked(3, 20_000), 3)
    assert.equal(await asked(2, 20_000), 3)
    assert.equal(await asked(2, 31_000), 2)
    assert.equal(await asked(5, 3_000), 5)
  })
})
