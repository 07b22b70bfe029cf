import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { findUnits, joinTraces, listUnits, unitsMax } from '../../src/observe/traces/list.ts'
import { TraceRing } from '../../src/observe/traces/ring.ts'
import { addStep, kept, newUnit, type Step, stepsMax, textCharsMax, type Unit } from '../../src/observe/traces/unit.ts'
import { waterfallOf } from '../../src/observe/traces/waterfall.ts'

const idOf = (n: number) => String(n).padStart(32, 'a')

/** One that began at `n` seconds, in the trace of `n` unless another one is named. */
function unit(n: number, changed: Partial<Unit> = {}, trace = n): Unit {
  const made = newUnit(
    'request',
    `GET /r${n}`,
    'm',
    `00-${idOf(trace)}-${String(n).padStart(16, 'b')}-00`,
    undefined,
    n * 1_000,
  )
  return Object.assign(made, { ms: 5, outcome: '200' }, changed)
}

const step = (changed: Partial<Step> = {}): Step => ({
  ...{ kind: 'statement', name: 'SELECT', text: 'select 1', atMs: 0, ms: 1, waitMs: 0, rows: 1, outcome: undefined },
  ...{ failed: false, count: 1, inLoad: false },
  ...changed,
})

const names = (units: readonly Pick<Unit, 'name'>[]) => units.map(({ name }) => name)

describe('the ring of traces', () => {
  it('keeps the last ones, and failed and slow ones apart from them', () => {
    const ring = new TraceRing({ recentMax: 3, notableMax: 2, bytesMax: 1e9 })
    ring.add(unit(1, { outcome: '500', failed: true }))
    ring.add(unit(2, { ms: 1_000 }))
    for (let n = 3; n < 20; n += 1) ring.add(unit(n))
    assert.deepEqual(names(ring.units), ['GET /r17', 'GET /r18', 'GET /r19', 'GET /r1', 'GET /r2'])
    ring.add(unit(20, { failed: true }))
    assert.deepEqual(names(ring.units).slice(3), ['GET /r2', 'GET /r20'])
  })

  it('keeps at most a thousand by default', () => {
    const ring = new TraceRing()
    for (let n = 0; n < 3_000; n += 1) ring.add(unit(n, { failed: n % 2 === 0 }))
    assert.equal(ring.units.length, 1_000)
  })

  it('wants all for ten minutes after a look, and otherwise one of sixteen by its trace', () => {
    let now = 1e6
    const clock = { ticks: () => now, now: () => now + 5e9 }
    const ring = new TraceRing({ clock })
    const look = (at = ring) => at.answer({ last: 1 }).allSince
    const wanted = () => [...'0123456789abcdef'].filter((digit) => ring.wants(`00-${'a'.repeat(31)}${digit}-x`, now))
    assert.deepEqual(wanted(), ['0'])
    const first = clock.now()
    assert.equal(look(), first)
    assert.equal(wanted().length, 16)
    now += 9 * 60_000
    assert.equal(look(), first, 'it has kept all of them since the first look')
    now += 9 * 60_000
    assert.equal(wanted().length, 16)
    now += 2 * 60_000
    assert.deepEqual(wanted(), ['0'])
    assert.equal(look(), clock.now(), 'it has slept in between')
    const always = new TraceRing({ always: true, clock })
    assert.equal(look(always), 0)
    now += 1e9
    assert.ok(always.wants(`00-${'a'.repeat(32)}-x`, now))
  })

  it('uses so many bytes at most, also where one unit alone has more', () => {
    const ring = new TraceRing({ recentMax: 100, notableMax: 100, bytesMax: 20_000 })
    const large = (n: number, chars: number) => unit(n, { steps: [step({ text: 'x'.repeat(chars) })] })
    for (let n = 1; n <= 20; n += 1) ring.add(large(n, 2_000))
    const left = names(ring.units)
    assert.ok(left.length >= 3 && left.length <= 5, String(left.length))
    assert.equal(left.at(-1), 'GET /r20')
    ring.add(large(21, 50_000))
    assert.deepEqual(ring.units, [])
    ring.add(unit(22))
    assert.deepEqual(names(ring.units), ['GET /r22'])
  })
})

