import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Kind } from '../../src/chaos/fault.ts'
import { checkFit, faultCalled, faults } from '../../src/chaos/faults.ts'
import { type Planned, scheduleOf } from '../../src/chaos/schedule.ts'

const parts: { name: string; kind: Kind }[] = [
  { name: 'balancer', kind: 'balancer' },
  { name: 'web-1', kind: 'web' },
  { name: 'web-2', kind: 'web' },
  { name: 'redis', kind: 'redis' },
  { name: 'nats', kind: 'nats' },
  { name: 'postgres', kind: 'primary' },
  { name: 'postgres-2', kind: 'replica' },
]
const options = { seed: 7, forMs: 600_000, faults, parts, pairs: false }
const kindOf = new Map<string, Kind>([
  ...parts.map(({ name, kind }) => [name, kind] as const),
  ['primary', 'primary'],
  ['replica', 'replica'],
])

describe('a schedule of faults', () => {
  it('is the same for the same seed, whatever the order of the parts, and another one for another seed', () => {
    assert.deepEqual(scheduleOf(options), scheduleOf(options))
    assert.deepEqual(scheduleOf({ ...options, parts: parts.toReversed() }), scheduleOf(options))
    assert.notDeepEqual(scheduleOf({ ...options, seed: 8 }), scheduleOf(options))
  })

  it('names servers of the database by their roles, so that a failover does not change it', () => {
    const after = parts.map((part) =>
      part.kind === 'primary'
        ? { ...part, kind: 'replica' as const }
        : part.kind === 'replica'
          ? { ...part, kind: 'primary' as const }
          : part,
    )
    assert.deepEqual(scheduleOf({ ...options, parts: after }), scheduleOf(options))
  })

  it('has each fault once before any comes again, on parts that it fits, one after the other', () => {
    const all = scheduleOf(options)
    assert.ok(all.length >= 2 * faults.length)
    assert.equal(new Set(all.slice(0, faults.length).map(({ fault }) => fault)).size, faults.length)
    for (const [index, one] of all.entries()) {
      const fault = faultCalled(one.fault)
      assert.ok(fault.on.includes(kindOf.get(one.part)!))
      assert.equal(one.forMs > 0, fault.lasts)
      const before = all[index - 1]
      if (before) assert.ok(one.atMs >= before.atMs + before.forMs + 1_000)
      assert.ok(one.atMs + one.forMs <= options.forMs)
    }
  })

  it('in pairs strikes two parts in each round, the second one while the first is in force', () => {
    const rounds = [...Map.groupBy(scheduleOf({ ...options, pairs: true }), ({ round }) => round).values()]
    assert.ok(rounds.length > 10)
    for (const [first, second] of rounds as [Planned, Planned][]) {
      assert.notEqual(first.part, second.part)
      assert.ok(second.atMs >= first.atMs && second.atMs <= first.atMs + Math.max(first.forMs, 1_000))
    }
  })

  it('is empty where no fault fits', () => {
    assert.deepEqual(scheduleOf({ ...options, faults: [faultCalled('flush')], parts: parts.slice(0, 3) }), [])
    assert.equal(scheduleOf({ ...options, forMs: 900 }).length, 0)
  })

  it('leads away from a part only what Rung has in front of it, as clients cannot be led', () => {
    const balancer = { name: 'balancer', kind: 'balancer' } as const
    const alone = { ...options, faults: [faultCalled('latency')], parts: [balancer] }
    assert.deepEqual(scheduleOf(alone), [])
    assert.notDeepEqual(scheduleOf({ ...alone, parts: [{ ...balancer, front: 'edge' }] }), [])
    assert.throws(() => checkFit(faultCalled('latency'), balancer), /clients connect to it themselves/)
  })
})
