import assert from 'node:assert/strict'
import { it } from 'node:test'
import { tellFew } from '../../src/history/tell.ts'
import { checkHistory, counterExample, minimise, type Operation, tell } from '../../src/history.ts'
import { historyOf, soundHistory, type Written } from './histories.ts'

const some = (count: number) => soundHistory(count, { seed: 3 })
const idsOf = (operations: readonly Operation[]) => operations.map(({ id }) => id)

it('what shows something is made smaller until no operation can be left out', () => {
  const wanted = [3, 400, 401, 777]
  const shows = (left: readonly Operation[]) => wanted.every((id) => left.some((one) => one.id === id))
  assert.deepEqual(idsOf(minimise(some(1_000), shows)), wanted)
  assert.equal(minimise(some(64), () => true).length, 1)
  assert.equal(minimise(some(64), (left) => left.length === 64).length, 64)
})

it('the work is bounded, and what is left still shows it', () => {
  let work = 0
  const shows = (left: readonly Operation[]) => {
    work += left.length
    return left.filter(({ id }) => id % 2 === 0 && id < 600).length === 300
  }
  const left = minimise(some(1_000), shows, { workMax: 20_000 })
  assert.ok(work <= 20_000, `${work} operations were looked at`)
  assert.ok(left.length < 1_000)
  assert.ok(shows(left))
})

it('a counter-example tells the same as the whole history, with its times', () => {
  const noise = Array.from({ length: 200 }, (_, n): Written[] => [
    [n, n + 1, { kind: 'write', session: 'noise', key: `other ${n % 7}`, value: n }],
    [n, n + 1, { kind: 'read', session: 'b', key: `other ${n % 7}` }, 'ok', { value: null }],
  ]).flat()
  const lines: Written[] = [
    ...noise,
    [1_000, 1_010, { kind: 'write', session: 'a', key: 'cart', value: 'tea' }],
    [1_020, 1_030, { kind: 'write', session: 'a', key: 'cart', value: 'milk' }, 'info'],
    [1_040, 1_050, { kind: 'read', session: 'c', key: 'cart' }, 'ok', { value: 'milk', node: 'web-1' }],
    [1_060, 1_070, { kind: 'read', session: 'd', key: 'cart', fresh: true }, 'ok', { value: 'tea', node: 'web-2' }],
  ]
  const history = historyOf(lines)
  const { checker, anomalies } = checkHistory(history).find(({ checker }) => checker === 'acknowledged-writes')!
  const few = counterExample(history, { checker, anomaly: anomalies[0]! })
  assert.deepEqual(tell(few, history), [
    '1.000 s to 1.010 s: a writes tea to cart',
    '1.020 s to 1.030 s: a writes milk to cart, outcome unknown',
    '1.040 s to 1.050 s: c reads milk of cart on web-1',
    '1.060 s to 1.070 s: d reads tea of cart from the primary on web-2',
  ])
})

it('amounts are told by what changed the account, and a long story by its beginning and end', () => {
  const by = { session: 'a', key: 'stock' }
  const change = (n: number, amounts: Record<string, number>): Written => [
    ...([10 * n, 10 * n + 1] as const),
    { kind: 'change', session: `visitor ${n}`, key: `a${n}`, amounts },
  ]
  const lines: Written[] = [
    [0, 1, { kind: 'levels', ...by, fresh: true }, 'ok', { amounts: { cup: 5, pot: 0 } }],
    ...Array.from({ length: 2_000 }, (_, n) => change(n + 1, n < 50 ? { cup: 1 } : { pot: 1 })),
    ...Array.from(
      { length: 500 },
      (_, n): Written => [
        ...([10 * n, 10 * n + 1] as const),
        { kind: 'read', session: 'a', key: 'stock' },
        ...(['ok', { value: null }] as const),
      ],
    ),
    [90_000, 90_001, { kind: 'levels', ...by, fresh: true }, 'ok', { amounts: { cup: 54, pot: 1_950 } }],
  ]
  const history = historyOf(lines)
  const { checker, anomalies } = checkHistory(history).find(({ count }) => count > 0)!
  const few = counterExample(history, { checker, anomaly: anomalies[0]! })
  assert.deepEqual([few.length, new Set(few.map(({ kind }) => kind))], [52, new Set(['levels', 'change'])])
  const steps = tellFew(few, history)
  assert.deepEqual([steps.length, steps[10]], [21, '… 32 more in the history'])
  assert.match(steps.at(-1)!, /a looks at stock: cup 54, pot 1950$/)
})

it('all kinds of operations are told in words', () => {
  const by = { session: 'a', key: 'k' }
  const limit = { max: 2, windowMs: 500 }
  const values = Array.from({ length: 10 }, (_, n) => `m${n}`)
  const lines: Written[] = [
    [0, 1, { kind: 'write', ...by, value: 2, basedOn: 1 }, 'ok', { version: 2, node: 'pg-1', token: 3 }],
    [1, 2, { kind: 'read', ...by, cached: true, staleMsMax: 250 }, 'ok', { value: null }],
    [2, 3, { kind: 'read', ...by }, 'info'],
    [3, 4, { kind: 'add', ...by, value: 1 }],
    [4, 5, { kind: 'remove', ...by, value: 1 }, 'fail'],
    [5, 6, { kind: 'list', ...by }, 'ok', { values: [] }],
    [6, 7, { kind: 'send', ...by }, 'ok', { value: 'yes' }],
    [7, 8, { kind: 'effects', ...by }, 'ok', { values }],
    [8, 9, { kind: 'change', ...by, amounts: { cup: 2, pot: -1 } }],
    [9, 10, { kind: 'levels', ...by }, 'ok', { amounts: { cup: 2 } }],
    [10, 11, { kind: 'publish', ...by, value: 'm1' }],
    [11, 12, { kind: 'deliver', ...by, value: 'm1' }, 'fail'],
    [12, 13, { kind: 'drain', ...by }],
    [13, 14, { kind: 'take', ...by, limit }, 'fail'],
    [14, 15, { kind: 'claim', ...by }, 'ok', { token: 7 }],
    [15, Number.POSITIVE_INFINITY, { kind: 'complete', ...by, token: 7 }, 'info'],
  ]
  assert.deepEqual(tell(historyOf(lines)), [
    '0.000 s to 0.001 s: a writes 2 to k as version 2, based on 1 on pg-1 with token 3',
    '0.001 s to 0.002 s: a reads no value of k from the cache, at most 0.25 s old',
    '0.002 s to 0.003 s: a reads k, outcome unknown',
    '0.003 s to 0.004 s: a adds 1 to k',
    '0.004 s to 0.005 s: a removes 1 from k, refused',
    '0.005 s to 0.006 s: a lists k: none',
    '0.006 s to 0.007 s: a sends k, answered with yes',
    '0.007 s to 0.008 s: a looks at the effects: m0, m1, m2, m3, m4, m5, m6, m7 and 2 more',
    '0.008 s to 0.009 s: a changes k: cup +2, pot -1',
    '0.009 s to 0.010 s: a looks at k: cup 2',
    '0.010 s to 0.011 s: a publishes m1 with the key k',
    '0.011 s to 0.012 s: a gets m1 with the key k, refused',
    '0.012 s to 0.013 s: a has no more to do',
    '0.013 s to 0.014 s: a takes one of k, of 2 in 0.5 s, refused',
    '0.014 s to 0.015 s: a claims k with token 7',
    'from 0.015 s: a completes k with token 7, outcome unknown',
  ])
})
