import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { placeAt } from '../../../src/kernel/position.ts'
import {
  chooseReplica,
  chooseStale,
  PrimaryHistory,
  parseSnapshot,
  type Standing,
} from '../../../src/primitives/data/freshness.ts'

describe('the history of the primary', () => {
  it('keeps its newest entry, however many come', () => {
    const history = new PrimaryHistory()
    for (let n = 1; n <= 5_000; n += 1) {
      history.add(n, placeAt(1, BigInt(n)))
      assert.equal(history.last, placeAt(1, BigInt(n)))
    }
    // Old ones are fewer, never newer than asked.
    for (const n of [10, 700, 4_321, 5_000]) {
      const at = history.currentAt(placeAt(1, BigInt(n)))
      assert.ok(at === undefined || at <= n)
    }
    assert.equal(history.currentAt(placeAt(1, 5_000n)), 5_000)
  })

  it('tells since when a replica shows everything, by when the primary was asked', () => {
    const history = new PrimaryHistory()
    history.add(100, placeAt(1, 10n))
    history.add(200, placeAt(1, 20n))
    history.add(300, placeAt(1, 20n)) // nothing was written
    assert.equal(history.currentAt(placeAt(1, 9n)), undefined)
    assert.equal(history.currentAt(placeAt(1, 15n)), 100)
    assert.equal(history.currentAt(placeAt(1, 20n)), 300)
  })

  it('takes a replica for one of the new timeline only past the place where that was first seen', () => {
    const history = new PrimaryHistory()
    history.add(1, placeAt(1, 50n))
    assert.equal(history.placeOf({ timeline: 1, lsn: 10n }), placeAt(1, 10n))
    history.add(2, placeAt(2, 60n))
    assert.equal(history.placeOf({ timeline: 1, lsn: 70n }), undefined, 'it has followed another log')
    assert.equal(history.placeOf({ timeline: 2, lsn: 59n }), undefined, 'it may not have come to the new timeline yet')
    assert.equal(history.placeOf({ timeline: 2, lsn: 60n }), placeAt(2, 60n))
    history.add(3, placeAt(1, 99n))
    assert.equal(history.last, placeAt(2, 60n), 'an old primary that still answers is ignored')
  })
})

describe('the choice of a server', () => {
  const standing = (changes: Partial<Standing>): Standing => ({
    place: placeAt(1, 100n),
    lagMs: 1,
    inRotation: true,
    isSpare: false,
    reads: 0,
    ...changes,
  })

  it('is one that covers the position, with the fewest reads, and the spare one last', () => {
    const [busy, idle, spare] = [standing({ reads: 3 }), standing({ reads: 1 }), standing({ isSpare: true })]
    assert.equal(chooseReplica([busy, idle, spare], placeAt(1, 100n)), idle)
    assert.equal(chooseReplica([standing({ place: placeAt(1, 99n) }), spare], placeAt(1, 100n)), spare)
    assert.equal(chooseReplica([standing({ inRotation: false })], undefined), undefined)
    assert.equal(chooseReplica([standing({ place: undefined })], undefined), undefined)
    const after = standing({ place: placeAt(2, 100n) })
    assert.equal(chooseReplica([after], placeAt(1, 100n)), after)
    assert.equal(chooseReplica([after], placeAt(1, 101n)), undefined)
    // As numbers: F/FFFFFFFF is before 10/0.
    const [small, large] = [placeAt(1, 0xf_ffff_ffffn), placeAt(1, 0x10_0000_0000n)]
    assert.equal(chooseReplica([standing({ place: small })], large), undefined)
  })

  it('of a reader that accepts an age is the one that lags least, also out of rotation', () => {
    const [late, later] = [standing({ lagMs: 900, inRotation: false }), standing({ lagMs: 2_000 })]
    assert.equal(chooseStale([later, late], 1_000), late)
    assert.equal(chooseStale([later, late], 500), undefined)
  })
})

it('a snapshot tells which transactions are open', () => {
  assert.deepEqual(parseSnapshot('10:20:10,14'), { xmax: 20n, open: [10n, 14n] })
  assert.deepEqual(parseSnapshot('20:20:'), { xmax: 20n, open: [] })
})
