import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, it } from 'node:test'
import { askProgram } from '../../../src/engines/process/ask-program.ts'
import { alertmanagerRoutes, prometheusRules } from '../../../src/export/alerts.ts'
import { type Minute, minuteFrom, minuteMs, minuteOf } from '../../../src/observe/alerts/evaluate.ts'
import { leavesIn } from '../../../src/observe/alerts/minutes.ts'
import { type OwnedRule, rulesOf } from '../../../src/observe/alerts/owners.ts'
import { type Alert, step, valuesOf } from '../../../src/observe/alerts/step.ts'
import { type Frame, growth, keyOf, nothing, type Snapshot } from '../../../src/observe/record/frame.ts'
import { recordable } from '../../../src/observe/record/snapshot.ts'
import { noPromtool } from '../../support/promtool.ts'

const minutes = 620
const dead = { queue: 'mails.send', state: 'dead' }
const day = 86_400

/** A random number from 0 to 1, the same ones for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 48_271) % 2_147_483_647
    return state / 2_147_483_647
  }
}

/** For each minute 0 (quiet), 1 (between the two thresholds) or 2 (bad), for some minutes each. */
function levels(random: () => number): (0 | 1 | 2)[] {
  const found: (0 | 1 | 2)[] = []
  while (found.length < minutes) {
    const level = Math.floor(random() * 3) as 0 | 1 | 2
    const some = 1 + Math.floor(random() * 40)
    for (let n = 0; n < some; n += 1) found.push(level)
  }
  return found
}

type Counts = Record<string, Record<string, number>>

/** What two processes count minute by minute; the second one is replaced by a third in the middle. */
function worldOf(seed: number): { node: string; snapshots: (Snapshot | undefined)[] }[] {
  const random = randomOf(seed)
  const path = Object.fromEntries(
    ['pool', 'lag', 'errors', 'slow', 'shed', 'loop', 'jobs', 'events', 'dead', 'calls', 'memory', 'archive'].map(
      (name) => [name, levels(random)],
    ),
  ) as Record<string, (0 | 1 | 2)[]>
  const nodes = ['a', 'b', 'c'].map((node) => ({ node, snapshots: [] as (Snapshot | undefined)[] }))
  for (const { node, snapshots } of nodes) {
    const counters: Counts = {}
    const buckets: Record<string, Record<string, Record<string, number>>> = {}
    const add = (metric: string, labels: Record<string, string>, n: number) => {
      counters[metric] ??= {}
      counters[metric][keyOf(labels)] = (counters[metric][keyOf(labels)] ?? 0) + n
    }
    const observe = (metric: string, labels: Record<string, string>, bucket: string, n: number) => {
      buckets[metric] ??= {}
      buckets[metric][keyOf(labels)] ??= Object.fromEntries(bounds.map(([name]) => [name, 0]))
      buckets[metric][keyOf(labels)]![bucket]! += n
    }
    for (let minute = 0; minute < minutes; minute += 1) {
      const isThere = node === 'a' || (node === 'b') === minute < 300
      if (!isThere) {
        snapshots.push(undefined)
        continue
      }
      const isFirst = minute === 0 || (node === 'c' && minute === 300)
      const level = <T>(name: string, values: readonly [T, T, T]): T => values[path[name]![minute]!]
      const n = isFirst ? 0 : 1 // series begin with zero, as Prometheus does not see what came before
      const bad = level('errors', [0, 1, 5])
      for (const module of ['catalog', 'orders', '']) {
        const of = { module, method: 'GET', route: `/${module}`, status: '200' }
        const failing = module === 'orders' ? bad : 0
        const slow = minute < 380 ? '0.05..0.1' : level('slow', ['0.05..0.1', '0.5..1', '0.5..1'])
        observe('http_request_duration_seconds', of, module === 'catalog' ? slow : '0.005..0.01', n * (100 - failing))
        observe('http_request_duration_seconds', { ...of, status: '500' }, '0.005..0.01', n * failing)
      }
      observe('http_request_duration_seconds', { route: '/readyz', status: '503' }, '0.005..0.01', n * 100)
      add('http_shed_total', { priority: 'low' }, n * level('shed', [0, 1, 15]))
      add('nodejs_eventloop_busy_seconds_total', {}, n * (node === 'a' ? 5 : level('loop', [10, 39, 55])))
      for (const [outcome, calls] of [
        ['ok', 100],
        ['failed', level('calls', [0, 8, 80])],
      ] as const)
        observe('outgoing_duration_seconds', { service: 'bank', outcome }, '0.05..0.1', n * calls)
      const total = 1e11
      const free = minute < 450 ? 0.5 * total - minute * 0.001 * total : 0.6 * total + minute * 1e6
      const now = minute * 60
      const gauges: Counts = {
        db_pool_connections: {
          [keyOf({ database: 'main', target: 'read', state: 'max' })]: 10,
          [keyOf({ database: 'main', target: 'read', state: 'busy' })]: node === 'a' ? 1 : level('pool', [2, 7.5, 9.5]),
          [keyOf({ database: 'main', target: 'own', state: 'max' })]: 2,
          [keyOf({ database: 'main', target: 'own', state: 'busy' })]: 2,
        },
        db_server_lag_seconds: {
          [keyOf({ database: 'main', server: 'postgres-2' })]: level('lag', [
            0.1,
            1.5,
            minute % 7 < 3 ? 4 : Number.POSITIVE_INFINITY,
          ]),
        },
        job_oldest_wait_seconds: {
          [keyOf({ queue: 'orders.pay' })]: level('jobs', [0, 100, 900]),
          [keyOf({ queue: 'event:catalog' })]: level('lag', [0, 100, 900]),
        },
        events_oldest_unsent_seconds: { [keyOf({ database: 'main' })]: level('events', [0, 45, 900]) },
        // A queue without jobs has no count.
        jobs: level('dead', [{}, { [keyOf(dead)]: 0 }, { [keyOf(dead)]: 2 }]),
        disk_bytes: { [keyOf({ host: 'h', state: 'free' })]: free, [keyOf({ host: 'h', state: 'all' })]: total },
        machine_memory_bytes: {
          [keyOf({ host: 'h', state: 'free' })]: level('memory', [500, 100, 50]),
          [keyOf({ host: 'h', state: 'all' })]: 1000,
        },
        tls_certificate_end_timestamp_seconds: { '{}': 7 * day + 200 * 60 + (minute < 400 ? 0 : 90 * day) },
        backup_archived_timestamp_seconds: { '{}': now - level('archive', [2, 200, 900]) },
        backup_uploaded_timestamp_seconds: { '{}': minute >= 100 && minute < 250 ? 6_000 : now },
        backup_base_timestamp_seconds: { '{}': minute < 300 ? 150 * 60 - 2 * day : 300 * 60 },
      }
      const histograms = Object.fromEntries(
        Object.entries(buckets).map(([name, byKey]) => [
          name,
          Object.fromEntries(Object.entries(byKey).map(([key, counts]) => [key, { sum: 0, counts: { ...counts } }])),
        ]),
      )
      snapshots.push({ gauges, histograms, counters: structuredClone(counters) })
    }
  }
  return nodes
}

