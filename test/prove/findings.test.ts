import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Outcome, Round } from '../../src/chaos/experiment.ts'
import type { Kind } from '../../src/chaos/fault.ts'
import { faultCalled } from '../../src/chaos/faults.ts'
import type { Operation } from '../../src/history/operation.ts'
import { findingsOf } from '../../src/prove/findings.ts'
import { checkProof, type Proof } from '../../src/prove/proof.ts'
import { faultsOf } from '../../src/prove/run.ts'
import { faultRows } from '../../src/prove/tables.ts'

const endedAt = 20_000
const parts: { name: string; kind: Kind }[] = [
  { name: 'web-1', kind: 'web' },
  { name: 'web-2', kind: 'web' },
  { name: 'balancer', kind: 'balancer' },
  { name: 'postgres', kind: 'primary' },
  { name: 'redis', kind: 'redis' },
]

const never = async () => {}
const note = { name: 'note', keys: () => ['note'], write: never, read: async () => null }
const named: Partial<Proof> = { registers: [note] }

/** A read each 100 ms that takes 10 ms, of a value that was written before; those in `failing` failed. The last look finds it. */
function reads(forMs: number, isFailing: (atMs: number) => boolean = () => false): Operation[] {
  const write: Operation = {
    ...{ id: 0, kind: 'write', session: 'anna', key: 'note', value: 'tea', outcome: 'ok' },
    ...{ beganAt: -20, endedAt: -10 },
  }
  const read = (id: number, beganAt: number): Operation => {
    return { ...write, id, kind: 'read', session: 'ben', beganAt, endedAt: beganAt + 10 }
  }
  const all = Array.from({ length: forMs / 100 }, (_, n): Operation => {
    return { ...read(n + 1, 100 * n), outcome: isFailing(100 * n) ? 'fail' : 'ok' }
  })
  return [write, ...all, { ...read(9_000, 60_000), session: 'last look', fresh: true }]
}

/** Of the last look. */
function look(kind: Operation['kind'], key: string, more: Partial<Operation> = {}): Operation {
  return {
    ...{ id: 9_001, kind, session: 'last look', key, outcome: 'ok' },
    ...{ beganAt: 61_000, endedAt: 61_010, ...more },
  }
}

const findings = (operations: Operation[], rounds: Round[] = [], proof = named, of = parts) =>
  findingsOf({ operations, endedAt, rounds }, of, proof)
const failedOf = ({ promises }: ReturnType<typeof findings>) =>
  promises.find(({ promise }) => promise === 'No read fails that something can answer')!.figure
const heldOf = (operations: Operation[], proof: Partial<Proof>) =>
  findings(operations, [], proof).promises.map(({ promise, held }) => [promise, held])

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
  return { faults: [one], beganAtMs: 1_000, endedAtMs: 3_500, wholeAfterMs: 500, ...more }
}

const isAway = (from: number, to: number) => (at: number) => at >= from && at < to

