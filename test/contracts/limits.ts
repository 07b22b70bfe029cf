import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import type { Limiter, Quota, Verdict } from '../../src/primitives/limits/contract.ts'
import { until } from '../support/process.ts'

/** Long enough that none of it leaves while a test runs. */
const long = 600_000

export interface LimitersUnderTest {
  limiters: [Limiter, Limiter]
  close(): Promise<void>
  /** Where the store forgets by itself. */
  has?(key: string): Promise<boolean>
  /** Returns the receipt of an admission. By default it is the key and the slot. */
  receiptOf?(key: string, slot: number): unknown
}

/** What every adapter of the limits' contract keeps. `open` returns two that share their store, as two processes do. */
export function limitsContract(name: string, open: () => Promise<LimitersUnderTest>): void {
  describe(`limits contract: ${name}`, () => {
    let limiter: Limiter
    let other: Limiter
    let close = async () => {}
    let has: LimitersUnderTest['has']
    let receiptOf = (key: string, slot: number): unknown => ({ key, slot })
    before(async () => {
      const opened = await open()
      ;[limiter, other] = opened.limiters
      close = opened.close
      has = opened.has
      receiptOf = opened.receiptOf ?? receiptOf
    })
    after(() => close())

    const fresh = (max: number, windowMs = long): Quota => ({ key: randomUUID(), max, windowMs })
    const take = async (quota: Quota, by = limiter): Promise<Verdict> => (await by.take([quota]))[0]!
    const admitted = (verdicts: readonly Verdict[]) => verdicts.filter((verdict) => verdict.admitted).length

    it('admits as many as are allowed, and says how many were', async () => {
      const quota = fresh(3)
      const verdicts = [
        await take(quota),
        await take(quota, other),
        await take(quota),
        await take(quota, other),
        await take(quota),
      ]
      assert.deepEqual(
        verdicts.map((one) => one.admitted),
        [true, true, true, false, false],
      )
      assert.deepEqual(
        verdicts.map(({ used }) => used),
        [1, 2, 3, 3, 3],
      )
      assert.ok(verdicts.every(({ nextMs }) => nextMs > long * 0.9 && nextMs <= long))
    })

    it('admits exactly as many of hundreds that come at once from everywhere', async () => {
      const quota = fresh(100)
      const verdicts = await Promise.all(Array.from({ length: 300 }, (_, n) => take(quota, n % 2 ? limiter : other)))
      assert.equal(admitted(verdicts), 100)
      assert.deepEqual(
        verdicts
          .filter((one) => one.admitted)
          .map(({ used }) => used)
          .sort((a, b) => a - b),
        Array.from({ length: 100 }, (_, n) => n + 1),
      )
    })

    it('answers several quotas in their order, each by itself, also the same one twice', async () => {
      const [a, b] = [fresh(1), fresh(5)]
      const verdicts = await limiter.take([b, a, a, b])
      assert.deepEqual(
        verdicts.map((one) => [one.admitted, one.used]),
        [
          [true, 1],
          [true, 1],
          [false, 1],
          [true, 2],
        ],
      )
    })

    it('never waits in a circle for keys in any order', async () => {
      const asks = Array.from({ length: 8 }, () => fresh(1_000))
      const shuffled = () => [...asks].sort(() => Math.random() - 0.5)
      const rounds = Array.from({ length: 60 }, (_, n) => (n % 2 ? limiter : other).take(shuffled()))
      assert.equal(admitted((await Promise.all(rounds)).flat()), 480)
      assert.equal((await take(asks[0]!)).used, 61)
    })

    it('keeps its promise of when one more comes back, and none comes earlier', async () => {
      const windowMs = 600
      const quota = fresh(2, windowMs)
      await take(quota)
      const began = performance.now()
      await take(quota, other)
      const refused = await take(quota)
      assert.equal(refused.admitted, false)
      assert.ok(refused.nextMs > 0 && refused.nextMs <= windowMs, `${refused.nextMs}`)
      await wait(refused.nextMs + 2)
      assert.equal((await take(quota, other)).admitted, true)
      // The second one counts until its own window has passed.
      if (performance.now() - began < windowMs) assert.equal((await take(quota)).admitted, false)
    })

    it('slides: no window holds more than is allowed, wherever it begins', async () => {
      const [max, windowMs] = [20, 400]
      const quota = fresh(max, windowMs)
      const seen: { from: number; to: number }[] = []
      const ends = performance.now() + windowMs * 5
      const hammer = async (by: Limiter) => {
        while (performance.now() < ends) {
          const from = performance.now()
          const one = await take(quota, by)
          if (one.admitted) seen.push({ from, to: performance.now() })
          else await wait(Math.random() * 20)
        }
      }
      await Promise.all([hammer(limiter), hammer(other), hammer(limiter), hammer(other)])
      for (const { from } of seen) {
        // Those that began and ended in this window were admitted in it, for certain.
        const inside = seen.filter((one) => one.from >= from && one.to <= from + windowMs).length
        assert.ok(inside <= max, `${inside} in one window`)
      }
      assert.ok(seen.length >= max * 4, `only ${seen.length} in five windows`)
    })

    it('takes back', async () => {
      const quota = fresh(2)
      const [first] = [await take(quota), await take(quota, other)]
      assert.equal((await take(quota)).admitted, false)
      await limiter.giveBack([first.receipt])
      assert.deepEqual([(await take(quota)).admitted, (await take(quota)).admitted], [true, false])
      // More than was taken is not given.
      await limiter.giveBack(Array(9).fill(first.receipt))
      assert.equal(admitted([await take(quota), await take(quota), await take(quota), await take(quota)]) <= 2, true)
      await limiter.giveBack([receiptOf(randomUUID(), 1), receiptOf(quota.key, 1)])
    })

    it('follows a limit that is changed', async () => {
      const quota = fresh(1)
      await take(quota)
      assert.equal((await take(quota)).admitted, false)
      assert.equal((await take({ ...quota, max: 3 })).admitted, true)
      const lowered = await take({ ...quota, max: 1 })
      assert.deepEqual([lowered.admitted, lowered.used], [false, 2])
    })

    it('forgets what has left, and only that', async () => {
      const [brief, kept] = [fresh(1, 30), fresh(1)]
      await limiter.take([brief, kept])
      await until(async () => (has ? !(await has(brief.key)) : (await limiter.prune()) >= 1), 'it has left')
      assert.deepEqual([(await take(brief)).used, (await take(kept)).admitted], [1, false])
    })
  })
}
