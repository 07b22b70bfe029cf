import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { seededRandom } from '../../../src/kernel/random.ts'
import { BoundedMap } from '../../../src/primitives/cache/bounded.ts'
import { UseCounts } from '../../../src/primitives/cache/use-counts.ts'

/** What an entry with this key and value counts, by a store that holds nothing else. */
function counted(key: string, bytes: number): number {
  const one = new BoundedMap<number>({ bytesMax: 1e9 })
  one.set(key, 0, bytes)
  return one.bytes
}

describe('a store bounded by bytes', () => {
  it('is as a map that may forget: within its bound, and each value leaves once', () => {
    const key = fc.oneof(fc.integer({ min: 0, max: 40 }).map(String), fc.constantFrom('', 'ключ', '__proto__'))
    const act = fc.oneof(
      { weight: 30, arbitrary: fc.record({ act: fc.constant('get' as const), key }) },
      { weight: 30, arbitrary: fc.record({ act: fc.constant('set' as const), key, bytes: fc.nat({ max: 700 }) }) },
      { weight: 5, arbitrary: fc.record({ act: fc.constant('delete' as const), key }) },
    )
    fc.assert(
      fc.property(
        fc.array(act, { maxLength: 400, size: 'max' }),
        fc.constantFrom(0, 1000, 8000, 20_000),
        (acts, bytesMax) => {
          const last = new Map<string, { value: number; bytes: number }>()
          const here = new Map<number, string>()
          const store = new BoundedMap<number>({
            bytesMax,
            onLeave(key, value) {
              assert.equal(here.get(value), key, 'a value leaves once, with its key')
              here.delete(value)
            },
          })
          acts.forEach((one, value) => {
            if (one.act === 'set') {
              here.set(value, one.key)
              last.set(one.key, { value, bytes: one.bytes })
              store.set(one.key, value, one.bytes)
            } else if (one.act === 'delete') {
              const known = [...here.values()].includes(one.key)
              assert.equal(store.delete(one.key), known)
              assert.equal(store.get(one.key), undefined)
            } else {
              const found = store.get(one.key)
              assert.equal(found !== undefined, [...here.values()].includes(one.key))
              if (found !== undefined) assert.equal(found, last.get(one.key)?.value)
            }
            assert.ok(store.bytes <= bytesMax)
          })
          const kept = store.survey(1_000).map(({ key }) => key)
          assert.deepEqual([...here.values()].sort(), kept.sort(), 'what has not left is here')
          assert.equal(store.size, kept.length)
          const sum = kept.reduce((bytes, name) => bytes + counted(name, last.get(name)!.bytes), 0)
          assert.equal(store.bytes, sum)
        },
      ),
      { numRuns: 300 },
    )
  })

  it('holds its bound and its sum over many sizes, also while the window changes', () => {
    const random = seededRandom(3)
    const bytesMax = 400_000
    const bytesOf = new Map<string, number>()
    let left = 0
    let set = 0
    const store = new BoundedMap<object>({ bytesMax, onLeave: () => (left += 1) })
    for (let at = 0; at < 200_000; at += 1) {
      // popular ones, then bursts, then popular ones again
      const wanders = at > 60_000 && at < 140_000
      const key = `k${wanders ? Math.floor(at / 4 - random() * 200) : Math.floor(3000 ** random())}`
      if (store.get(key) === undefined || random() < 0.02) {
        const bytes = Math.floor(20_000 ** random())
        bytesOf.set(key, counted(key, bytes))
        store.set(key, {}, bytes)
        set += 1
      }
      if (store.bytes > bytesMax) assert.fail(`${store.bytes} bytes`)
    }
    assert.equal(
      store.bytes,
      store.survey(1_000_000).reduce((sum, { key }) => sum + bytesOf.get(key)!, 0),
    )
    assert.equal(set, left + store.size)
  })

  it('keeps what is used often through a scan', () => {
    const store = new BoundedMap<number>({ bytesMax: 100 * counted('key000', 100) })
    const read = (key: string) => {
      if (store.get(key) === undefined) store.set(key, 1, 100)
    }
    for (let round = 0; round < 4; round += 1) for (let n = 0; n < 50; n += 1) read(`key${String(n).padStart(3, '0')}`)
    for (let n = 0; n < 400; n += 1) read(`scan${n}`)
    const kept = store
      .survey(1_000)
      .map(({ key }) => key)
      .filter((key) => key.startsWith('key')).length
    assert.ok(kept >= 45, `${kept} of 50`)
  })

  it('a new value neither loses nor gains uses, and may have another size', () => {
    const store = new BoundedMap<number>({ bytesMax: 20 * counted('often', 100) })
    for (let n = 0; n < 10; n += 1) store.get('often')
    store.set('often', 1, 100)
    for (let n = 0; n < 200; n += 1) {
      store.set('often', n, 50 + (n % 100))
      store.get(`once${n}`)
      store.set(`once${n}`, n, 100)
    }
    assert.equal(store.get('often'), 199)
  })

  it('a large one is not kept, and its older value neither', () => {
    const left: unknown[] = []
    const store = new BoundedMap<string>({ bytesMax: 8000, onLeave: (key, value) => left.push([key, value]) })
    store.set('a', 'small', 10)
    store.set('a', 'large', 1000)
    assert.equal(store.get('a'), undefined)
    assert.equal(store.bytes, 0)
    assert.deepEqual(left.sort(), [
      ['a', 'large'],
      ['a', 'small'],
    ])
    store.set('a', 'endless', Number.POSITIVE_INFINITY)
    assert.equal(store.size, 0)
    for (const wrong of [-1, Number.NaN]) assert.throws(() => store.set('a', 'wrong', wrong), RangeError)
  })

  it('lets go of what has left', async () => {
    const { setFlagsFromString } = await import('node:v8')
    const { runInNewContext } = await import('node:vm')
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const store = new BoundedMap<object>({ bytesMax: 50_000 })
    const seen = Array.from({ length: 1000 }, (_, n) => {
      const value = { n }
      store.set(`k${n}`, value, 500)
      return new WeakRef(value)
    })
    await new Promise(setImmediate) // a WeakRef holds until the turn ends
    collect()
    assert.equal(seen.filter((one) => one.deref() !== undefined).length, store.size)
  })
})

describe('the counts of uses', () => {
  it('count to 15, and fade', () => {
    const counts = new UseCounts()
    const [often, once] = [counts.hash('often'), counts.hash('once')]
    for (let n = 0; n < 20; n += 1) counts.add(often)
    counts.add(once)
    assert.deepEqual([counts.of(often), counts.of(once)], [15, 1])
    for (let n = 0; n < 1_100; n += 1) counts.add(counts.hash('other'))
    assert.deepEqual([counts.of(often), counts.of(once)], [7, 0])
  })

  it('are kept when the store grows, and are seldom too high', () => {
    const counts = new UseCounts()
    for (let n = 0; n < 4; n += 1) counts.add(counts.hash('before'))
    counts.fit(10_000)
    assert.equal(counts.of(counts.hash('before')), 4)
    for (let n = 0; n < 10_000; n += 1) counts.add(counts.hash(`key${n}`))
    let wrong = 0
    for (let n = 0; n < 10_000; n += 1) if (counts.of(counts.hash(`key${n}`)) !== 1) wrong += 1
    assert.ok(wrong < 500, `${wrong} of 10,000`)
  })
})
