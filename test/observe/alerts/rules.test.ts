import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { evaluate, minuteFrom, minuteMs } from '../../../src/observe/alerts/evaluate.ts'
import { type Expression, leavesOf } from '../../../src/observe/alerts/expression.ts'
import { ownerOf, rulesOf } from '../../../src/observe/alerts/owners.ts'
import { type Rule, rules, windowMinutesMax } from '../../../src/observe/alerts/rules.ts'
import { type Alert, noneIn, step, valuesOf } from '../../../src/observe/alerts/step.ts'
import { messageOf, valueText } from '../../../src/observe/alerts/tell.ts'
import { type Frame, keyOf, nothing } from '../../../src/observe/record/frame.ts'
import { recordedByLook } from '../../../src/observe/record/look.ts'
import { recordedOfEach, recordedOnce } from '../../../src/observe/record/snapshot.ts'

const modules = [
  { name: 'orders', owner: 'sales', runbooks: { 'job-age': 'https://wiki.example.org/jobs' } },
  { name: 'mails', owner: 'post' },
]
const app = { name: 'shop', modules, alerts: {} }

describe('the rules', () => {
  it('end on the safe side of where they begin, and look no further back than is kept', () => {
    for (const { name, above, below, end, value, only = [] } of rules) {
      assert.ok(above === undefined ? end >= below! : end <= above, name)
      assert.ok((above === undefined) !== (below === undefined), name)
      for (const leaf of [value, ...only.map((one) => one.value)].flatMap(leavesOf))
        assert.ok(leaf.minutes <= windowMinutesMax, name)
    }
    assert.equal(new Set(rules.map(({ name }) => name)).size, rules.length)
  })

  it('look at what is recorded', () => {
    const recorded: readonly string[] = [...recordedOfEach, ...recordedOnce, ...recordedByLook]
    const leaves = rules.flatMap(({ value, only = [] }) => [value, ...only.map((one) => one.value)].flatMap(leavesOf))
    const metrics = leaves.map(({ metric }) => metric)
    assert.ok(metrics.length > rules.length)
    assert.deepEqual(
      metrics.filter((metric) => !recorded.includes(metric)),
      [],
    )
  })

  it('have the thresholds of the app, and not those that it mutes', () => {
    const changed = rulesOf({
      ...app,
      alerts: {
        rules: { 'pool-used': { threshold: 0.4 }, 'disk-low': { threshold: 0.3, end: 0.31 }, 'job-age': 'off' },
      },
    })
    const [pool, disk] = ['pool-used', 'disk-low'].map((name) => changed.find((rule) => rule.name === name)!)
    assert.deepEqual([pool!.above, pool!.end, disk!.below, disk!.end], [0.4, 0.35, 0.3, 0.31])
    assert.equal(changed.length, rules.length - 1)
    const dead = rulesOf({ ...app, alerts: { rules: { 'dead-letters': { threshold: 5 } } } })
    assert.deepEqual(
      dead.flatMap(({ name, above, end }) => (name === 'dead-letters' ? [[above, end]] : [])),
      [[5, 5]],
    )
  })

  it('refuse what no rule is, and an end on the wrong side', () => {
    const wrong = [
      { rules: { nothing: 'off' as const } },
      { runbooks: { nothing: 'https://example.org' } },
      { rules: { 'pool-used': { threshold: 0.5, end: 0.6 } } },
      { rules: { 'disk-low': { threshold: 0.5, end: 0.4 } } },
    ]
    for (const alerts of wrong) assert.throws(() => rulesOf({ ...app, alerts }), { code: 'APP_INVALID' })
    assert.throws(
      () => rulesOf({ ...app, modules: [{ ...modules[1]!, runbooks: { nothing: '' } }] }),
      /no alert "nothing"/,
    )
  })

  it('know whose an alert is', () => {
    const [age, dead, errors] = ['job-age', 'dead-letters', 'errors-fast'].map(
      (name) => rulesOf({ ...app, alerts: { owner: 'platform' } }).find((rule) => rule.name === name)!,
    )
    const who = (rule: typeof age, labels: Record<string, string>) => ownerOf(rule!, labels).owner
    assert.equal(who(age, { queue: 'orders.pay' }), 'sales')
    assert.equal(who(age, { queue: 'event:mails' }), 'post')
    assert.equal(who(dead, { queue: 'mails' }), 'post')
    assert.equal(who(dead, { queue: 'orders-old.pay' }), 'platform')
    assert.equal(who(errors, { module: 'orders' }), 'sales')
    assert.equal(who(errors, {}), 'platform')
    assert.equal(ownerOf(age!, { queue: 'orders.pay' }).runbook, 'https://wiki.example.org/jobs')
    assert.equal(ownerOf(age!, { queue: 'mails.send' }).runbook, 'rung alerts runbook job-age')
  })
})