describe('a unit', () => {
  it('keeps so many steps, and counts all', () => {
    const one = unit(1)
    for (let n = 0; n < stepsMax + 7; n += 1) addStep(one, step())
    assert.deepEqual([one.steps.length, one.leftOut, one.statements], [stepsMax, 7, stepsMax + 7])
  })

  it('joins reads of memory that follow each other', () => {
    const one = unit(1)
    const read = (atMs: number, outcome: string, name = 'm/a') =>
      addStep(one, step({ kind: 'cache', name, atMs, ms: 0.5, outcome, text: undefined }))
    read(1, 'loaded')
    for (const at of [2, 3, 4]) read(at, 'memory')
    read(5, 'memory', 'm/b')
    read(6, 'failed', 'm/b')
    assert.deepEqual(
      one.steps.map(({ name, outcome, count, ms }) => [name, outcome, count, ms]),
      [
        ['m/a', 'loaded', 1, 0.5],
        ['m/a', 'memory', 3, 2.5],
        ['m/b', 'memory', 1, 0.5],
        ['m/b', 'failed', 1, 0.5],
      ],
    )
    assert.deepEqual([one.cacheReads, one.cacheHits, one.statements], [6, 4, 0])
  })

  it('keeps so much of a text', () => {
    assert.equal(kept('select 1'), 'select 1')
    assert.equal(kept('ä'.repeat(textCharsMax + 1)), `${'ä'.repeat(textCharsMax)}…`)
  })
})

describe('a list of traces', () => {
  const all = [
    unit(1, { ms: 300 }),
    unit(2, { outcome: '404', name: 'POST /Articles/:slug' }),
    unit(3, { outcome: '503', failed: true }),
    unit(4, { kind: 'job', name: 'mail.send', outcome: 'retry', failed: true }, 1),
  ]
  const list = (query: object) => names(listUnits(all, { last: 10, ...query }))

  it('has what was asked for, the newest first', () => {
    assert.deepEqual(list({}), ['mail.send', 'GET /r3', 'POST /Articles/:slug', 'GET /r1'])
    assert.deepEqual(list({ route: 'article' }), ['POST /Articles/:slug'])
    assert.deepEqual(list({ slowMs: 300 }), ['GET /r1'])
    assert.deepEqual(list({ status: '404' }), ['POST /Articles/:slug'])
    assert.deepEqual(list({ status: '5xx' }), ['GET /r3'])
    assert.deepEqual(list({ status: 'retry' }), ['mail.send'])
    assert.deepEqual(list({ failed: true }), ['mail.send', 'GET /r3'])
    assert.deepEqual(list({ last: 1 }), ['mail.send', 'GET /r1'], 'both of the newest trace')
  })

  it('joins the units of all processes by trace', () => {
    const found = listUnits(all, { last: 10 }).map((one) => ({
      ...one,
      process: one.kind === 'job' ? 'worker-1' : 'web-1',
    }))
    const rows = joinTraces(found, 2)
    assert.deepEqual(
      rows.map(({ traceId, name, process, others }) => [traceId, name, process, others]),
      [
        [idOf(3), 'GET /r3', 'web-1', 0],
        [idOf(2), 'POST /Articles/:slug', 'web-1', 0],
      ],
    )
    assert.deepEqual(joinTraces(found, 3)[2]!.others, 1)
  })

  it('finds a trace by the beginning of its id', () => {
    assert.deepEqual(names(findUnits(all, idOf(1)).units), ['mail.send', 'GET /r1'])
    assert.equal(findUnits(all, 'aaaa').units.length, 4)
    assert.deepEqual(findUnits(all, 'bbbb'), { units: [], leftOut: 0 })
    const many = Array.from({ length: unitsMax + 3 }, (_, n) => unit(n, {}, 7))
    const { units, leftOut } = findUnits(many, idOf(7))
    assert.deepEqual([units.length, leftOut, units[0]!.name], [unitsMax, 3, `GET /r${unitsMax + 2}`])
  })
})

describe('a waterfall', () => {
  it('has no room for the hour that a job waited', () => {
    const request = unit(0, { ms: 30, steps: [step({ atMs: 10, ms: 20, text: 'select\n   1' })] })
    const job = { ...unit(3_600, { kind: 'job', ms: 10 }, 0), parent: request.traceparent }
    const { ms, idleMs, units } = waterfallOf([
      { ...job, process: 'worker-1' },
      { ...request, process: 'web-1' },
    ])
    assert.deepEqual([ms, idleMs], [3_600_010, 3_600_010 - 40])
    assert.deepEqual(
      units.map(({ atMs, from, share }) => [atMs, from, share]),
      [
        [0, 0, 0.75],
        [3_600_000, 0.75, 0.25],
      ],
    )
    assert.equal(units[1]!.parentId, units[0]!.spanId)
    const [select] = units[0]!.steps
    assert.deepEqual([select!.text, select!.from, select!.share], ['select 1', 0.25, 0.5])
  })

  it('stays on its axis where steps outlive their unit, and where nothing took any time', () => {
    const late = unit(0, { ms: 10, steps: [step({ atMs: -1, ms: 50 })] })
    const [drawn] = waterfallOf([{ ...late, process: 'app' }]).units
    assert.deepEqual([drawn!.steps[0]!.from, drawn!.steps[0]!.share], [0, 1])
    const [brief] = waterfallOf([{ ...unit(0, { ms: 0 }), process: 'app' }]).units
    assert.deepEqual([brief!.from, brief!.share], [0, 0])
  })
})