const uppers = ['0.005', '0.01', '0.05', '0.1', '0.25', '0.5', '1', '+Inf']
const bounds = uppers.map((upper, index) => [`${uppers[index - 1] ?? '0'}..${upper}`, upper] as const)

/** What Rung says in each minute. */
function alertsOfRung(rules: readonly OwnedRule[], world: ReturnType<typeof worldOf>): Alert[][] {
  const leaves = leavesIn(rules)
  const before = new Map<string, Snapshot>()
  const seen: Minute[] = []
  let alerts: Alert[] = []
  const byMinute: Alert[][] = []
  for (let minute = 0; minute < minutes; minute += 1) {
    const at = minute * minuteMs
    const frames = world.flatMap(({ node, snapshots }): Frame[] => {
      const now = snapshots[minute]
      if (!now) return []
      const measured = growth(before.get(node) ?? nothing, { ...now, gauges: recordedGauges(now.gauges) })
      before.set(node, now)
      return [{ node, from: at - minuteMs + 5, to: at + 5, ms: minuteMs, ...measured }]
    })
    assert.ok(frames.every((frame) => minuteOf(frame) === at))
    seen.push(minuteFrom(at, frames, leaves))
    alerts = rules.flatMap((rule) => {
      const known = alerts.filter((alert) => alert.rule === rule.name)
      return step(rule, known, valuesOf(rule, seen, at), at).alerts
    })
    byMinute.push(alerts)
  }
  return byMinute
}

function recordedGauges(gauges: Snapshot['gauges']): Snapshot['gauges'] {
  const byKey = (values: Counts[string]) =>
    Object.fromEntries(
      Object.entries(values).flatMap(([key, value]) => {
        const known = recordable(value)
        return known === undefined ? [] : [[key, known]]
      }),
    )
  return Object.fromEntries(Object.entries(gauges).map(([name, values]) => [name, byKey(values)]))
}

const series = (name: string, labels: object) =>
  `${name}{${Object.entries(labels)
    .map(([label, value]) => `${label}=${JSON.stringify(value)}`)
    .join(',')}}`

