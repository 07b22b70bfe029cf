import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hangs, paceMs, type Silence, silenceAfter } from '../../src/fleet/liveness.ts'

interface Course {
  unresponsiveAfterMs?: number
  /** What the part does at a time. */
  answers(at: number): boolean
  /** By how much a wait of the supervisor is longer than it was meant to be. */
  lateMs?(at: number): number
}

const hour = 3_600_000

/** When a part is taken to hang, on a clock of its own; nothing for an hour without that. */
function hungAt({ unresponsiveAfterMs = 30_000, answers, lateMs = () => 0 }: Course): number | undefined {
  const pace = paceMs(unresponsiveAfterMs)
  let silence: Silence | undefined
  for (let at = 0; at < hour; ) {
    const answered = answers(at)
    const until = at + (answered ? 5 : pace) + lateMs(at)
    silence = silenceAfter(silence, { at, until, answered }, unresponsiveAfterMs)
    if (silence && hangs(silence, unresponsiveAfterMs)) return until
    at = Math.max(until, at + pace)
  }
  return undefined
}

describe('a part that is asked whether it answers', () => {
  it('hangs when it has said nothing for as long as is allowed, and not before', () => {
    assert.equal(hungAt({ answers: () => true }), undefined)
    assert.equal(hungAt({ answers: () => false }), 30_000)
    assert.equal(hungAt({ answers: (at) => at < 60_000 }), 90_000)
    assert.equal(hungAt({ answers: () => false, unresponsiveAfterMs: 3_000 }), 3_000)
    assert.equal(hungAt({ answers: () => false, unresponsiveAfterMs: 600_000 }), 600_000)
  })

  it('is spared by one answer in that time', () => {
    assert.equal(hungAt({ answers: (at) => at % 25_000 === 0 }), undefined)
    assert.equal(hungAt({ answers: (at) => at % 30_000 === 0 }), undefined)
    assert.equal(hungAt({ answers: (at) => at % 60_000 === 0 }), 35_000)
  })

  it('is not blamed for a pause of who asks', () => {
    // A laptop that sleeps for ten minutes, then needs a while for the first answer.
    const asleep = (at: number) => (at === 50_000 ? 600_000 : 0)
    assert.equal(hungAt({ answers: (at) => at < 50_000 || at > 660_000, lateMs: asleep }), undefined)
    // One that is stopped and continued again and again, so that it hears nothing.
    assert.equal(hungAt({ answers: () => false, lateMs: (at) => (at % 4 === 0 ? 10_000 : 0) }), undefined)
    // After the pause the silence begins anew.
    assert.equal(hungAt({ answers: (at) => at < 50_000, lateMs: asleep }), 50_000 + 605_000 + 30_000)
  })

  it('has longer where who asks is slow itself', () => {
    assert.equal(hungAt({ answers: () => false, lateMs: () => 4_000 }), 6 * 9_000)
  })

  it('begins anew where it was not asked for a while', () => {
    const first = silenceAfter(undefined, { at: 0, until: 5_000, answered: false }, 30_000)
    assert.deepEqual(first, { since: 0, until: 5_000, questions: 1 })
    const next = silenceAfter(first, { at: 20_000, until: 25_000, answered: false }, 30_000)
    assert.deepEqual(next, { since: 20_000, until: 25_000, questions: 1 })
  })

  it('does not hang for being refused at once, however often that is', () => {
    let silence: Silence | undefined
    for (let at = 0; at < 29_000; at += 10)
      silence = silenceAfter(silence, { at, until: at + 1, answered: false }, 30_000)
    assert.equal(hangs(silence!, 30_000), false)
  })
})
