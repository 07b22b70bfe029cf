import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nextStep, type Settled, successorOf } from '../../src/fleet/promotion.ts'
import { seededRandom } from '../../src/kernel/random.ts'

const view = (applied: string[], streaming: Record<string, bigint>, end = 10n) => ({
  end,
  applied,
  streaming: new Map(Object.entries(streaming)),
})

test('the replica with the most log is promoted, the first of equals, and none while one has not answered', () => {
  assert.equal(successorOf(new Map()), undefined)
  assert.equal(successorOf(new Map([['b', 5n]])), 'b')
  assert.equal(successorOf(new Map([['b', 5n], ['c', 7n]])), 'c') // biome-ignore format: one line
  assert.equal(successorOf(new Map([['b', 7n], ['c', 7n]])), 'b') // biome-ignore format: one line
  assert.equal(successorOf(new Map([['b', 7n], ['c', undefined]])), undefined) // biome-ignore format: one line
})

test('replicas are recorded only when they have caught up, and forgotten before commits stop waiting for them', () => {
  assert.deepEqual(nextStep([], view([], { b: 5n }), undefined), { apply: ['b'] })
  const settled = nextStep([], view(['b'], { b: 5n }), undefined)!.settled!
  assert.deepEqual(settled, { names: ['b'], lsn: 10n })
  assert.deepEqual(nextStep([], view(['b'], { b: 9n }, 12n), settled), { settled })
  assert.deepEqual(nextStep([], view(['b'], { b: 10n }, 12n), settled), { record: ['b'] })
  assert.equal(nextStep(['b'], view(['b'], { b: 10n }), settled), undefined)
  assert.deepEqual(nextStep(['b'], view(['b'], {}), settled), { record: [] })
  assert.deepEqual(nextStep([], view(['b'], {}), settled), { apply: [] })
  // One more may acknowledge, so it is recorded first.
  assert.deepEqual(nextStep(['b'], view(['b'], { b: 10n, c: 1n }), settled), { record: ['b', 'c'] })
  assert.deepEqual(nextStep(['b', 'c'], view(['b'], { b: 10n, c: 1n }), settled), { apply: ['b', 'c'] })
})

/**
 * A primary and its replicas as they behave: commits are acknowledged when one of those for which it waits has them, or at once where
 * it waits for none; replicas come, go and lag at any moment. After each event the primary is lost, and what would be promoted has
 * everything that was acknowledged.
 */
test('whenever the primary is lost, the successor has each acknowledged commit', () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = seededRandom(seed)
    const pick = <T>(some: readonly T[]): T => some[Math.floor(random() * some.length)]!
    let end = 0n
    let acknowledged = 0n
    let applied: readonly string[] = []
    let recorded: readonly string[] = []
    let settled: Settled | undefined
    const flushed = new Map<string, bigint>([['b', 0n], ['c', 0n], ['d', 0n]]) // biome-ignore format: one line
    const connected = new Set<string>()
    let promotable = 0
    const acknowledge = () => {
      if (applied.length === 0) acknowledged = end
      for (const name of applied) {
        if (connected.has(name) && flushed.get(name)! > acknowledged) acknowledged = flushed.get(name)!
      }
    }
    for (let turn = 0; turn < 200; turn += 1) {
      const name = pick(['b', 'c', 'd'])
      const event = pick(['commit', 'receive', 'receive', 'come', 'go', 'look', 'look', 'look'] as const)
      if (event === 'commit') end += 1n
      if (event === 'come') connected.add(name)
      if (event === 'go') connected.delete(name)
      if (event === 'receive' && connected.has(name)) flushed.set(name, end)
      acknowledge()
      if (event === 'look') {
        const streaming = new Map([...connected].map((one) => [one, flushed.get(one)!]))
        const step = nextStep(recorded, { end, applied, streaming }, settled)
        settled = step?.settled
        if (step?.record) recorded = step.record
        if (step?.apply) applied = step.apply
        acknowledge()
      }
      const successor = successorOf(new Map(recorded.map((one) => [one, flushed.get(one)!])))
      if (successor === undefined) continue
      promotable += 1
      assert.ok(flushed.get(successor)! >= acknowledged, `seed ${seed}, turn ${turn}: ${successor} lacks a commit`)
    }
    assert.ok(promotable > 0, `seed ${seed}: something was promotable`)
  }
})