/** The same series for promtool: a text for each. */
function inputSeries(world: ReturnType<typeof worldOf>): { series: string; values: string }[] {
  const points = new Map<string, (number | undefined)[]>()
  const put = (name: string, key: string, more: object, minute: number, value: number) => {
    const id = series(name, { ...JSON.parse(key), ...more })
    const own = points.get(id) ?? Array(minutes).fill(undefined)
    own[minute] = value
    points.set(id, own)
  }
  for (const { node: instance, snapshots } of world) {
    for (const [minute, snapshot] of snapshots.entries()) {
      for (const kind of ['counters', 'gauges'] as const)
        for (const [name, byKey] of Object.entries(snapshot?.[kind] ?? {}))
          for (const [key, value] of Object.entries(byKey)) put(name, key, { instance }, minute, value)
      for (const [name, byKey] of Object.entries(snapshot?.histograms ?? {})) {
        for (const [key, { counts }] of Object.entries(byKey)) {
          let below = 0
          for (const [bound, le] of bounds) {
            below += counts[bound]!
            put(`${name}_bucket`, key, { instance, le }, minute, below)
          }
          put(`${name}_count`, key, { instance }, minute, below)
        }
      }
    }
  }
  return [...points].map(([name, values]) => ({
    series: name,
    // As Prometheus notes it when a process does not answer any more.
    values: values
      .map(
        (value, minute) =>
          value?.toString().replace('Infinity', 'Inf') ?? (values[minute - 1] === undefined ? '_' : 'stale'),
      )
      .join(' '),
  }))
}

/** Runs promtool or amtool on files that are written for it. */
async function checked(program: string, args: string[], files: Record<string, string>) {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-promtool-'))
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(dir, name), text)
  const { status, stdout, stderr } = askProgram(program, [...args.slice(0, -1), path.join(dir, args.at(-1)!)], {
    timeoutMs: 300_000,
  })
  await rm(dir, { recursive: true, force: true })
  return { status, output: stdout + stderr }
}

const rules = rulesOf({
  name: 'market',
  modules: ['catalog', 'orders'].map((name) => ({ name, owner: `team-${name}` })),
  alerts: {},
})

describe('Prometheus and Rung', { skip: noPromtool }, () => {
  for (const seed of [1, 2, 3]) {
    it(`say the same in each minute of ten hours (world ${seed})`, async () => {
      const world = worldOf(seed)
      const exported = rules.filter(({ recordOnly }) => !recordOnly)
      const byMinute = alertsOfRung(exported, world)
      const tests = byMinute.map((alerts, minute) => ({
        expr: 'ALERTS',
        eval_time: `${minute}m`,
        exp_samples: alerts.map(({ rule, labels, state }) => {
          const known = JSON.parse(labels)
          const { severity } = exported.find(({ name }) => name === rule)!
          const module = known.module ?? /catalog|orders/.exec(known.queue)?.[0]
          const owner = module === undefined ? 'market' : `team-${module}`
          const all = { alertname: rule, alertstate: state, severity, owner, ...known }
          return { labels: series('ALERTS', all), value: 1 }
        }),
      }))
      const test = {
        rule_files: ['rules.yaml'],
        evaluation_interval: '1m',
        tests: [{ interval: '1m', input_series: inputSeries(world), promql_expr_test: tests }],
      }
      const { status, output } = await checked('promtool', ['test', 'rules', 'test.yaml'], {
        'rules.yaml': prometheusRules(rules),
        'test.yaml': JSON.stringify(test),
      })
      assert.equal(status, 0, output.slice(0, 3_000))
      const fired = new Set(byMinute.flat().flatMap(({ rule, state }) => (state === 'firing' ? [rule] : [])))
      if (seed === 1) {
        assert.deepEqual([...fired].sort(), exported.map(({ name }) => name).sort(), 'each rule is tried')
        const ended = [...fired].filter((rule) => !byMinute.at(-1)!.some((alert) => alert.rule === rule))
        assert.ok(ended.length > exported.length / 2, `${ended} have ended`)
      }
    })
  }

  it('notice when a threshold is another one', async () => {
    const world = worldOf(1)
    const exp_samples = alertsOfRung(rules, world)[60]!.map(({ rule }) => ({
      labels: `ALERTS{alertname="${rule}"}`,
      value: 1,
    }))
    const promql_expr_test = [{ expr: 'max by (alertname) (ALERTS)', eval_time: '60m', exp_samples }]
    const test = {
      rule_files: ['rules.yaml'],
      evaluation_interval: '1m',
      tests: [{ interval: '1m', input_series: inputSeries(world), promql_expr_test }],
    }
    const others = rules.map((rule) => (rule.above === undefined ? rule : { ...rule, above: -1, end: -1 }))
    const { status } = await checked('promtool', ['test', 'rules', 'test.yaml'], {
      'rules.yaml': prometheusRules(others),
      'test.yaml': JSON.stringify(test),
    })
    assert.equal(status, 1)
  })

  it('have routes that Alertmanager accepts', async () => {
    const files = { 'alertmanager.yaml': alertmanagerRoutes(['market', 'team-catalog']), webhook: '' }
    const { status, output } = await checked('amtool', ['check-config', 'alertmanager.yaml'], files)
    assert.equal(status, 0, output)
    assert.match(output, /2 receivers/)
  })
})