const rule: Rule = {
  ...{ name: 'r', severity: 'page', summary: 's', unit: 'count' },
  value: { metric: 'm', by: [], minutes: 1, take: 'last' },
  ...{ above: 8, end: 5, forMinutes: 2, keepMinutes: 2 },
}

/** The state in each minute: pending, firing, or nothing. */
function states(of: Rule, values: readonly (number | undefined)[]): string {
  let alerts: Alert[] = []
  const found = values.map((value, minute) => {
    const next = step(of, alerts, new Map(value === undefined ? [] : [['{}', value]]), minute * minuteMs)
    alerts = next.alerts
    return `${alerts[0]?.state[0] ?? '-'}${next.changes.map(({ kind }) => (kind === 'fires' ? '!' : '.')).join('')}`
  })
  return found.join(' ')
}

describe('an alert', () => {
  it('fires after its time, and goes on above the second threshold and for some minutes more', () => {
    assert.equal(states(rule, [9, 9, 9, 6, 6, 5, 5, 5, 6]), 'p p f! f f f f -. -')
  })
  it('begins anew where its value was between the thresholds before it fired', () => {
    assert.equal(states(rule, [9, 9, 7, 9, 9, 9]), 'p p - p p f!')
  })
  it('goes on where its value comes back in time', () => {
    assert.equal(states(rule, [9, 9, 9, 1, 6, 1, 1, 1]), 'p p f! f f f f -.')
  })
  it('ends where nothing is measured any more', () => {
    assert.equal(states(rule, [9, 9, 9, undefined, undefined, undefined]), 'p p f! f f -.')
  })
  it('may begin below a value, at once, and end at once', () => {
    const { above: _, ...other } = { ...rule, below: 2, end: 3, forMinutes: 0, keepMinutes: 0 }
    assert.equal(states(other, [2, 1, 2.5, 3, 1]), '- f! f -. f!')
  })
})

describe('a value', () => {
  const frame = (minute: number, measured: Partial<Frame>): Frame => {
    return { node: 'a', from: (minute - 1) * minuteMs, to: minute * minuteMs, ms: minuteMs, ...nothing, ...measured }
  }
  const of = (expression: Expression, frames: readonly Frame[], at: number) => {
    const byMinute = Map.groupBy(frames, ({ to }) => to)
    const minutes = [...byMinute].map(([to, some]) => minuteFrom(to, some, leavesOf(expression)))
    return Object.fromEntries(evaluate(expression, minutes, at * minuteMs))
  }
  const gauge = (value: number) => ({ min: value, max: value, sum: value, count: 1 })

  it('is of the window only, and of what the labels admit', () => {
    const key = (state: string) => keyOf({ state, queue: 'q' })
    const frames = [1, 2, 3, 4].map((n) =>
      frame(n, { gauges: { jobs: { [key('dead')]: gauge(n), [key('other')]: gauge(99) } } }),
    )
    const leaf = { metric: 'jobs', where: { state: 'dead' }, by: ['queue'], minutes: 2 } as const
    const at = (take: 'highest' | 'lowest' | 'mean' | 'last' | 'slope', minute: number) =>
      of({ ...leaf, take }, frames, minute)['{"queue":"q"}']
    assert.deepEqual([at('highest', 3), at('lowest', 3), at('mean', 3), at('last', 3)], [3, 2, 2.5, 3])
    assert.equal(at('slope', 3), 1 / 60)
    assert.equal(at('slope', 1), undefined, 'from one point')
    assert.equal(at('last', 7), undefined, 'too long ago')
  })

  it('is when what shrinks is used up', () => {
    const of2 = (take: 'last' | 'slope') => ({ metric: 'free', by: [], minutes: 5, take }) as const
    const expression = { emptyIn: of2('last'), slope: of2('slope') }
    const falling = [5, 4, 3, 2].map((value, n) => frame(n + 1, { gauges: { free: { '{}': gauge(value) } } }))
    assert.ok(Math.abs(of(expression, falling, 4)['{}']! - 120) < 1e-6)
    const rising = [2, 3, 4, 5].map((value, n) => frame(n + 1, { gauges: { free: { '{}': gauge(value) } } }))
    assert.deepEqual(of(expression, rising, 4), {})
  })
})

