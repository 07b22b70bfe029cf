import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Outcome, Round } from '../../src/chaos/experiment.ts'
import type { Kind } from '../../src/chaos/fault.ts'
import type { Operation } from '../../src/history/operation.ts'
import { findingsOf } from '../../src/prove/findings.ts'

const beganAt = 1_000_000
const endedAt = beganAt + 20_000
const parts: { name: string; kind: Kind }[] = [
  { name: 'web-1', kind: 'web' },
  { name: 'web-2', kind: 'web' },
  { name: 'balancer', kind: 'balancer' },
  { name: 'postgres', kind: 'primary' },
  { name: 'redis', kind: 'redis' },
]

/** A read each 100 ms that takes 10 ms, of a value that was written before; those in `failing` failed. */
function reads(forMs: number, isFailing: (atMs: number) => boolean = () => false): Operation[] {
  const write: Operation = {
    ...{ id: 0, kind: 'write', session: 'anna', key: 'note', value: 'tea', outcome: 'ok' },
    ...{ beganAt: beganAt - 20, endedAt: beganAt - 10 },
  }
  const all = Array.from({ length: forMs / 100 }, (_, n): Operation => {
    const at = beganAt + 100 * n
    const outcome = isFailing(100 * n) ? 'fail' : 'ok'
    return {
      id: n + 1,
      kind: 'read',
      session: 'ben',
      key: 'note',
      value: 'tea',
      outcome,
      beganAt: at,
      endedAt: at + 10,
    }
  })
  return [write, ...all]
}

function round(fault: Partial<Outcome>, more: Partial<Round> = {}): Round {
  const one = {
    round: 1,
    atMs: 1_000,
    fault: 'stop',
    part: 'web-1',
    forMs: 2_000,
    fromMs: 1_000,
    heldMs: 2_000,
    ...fault,
  }
  return { faults: [one], beganAtMs: 1_000, wholeAfterMs: 500, silentMs: 0, ...more }
}

const isAway = (from: number, to: number) => (at: number) => at >= from && at < to

describe('the findings of a proof', () => {
  it('are held where nobody noticed a fault', () => {
    const found = findingsOf({ operations: reads(10_000), beganAt, endedAt, rounds: [round({})] }, parts, {})
    assert.equal(found.held, true)
    assert.deepEqual(found.matrix, { stop: { web: 'fine' } })
    assert.deepEqual(
      found.promises.map(({ promise, held }) => [promise, held]),
      [
        ['A session sees what it wrote and saw', true],
        ['Reads are answered again soon', true],
        ['Writes are answered again soon', true],
        ['No read fails if something can stand in', true],
        ['All parts run again after each fault', true],
        ['Each fault took effect', true],
      ],
    )
  })

  it('are not held where a read failed although another process could have answered', () => {
    const operations = reads(10_000, isAway(1_500, 1_600))
    const of = (part: string) => findingsOf({ operations, beganAt, endedAt, rounds: [round({ part })] }, parts, {})
    assert.deepEqual(
      [of('web-1').held, of('web-1').faults[0]!.readsFailed, of('web-1').matrix.stop],
      [false, 1, { web: 'degraded' }],
    )
    assert.deepEqual(
      [of('balancer').held, of('balancer').faults[0]!.readsFailed],
      [true, 0],
      'nothing stands in for the balancer',
    )
  })

  it('count as silent what goes on after the fault, and not what another fault causes', () => {
    const away = { operations: reads(20_000, isAway(1_000, 9_000)), beganAt, endedAt }
    const alone = findingsOf({ ...away, rounds: [round({ part: 'postgres' })] }, parts, {})
    const [first] = alone.faults
    assert.ok(first!.readsSilentMs >= 7_900 && first!.readsSilentMs <= 8_200, String(first!.readsSilentMs))
    assert.deepEqual(
      [first!.downMs, first!.effect, alone.held],
      [2_000, 'error', false],
      '6 s more than the fault itself',
    )
    const other = round({ part: 'redis', fault: 'kill', forMs: 0, fromMs: 4_000, heldMs: 1 }, { beganAtMs: 4_000 })
    const both = findingsOf({ ...away, rounds: [round({ part: 'postgres' }), other] }, parts, {})
    assert.ok(both.faults[0]!.readsSilentMs <= 3_100, 'until the next one began')
  })

  it('are not held where nothing is answered any more, or nothing was asked', () => {
    const never = findingsOf(
      { operations: reads(20_000, isAway(1_000, 20_000)), beganAt, endedAt, rounds: [round({ part: 'postgres' })] },
      parts,
      {},
    )
    assert.deepEqual([never.held, Math.round(never.faults[0]!.readsSilentMs / 1_000)], [false, 19])
    assert.equal(findingsOf({ operations: [], beganAt, endedAt, rounds: [] }, parts, {}).held, false)
    const read = reads(10_000)
      .slice(1)
      .map((one) => ({ ...one, value: null }))
    const pages = findingsOf({ operations: read, beganAt, endedAt, rounds: [round({})] }, parts, {})
    assert.ok(pages.held && !pages.promises.some(({ promise }) => promise.startsWith('Writes')), 'nothing was written')
  })

  it('are not held where a part stays away, or a fault had no effect', () => {
    const operations = reads(10_000)
    const broken = findingsOf({ operations, beganAt, endedAt, rounds: [round({}, { wholeAfterMs: null })] }, parts, {})
    assert.deepEqual([broken.held, broken.matrix.stop], [false, { web: 'error' }])
    const inVain = findingsOf(
      { operations, beganAt, endedAt, rounds: [round({ error: 'web-1 does not run' })] },
      parts,
      {},
    )
    assert.deepEqual([inVain.held, inVain.matrix], [false, {}])
  })

  it('tell an anomaly in words', () => {
    const [write, ...all] = reads(1_000)
    const operations = [
      write!,
      { ...write!, id: 900, value: 'milk', session: 'ben', beganAt: beganAt - 5, endedAt: beganAt - 1 },
      ...all,
    ]
    const { held, anomalies } = findingsOf({ operations, beganAt, endedAt, rounds: [] }, parts, {})
    assert.equal(held, false)
    assert.equal(anomalies[0]!.checker, 'read-your-writes')
    assert.match(anomalies[0]!.text, /Session ben read tea of note .* although it had written milk/)
    assert.ok(anomalies[0]!.steps.length >= 2)
  })
})