describe('the findings of a proof', () => {
  it('are held where nobody noticed a fault', () => {
    const found = findings(reads(10_000), [round({})])
    assert.equal(found.held, true)
    assert.deepEqual(found.matrix, { stop: { web: 'fine' } })
    assert.deepEqual(
      found.promises.map(({ promise, held }) => [promise, held]),
      [
        ['A session sees what it wrote and saw', true],
        ['What is acknowledged is never lost', true],
        ['Everything answers in the end', true],
        ['No read fails that something can answer', true],
        ['Reads are answered again soon', true],
        ['Writes are answered again soon', true],
        ['All parts run again after each fault', true],
        ['Each fault took effect', true],
      ],
    )
  })

  it('are not held where a read failed although another process could have answered', () => {
    const operations = reads(10_000, isAway(1_500, 1_600))
    const of = (part: string) => findings(operations, [round({ part })])
    assert.deepEqual(
      [of('web-1').held, failedOf(of('web-1')), of('web-1').matrix.stop],
      [false, '1', { web: 'degraded' }],
    )
    assert.deepEqual([of('balancer').held, failedOf(of('balancer'))], [true, '0'], 'nothing stands in for the balancer')
  })

  it('are not held where a read failed while all parts ran, a while after nothing could stand in', () => {
    const failing = (at: number, part: string) =>
      failedOf(findings(reads(20_000, isAway(at, at + 100)), [round({ part })]))
    assert.deepEqual(
      [failing(500, 'balancer'), failing(8_000, 'balancer'), failing(9_000, 'balancer')],
      ['1', '0', '1'],
    )
    assert.deepEqual([failing(3_600, 'redis'), failing(3_600, 'balancer')], ['1', '0'])
    const { held, anomalies } = findings(reads(1_000, isAway(500, 600)))
    assert.deepEqual([held, anomalies[0]!.text], [false, 'note (read) failed at 0.5 s: no answer'], 'without any fault')
  })

  it('see what is left when two parts are struck, or all web processes are restarted meanwhile', () => {
    const operations = reads(10_000, isAway(1_500, 1_600))
    const failed = (faults: [fault: string, part: string][], of = parts) => {
      const all = faults.flatMap(([fault, part]) => round({ fault, part }).faults)
      return Number(failedOf(findings(operations, [round({}, { faults: all })], named, of)))
    }
    const three = [...parts, { name: 'web-3', kind: 'web' as const }]
    const both: [string, string][] = [
      ['kill', 'web-1'],
      ['freeze', 'web-2'],
    ]
    assert.deepEqual([failed(both), failed(both, three)], [0, 1])
    const rolled: [string, string][] = [
      ['roll', 'balancer'],
      ['stop', 'web-1'],
    ]
    assert.deepEqual([failed(rolled), failed(rolled, three)], [0, 1])
    const servers: [string, string][] = [
      ['stop', 'primary'],
      ['stop', 'replica'],
    ]
    const replica = { name: 'postgres-2', kind: 'replica' as const }
    assert.deepEqual([failed(servers, [...parts, replica]), failed(servers.slice(1), [...parts, replica])], [0, 1])
    const atEdge = (count: number) => parts.slice(0, count).map(({ name }) => ({ name, kind: 'app' as const }))
    assert.deepEqual(
      [failed([['stop', 'web-1']], atEdge(1)), failed([['stop', 'web-1']], atEdge(2))],
      [0, 1],
      'the edge asks the other process too',
    )
  })

  it('count as silent what goes on after the fault, and not what another fault causes', () => {
    const operations = reads(20_000, isAway(1_000, 9_000))
    const alone = findings(operations, [round({ part: 'postgres' })])
    const [first] = alone.faults
    assert.ok(first!.readsSilentMs >= 7_900 && first!.readsSilentMs <= 8_200, String(first!.readsSilentMs))
    assert.deepEqual(
      [first!.downMs, first!.effect, alone.held],
      [2_000, 'error', false],
      '6 s more than the fault itself',
    )
    const other = round({ part: 'redis', fault: 'kill', forMs: 0, fromMs: 4_000, heldMs: 1 }, { beganAtMs: 4_000 })
    const both = findings(operations, [round({ part: 'postgres' }), other])
    assert.ok(both.faults[0]!.readsSilentMs <= 3_100, 'until the next one began')
  })

  it('take the time of two faults that overlap once', () => {
    const { faults } = round({ part: 'postgres' })
    const overlapping = round({ part: 'balancer', fromMs: 2_000, heldMs: 3_000 })
    const pair = round({}, { faults: [...faults, ...overlapping.faults], endedAtMs: 5_500 })
    const found = findings(reads(20_000, isAway(1_000, 10_500)), [pair])
    assert.deepEqual([found.faults[0]!.downMs, found.held], [4_000, false], 'and 5.5 s beyond them')
  })

  it('are not held where nothing is answered any more, or nothing was asked', () => {
    const silent = findings(reads(20_000, isAway(1_000, 20_000)), [round({ part: 'postgres' })])
    assert.deepEqual([silent.held, Math.round(silent.faults[0]!.readsSilentMs / 1_000)], [false, 19])
    assert.equal(findings([], [], {}).held, false)
    const shown = (one: Operation): Operation => ({ ...one, kind: 'list', key: '/', values: [] })
    const pages = findings([...reads(10_000).slice(1, -1).map(shown), look('list', '/')], [round({})], {})
    assert.ok(pages.held && !pages.promises.some(({ promise }) => promise.startsWith('Writes')), 'nothing was written')
  })

  it('are not held where the last look got no answer', () => {
    const operations = reads(1_000)
    const refused = { outcome: 'fail', error: '404 gone' } as const
    const comments = { name: 'comments on', keys: () => ['7'], add: never, list: async () => [] }
    const proof = { ...named, collections: [comments] }
    assert.deepEqual(heldOf([...operations, look('list', 'comments on 7', { fresh: true, ...refused })], proof), [
      ['A session sees what it wrote and saw', true],
      ['What is acknowledged is never lost', false],
      ['Everything answers in the end', false],
      ['No read fails that something can answer', true],
    ])
    const page = findings([...operations, look('list', '/', refused)])
    assert.deepEqual(
      page.promises.map(({ held, figure }) => [held, figure]),
      [
        [true, '0'],
        [true, '0'],
        [false, '1 not'],
        [true, '0'],
      ],
    )
    assert.equal(page.anomalies[0]!.text, '/ (list) did not answer, however often it was asked: 404 gone')
    const again = [...operations, look('list', '/', refused), look('list', '/', { beganAt: 62_000, endedAt: 62_010 })]
    assert.ok(findings(again).held, 'a later try of it was answered')
  })

  it('are not held where nobody knows what came of writes', () => {
    const done = (kind: Operation['kind'], key: string, more: Partial<Operation>): Operation => {
      return { ...look(kind, key, more), session: 'anna', beganAt: 100, endedAt: 110 }
    }
    const failed = { outcome: 'info' } as const
    const once = [{ name: 'order', send: never, effects: async () => [] }]
    const sent = done('send', 'o1', { value: 'made' })
    assert.deepEqual(heldOf([sent, look('effects', 'effects', failed)], { once })[0], [
      'A request with a key has one effect',
      false,
    ])
    assert.ok(findings([sent, look('effects', 'effects', { values: ['o1'] })], [], { once }).held)

    const accounts = { name: 'stock', plan: () => ({}), change: never, levels: async () => ({}) }
    const before = { ...done('levels', 'stock', { fresh: true, amounts: { cups: 5 } }), beganAt: -9, endedAt: -8 }
    const sold = done('change', 'a1', { amounts: { cups: -1 } })
    assert.deepEqual(heldOf([before, sold, look('levels', 'stock', { fresh: true, ...failed })], { accounts })[0], [
      'Amounts neither appear nor vanish',
      false,
    ])
    const after = (cups: number) => look('levels', 'stock', { fresh: true, amounts: { cups } })
    assert.ok(findings([before, sold, after(4)], [], { accounts }).held)
    assert.ok(!findings([before, sold, after(5)], [], { accounts }).held)

    const queue = { name: 'mails', publish: never, effects: async () => [] }
    const published = done('publish', 'm1', { value: 'm1' })
    const drained = (more: Partial<Operation>) => look('drain', 'mails', { session: 'mails', ...more })
    assert.deepEqual(heldOf([published, drained(failed)], { queue })[0], ['Work for later is done, once', false])
    assert.ok(findings([published, drained({ values: ['m1'] })], [], { queue }).held)
  })

  it('are not held where something was named, and nothing of it was checked', () => {
    const once = [{ name: 'order', send: never, effects: async () => [] }]
    const proof = { ...named, once }
    assert.deepEqual(
      findings([...reads(1_000), look('effects', 'effects', { values: [] })], [], proof).promises.filter(
        ({ held }) => !held,
      ),
      [
        {
          promise: 'A request with a key has one effect',
          ...{ checked: '0 answers', figure: '0', target: '0', held: false },
        },
      ],
    )
  })

  it('are not held where no session could do what was named, and say why', () => {
    const refused = { session: 'anna', beganAt: 100, endedAt: 110, outcome: 'fail', error: '400 no key' } as const
    const queue = { name: 'tickets', publish: never, effects: async () => [] }
    const drained = look('drain', 'tickets', { session: 'tickets', values: ['m3'] })
    const touch = look('publish', 'm3', { value: 'm3', beganAt: 60_500, endedAt: 60_510 })
    const all = ['m1', 'm2'].map((value) => look('publish', value, { value, ...refused }))
    const found = findings([...all, touch, drained], [], { queue })
    assert.deepEqual(found.promises[0], {
      promise: 'Work for later is done, once',
      ...{ checked: '1 answers', figure: 'unknown', target: '0', held: false },
    })
    assert.deepEqual(found.anomalies, [
      {
        ...{ promise: 'Work for later is done, once', checker: 'tickets', steps: [] },
        text: 'none of 2 requests succeeded: 400 no key',
      },
    ])
    const failing = all.map((one): Operation => ({ ...one, outcome: 'info' }))
    assert.equal(findings([...failing, { ...drained, values: [] }], [], { queue }).promises[0]!.checked, '0 answers')

    const comments = { name: 'note on', keys: () => ['7'], add: never, list: async () => [] }
    const add = (more: Partial<Operation>) => look('add', 'note on 7', { value: 'c1', ...more })
    const added = add({ value: 'c2', beganAt: 60_500, endedAt: 60_510 })
    const list = look('list', 'note on 7', { fresh: true, values: ['c2'] })
    const proof = { ...named, collections: [comments] }
    const told = findings([...reads(1_000), add(refused), added, list], [], proof)
    assert.deepEqual([told.held, told.anomalies[0]!.checker], [false, 'note on'])
    const one = add({ ...refused, outcome: 'ok', value: 'c3' })
    const both = { ...list, values: ['c2', 'c3'] }
    assert.ok(findings([...reads(1_000), add(refused), one, added, both], [], proof).held)

    const orders = ['order', 'refund'].map((name) => ({ name, send: never, effects: async () => [] }))
    const sent = look('send', 'o0n1', { ...refused, outcome: 'ok', value: 'made' })
    const effects = look('effects', 'effects', { values: ['o0n1'] })
    const once = findings([sent, look('send', 'o1n2', refused), effects], [], { once: orders })
    assert.deepEqual([once.held, once.anomalies[0]!.checker], [false, 'refund'])
  })

  it('are not held where a part stays away, or a fault had no effect', () => {
    const operations = reads(10_000)
    const broken = findings(operations, [round({}, { wholeAfterMs: null })])
    assert.deepEqual([broken.held, broken.matrix.stop], [false, { web: 'error' }])
    const inVain = findings(operations, [round({ error: 'web-1 does not run' })])
    assert.deepEqual([inVain.held, inVain.matrix], [false, {}])
  })

  it('do not take what the app refused for an effect of a fault', () => {
    const effectOf = (error: string) => {
      const more = { session: 'anna', beganAt: 1_500, endedAt: 1_510, outcome: 'fail', error } as const
      return findings([...reads(10_000), look('list', '/', more)], [round({})]).matrix
    }
    assert.deepEqual(effectOf('409 sold out'), { stop: { web: 'fine' } })
    assert.deepEqual(effectOf('503 busy'), { stop: { web: 'degraded' } })
  })

  it('say how long parts took to run again', () => {
    const wholeOf = (wholeAfterMs: number | null) =>
      faultRows(findings(reads(10_000), [round({}, { wholeAfterMs })])).rows[0]!.slice(-2)
    assert.deepEqual([wholeOf(5_700)[0], wholeOf(null)], ['5.7 s', ['no', 'error']])
  })

  it('tell an anomaly in words', () => {
    const [write, ...all] = reads(1_000)
    const operations = [write!, { ...write!, id: 900, value: 'milk', session: 'ben', beganAt: -5, endedAt: -1 }, ...all]
    const { held, anomalies } = findings(operations)
    assert.equal(held, false)
    const [first] = anomalies.filter(({ checker }) => checker === 'read-your-writes')
    assert.match(first!.text, /Session ben read tea of note .* although it had written milk/)
    assert.ok(first!.steps.length >= 2)
  })
})