it('a statement that became slow is found by its mean time, and one that runs rarely is not', () => {
  const slower = rulesOf(app).find(({ name }) => name === 'statement-slower')!
  const key = (id: string) => keyOf({ database: 'main', id, text: `select ${id}` })
  // As it is looked at: every ten minutes. From 300 on each call takes four times as long.
  const minutes = Array.from({ length: 33 }, (_, n) => {
    const ms = n < 30 ? 10 : 40
    const calls = { [key('often')]: 1_000, [key('rare')]: 2 }
    const seconds = { [key('often')]: ms, [key('rare')]: 0.002 * ms }
    const counters = { db_statement_calls_total: calls, db_statement_seconds_total: seconds }
    const [to, measured] = [n * 10 * minuteMs, { ...nothing, counters }]
    const frames = [{ node: 'a', from: to - minuteMs, to, ms: minuteMs, ...measured }]
    return minuteFrom(to, frames, [slower.value, ...slower.only!.map(({ value }) => value)].flatMap(leavesOf))
  })
  const at = (minute: number) => [...valuesOf(slower, minutes, minute * minuteMs)]
  assert.deepEqual(at(295), [[key('often'), 1]])
  const [[, times]] = at(320) as [[string, number]]
  assert.ok(times > 3 && times < 4, String(times))
})

it('a share is shown as 0 where none of what was counted failed, which is not recorded', () => {
  const fast = rules.find(({ name }) => name === 'errors-fast')!
  const leaves = [fast.value, ...fast.only!.map(({ value }) => value)].flatMap(leavesOf)
  const answers = (counts: Record<string, number>): Frame => {
    const histograms = Object.entries(counts).map(([status, count]) => {
      const labels = { module: 'orders', route: 'GET /orders', status, method: 'GET' }
      return [keyOf(labels), { counts: { 3: count }, sum: count }] as const
    })
    const measured = { ...nothing, histograms: { http_request_duration_seconds: Object.fromEntries(histograms) } }
    return { node: 'a', from: 0, to: minuteMs, ms: minuteMs, ...measured } as Frame
  }
  const noneOf = (frames: readonly Frame[]) => [...noneIn(fast, [minuteFrom(minuteMs, frames, leaves)], minuteMs)]
  assert.deepEqual(noneOf([answers({ 200: 1_000 })]), [[keyOf({ module: 'orders' }), 0]])
  assert.deepEqual(noneOf([answers({ 200: 1_000, 500: 3 })]), [])
  assert.deepEqual(noneOf([]), [])
})

it('the date of the full disk is not told from the trend of some minutes', () => {
  const date = rules.find(({ name }) => name === 'disk-date')!
  const leaves = [date.value, ...date.only!.map(({ value }) => value)].flatMap(leavesOf)
  const minutes = Array.from({ length: 90 }, (_, minute) => {
    const free = 1e9 - minute * 1e6
    const gauges = {
      disk_bytes: { [keyOf({ host: 'h', state: 'free' })]: { min: free, max: free, sum: free, count: 1 } },
    }
    const to = (minute + 1) * minuteMs
    const frame: Frame = { node: 'a', from: to - minuteMs, to, ms: minuteMs, ...nothing, gauges }
    return minuteFrom(to, [frame], leaves)
  })
  const at = (minute: number) => [...valuesOf(date, minutes.slice(0, minute), minute * minuteMs).values()]
  assert.deepEqual(at(60), [])
  const [seconds] = at(61)
  assert.ok(Math.abs(seconds! - 940 * 60) < 60, String(seconds))
})

it('a message names all that has changed in a minute, with owner and runbook', () => {
  const [pool, age] = ['pool-used', 'job-age'].map((name) => rulesOf(app).find((one) => one.name === name)!)
  const alert = (name: string, labels: object, value: number): Alert => ({
    ...{ rule: name, labels: keyOf(labels as never), state: 'firing', since: 0, firedAt: minuteMs, value },
  })
  const { key, subject, text } = messageOf('shop', 2 * minuteMs, [
    {
      kind: 'ends',
      alert: { ...alert('pool-used', { database: 'main' }, 0.6), quietSince: 5 * minuteMs },
      rule: pool!,
    },
    { kind: 'fires', alert: alert('job-age', { queue: 'orders.pay' }, 400), rule: age!, incident: 3 },
  ])
  assert.match(key, /^shop\/1970-01-01T00:02\/[\da-f-]{36}$/)
  assert.equal(subject, 'shop: fires: job-age (orders.pay); ended: pool-used (main)')
  assert.equal(
    text,
    `shop: job-age (orders.pay) fires [page]
Jobs have been waiting for more than five minutes: 6m 40s, since 1970-01-01T00:00Z.
Owner: sales. Runbook: https://wiki.example.org/jobs
Incident 3: rung incidents show 3

shop: pool-used (main) has ended, after 4m 0s.`,
  )
})

it('a value is told in its unit', () => {
  const told = (unit: Rule['unit'], value: number) => valueText({ unit }, value)
  assert.deepEqual(
    [
      told('share', 0.934),
      told('count', 3),
      told('times', 2.44),
      told('seconds', 90),
      told('seconds', 86_400 * 3.5),
      told('seconds', -5),
    ],
    ['93.4 %', '3', '2.4 times', '1m 30s', '3.5 days', '-5.0 s'],
  )
})
