import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { seededRandom } from '../../../src/kernel/random.ts'
import { Bounded } from '../../../src/primitives/cache/bounded.ts'
import { Climb } from '../../../src/primitives/cache/climb.ts'
import { Sketch } from '../../../src/primitives/cache/sketch.ts'

/** What an entry with this key and value counts, by a store that holds nothing else. */
function counted(key: string, bytes: number): number {
  const one = new Bounded<number>({ bytesMax: 1e9 })
  one.set(key, 0, bytes)
  return one.bytes
}

describe('a store bounded by bytes', () => {
  it('is as a map that may forget: within its bound, and each value leaves once', () => {
    const key = fc.oneof(fc.integer({ min: 0, max: 40 }).map(String), fc.constantFrom('', 'ключ', '__proto__'))
    const act = fc.oneof(
      { weight: 30, arbitrary: fc.record({ act: fc.constant('get' as const), key }) },
      { weight: 30, arbitrary: fc.record({ act: fc.constant('set' as const), key, bytes: fc.nat({ max: 700 }) }) },
      { weight: 5, arbitrary: fc.record({ act: fc.constantFrom('peek' as const, 'delete' as const), key }) },
      { weight: 1, arbitrary: fc.record({ act: fc.constant('clear' as const), key }) },
    )
    fc.assert(
      fc.property(
        fc.array(act, { maxLength: 400, size: 'max' }),
        fc.constantFrom(0, 1000, 5000, 9000),
        (acts, bytesMax) => {
          const last = new Map<string, { value: number; bytes: number }>()
          const here = new Map<number, string>()
          const store = new Bounded<number>({
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
            } else if (one.act === 'clear') store.clear()
            else if (one.act === 'delete') {
              const known = [...here.values()].includes(one.key)
              assert.equal(store.delete(one.key), known)
              assert.equal(store.peek(one.key), undefined)
            } else {
              const found = store[one.act](one.key)
              assert.equal(found !== undefined, [...here.values()].includes(one.key))
              if (found !== undefined) assert.equal(found, last.get(one.key)?.value)
            }
            assert.ok(store.bytes <= bytesMax)
          })
          const kept = [...store.keys()]
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
    const store = new Bounded<object>({ bytesMax, onLeave: () => (left += 1) })
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
      [...store.keys()].reduce((sum, key) => sum + bytesOf.get(key)!, 0),
    )
    assert.equal(set, left + store.size)
  })

  it('keeps what is used often through a scan', () => {
    const store = new Bounded<number>({ bytesMax: 100 * counted('key000', 100) })
    const read = (key: string) => {
      if (store.get(key) === undefined) store.set(key, 1, 100)
    }
    for (let round = 0; round < 4; round += 1) for (let n = 0; n < 80; n += 1) read(`key${String(n).padStart(3, '0')}`)
    for (let n = 0; n < 400; n += 1) read(`scan${n}`)
    const kept = [...store.keys()].filter((key) => key.startsWith('key')).length
    assert.ok(kept >= 78, `${kept} of 80`)
  })

  it('a new value neither loses nor gains uses, and may have another size', () => {
    const store = new Bounded<number>({ bytesMax: 20 * counted('often', 100) })
    for (let n = 0; n < 10; n += 1) store.get('often')
    store.set('often', 1, 100)
    for (let n = 0; n < 200; n += 1) {
      store.set('often', n, 50 + (n % 100))
      store.get(`once${n}`)
      store.set(`once${n}`, n, 100)
    }
    assert.equal(store.peek('often'), 199)
  })

  it('a large one is not kept, and its older value neither', () => {
    const left: unknown[] = []
    const store = new Bounded<string>({ bytesMax: 8000, onLeave: (key, value) => left.push([key, value]) })
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

  it('who is told may use the store, or throw: it is at rest, and nobody is forgotten', () => {
    const told: string[] = []
    const store = new Bounded<number>({
      bytesMax: 10_000,
      onLeave(key) {
        told.push(key)
        assert.ok(store.bytes <= 10_000)
        if (key === 'again') store.set('instead', 1, 10)
        if (key === 'bad') throw new Error('told')
      },
    })
    for (const key of ['again', 'bad', 'good']) store.set(key, 1, 10)
    assert.throws(() => store.clear(), /told/)
    store.set('next', 1, 10)
    assert.deepEqual(told.sort(), ['again', 'bad', 'good'])
    assert.ok(store.peek('instead') !== undefined || store.peek('next') !== undefined)
  })

  it('lets go of what has left', async () => {
    const { setFlagsFromString } = await import('node:v8')
    const { runInNewContext } = await import('node:vm')
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const store = new Bounded<object>({ bytesMax: 50_000 })
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

describe('the sketch of uses', () => {
  it('counts to 15, and the past fades', () => {
    const sketch = new Sketch(Buffer.from('12345678'))
    const [often, once] = [sketch.hash('often'), sketch.hash('once')]
    for (let n = 0; n < 20; n += 1) sketch.add(often)
    sketch.add(once)
    assert.deepEqual([sketch.estimate(often), sketch.estimate(once)], [15, 1])
    for (let n = 0; n < 300; n += 1) sketch.add(sketch.hash('other'))
    assert.deepEqual([sketch.estimate(often), sketch.estimate(once)], [7, 0])
  })

  it('keeps its counts when it grows, and says too much of few', () => {
    const sketch = new Sketch(Buffer.from('12345678'))
    for (let n = 0; n < 4; n += 1) sketch.add(sketch.hash('before'))
    sketch.fit(10_000)
    assert.equal(sketch.estimate(sketch.hash('before')), 4)
    for (let n = 0; n < 10_000; n += 1) sketch.add(sketch.hash(`key${n}`))
    let wrong = 0
    for (let n = 0; n < 10_000; n += 1) if (sketch.estimate(sketch.hash(`key${n}`)) !== 1) wrong += 1
    assert.ok(wrong < 500, `${wrong} of 10,000`)
  })

  it('hashes by its key, and every character counts', () => {
    const [one, other] = ['12345678', '87654321'].map((key) => new Sketch(Buffer.from(key)))
    assert.notEqual(one!.hash('text'), other!.hash('text'))
    const texts = [
      '',
      '\0',
      '\0\0',
      'a',
      'a\0',
      'ab',
      'ba',
      'abc',
      'abd',
      'aбc',
      'abcd',
      `${'x'.repeat(99)}y`,
      'x'.repeat(100),
    ]
    assert.equal(new Set(texts.map((text) => one!.hash(text))).size, texts.length)
  })
})

describe('the size of the window', () => {
  it('grows while that helps, and goes back when it does not', () => {
    const climb = new Climb()
    for (let period = 0; period < 100; period += 1) climb.next(1000 + 8000 * climb.share, 10_000)
    assert.ok(climb.share > 0.5, `${climb.share}`)
    const shares: number[] = []
    for (let period = 0; period < 300; period += 1) {
      climb.next(5000 - 2000 * climb.share, 10_000)
      shares.push(climb.share)
    }
    assert.ok(shares.slice(100).filter((share) => share < 0.02).length > 160, 'most of the time as small as it may be')
  })
})
