import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, beforeEach, describe, it } from 'node:test'
import { openRedis, type RedisClient } from '../../../src/engines/redis/client.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { type LimitDecided, limitDecided } from '../../../src/primitives/limits/channels.ts'
import type { Limiter, Quota } from '../../../src/primitives/limits/contract.ts'
import { withLocalShare } from '../../../src/primitives/limits/local-share.ts'
import { memoryLimiter } from '../../../src/primitives/limits/memory.ts'
import { redisLimiter } from '../../../src/primitives/limits/redis.ts'
import { until } from '../../support/process.ts'
import { noRedis, type TestRedis, testRedis } from '../../support/redis.ts'

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
        const limiter = withLocalShare(redisLimiter(client, 'test'), memoryLimiter(), { database, processes: 4 })
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