it('a proof with so few sessions that silence would be chance is refused', () => {
  const proof = { users: async () => [{}], registers: [note] }
  assert.equal(checkProof(proof, 'prove.ts'), proof)
  assert.throws(() => checkProof({ ...proof, rate: 1 }, 'prove.ts'), {
    ...{ code: 'PROOF_INVALID', message: 'prove.ts has the rate 1. It must be at least 3, and at most 100.' },
  })
})

it('a proof that would inject none of the faults it was asked for is refused', () => {
  const options = { seed: 7, faults: [faultCalled('kill')], parts, pairs: false }
  assert.ok(faultsOf({ ...options, forMs: 30_000 }).every(({ atMs, forMs }) => atMs > 5_000 && atMs + forMs <= 15_000))
  assert.ok(faultsOf({ ...options, forMs: 30_000 }).length > 0)
  assert.deepEqual(faultsOf({ ...options, faults: [], forMs: 6_000 }), [], 'of none that was asked for')
  const refused = { code: 'COMMAND_INVALID', message: /No fault would be injected/ }
  assert.throws(() => faultsOf({ ...options, forMs: 6_000 }), refused)
  assert.throws(() => faultsOf({ ...options, faults: [faultCalled('pause-replay')], forMs: 60_000 }), refused)
})
