import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { createHistogram } from '../src/load.ts'
import type { Bench } from './run.ts'
import { runCalm } from './support/calm.ts'
import { treeCpuMs } from './support/cpu.ts'
import { sendRequests } from './support/load.ts'
import { end, firstDocument, seed, startNode } from './support/processes.ts'
import { machineFacts, progress, rounded, type Spread, spread, table } from './support/report.ts'
import { logIn, mixOf, requestsOf, sceneOf } from './support/scene.ts'

const articles = 2_000
/** CPU cores of one web process. Four of them leave a core to the generator and to Postgres. */
const nodeCpu = 0.15
const counted = 2_500
/** Before that each node compiles its code: so many requests for each. */
const warmUp = 800
const visitors = 32
/** Arrivals per second for latencies: less than half of what one node carries. */
const calmRate = 20
const calmSeconds = 8
const idleMs = 10_000

interface Setup {
  name: string
  rung: string
  args?: readonly string[]
  env?: Record<string, string>
}

const cpu = (cores: number) => ({ RUNG_NODE_CPU: String(cores) })
const hundred = (web: number, env: Record<string, string>): Omit<Setup, 'name'> => ({
  rung: '100k',
  args: ['--web', String(web)],
  env,
})
/** Both tables, and the split. Caches are off: with them most reads reach neither app nor Postgres. */
const setups: readonly Setup[] = [
  { name: '100k, no quota', ...hundred(3, {}) },
  { name: '100k, no quota, no replicas', ...hundred(3, { RUNG_REPLICAS: '0' }) },
  { name: '1k', rung: '1k', env: cpu(nodeCpu) },
  { name: '100k, web 1', ...hundred(1, cpu(nodeCpu)) },
  { name: '100k, web 4', ...hundred(4, cpu(nodeCpu)) },
  { name: '10k, web 1', rung: '10k', args: ['--web', '1'], env: cpu(nodeCpu) },
  { name: '1k, four times the quota', rung: '1k', env: cpu(4 * nodeCpu) },
]

interface Measured {
  /** Requests per second, as many as 32 visitors get who do not wait between them. */
  perSecond: number
  /** Milliseconds for each request, of everything together, of the web processes, and of the primary, without what they use while nobody asks. */
  cpuMs: number
  webCpuMs: number
  primaryCpuMs: number
  /** At 20 arrivals per second. */
  p50Ms: number
  p95Ms: number
  /** Share of a core, while nobody asks. */
  idle: number
  startMs: number
  stopMs: number
}

/** What each rung carries on one machine, and what it costs. */
const bench: Bench = {
  claim: 'what each rung carries and costs, with an equal CPU quota for each node and with an equal total',
  async run({ json, rounds = 3 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-ladder-'))
    try {
      const results = new Map<string, Measured[]>(setups.map(({ name }) => [name, []]))
      // The first start of each makes its folders, the seed and the copies of the replicas.
      await measure(dir, setups[0]!, true)
      for (let round = 0; round < rounds; round += 1) {
        for (const setup of round % 2 === 0 ? setups : setups.toReversed()) {
          const one = await measure(dir, setup, false)
          results.get(setup.name)!.push(one)
          progress(
            `${setup.name}: ${JSON.stringify(one, (_key, value) => (typeof value === 'number' ? Number(value.toPrecision(3)) : value))}`,
          )
        }
      }
      const rows = Object.fromEntries([...results].map(([name, all]) => [name, summary(all)]))
      const ratio = (one: string, other: string, what: keyof Measured) =>
        rounded(spread(results.get(one)!.map((value, n) => value[what] / results.get(other)![n]![what])))
      const ratios = {
        fourNodesToOne: ratio('100k, web 4', '100k, web 1', 'perSecond'),
        fourNodesToOneProcessOfEqualTotal: ratio('100k, web 4', '1k, four times the quota', 'perSecond'),
        primaryCpuWithReplicasToWithout: ratio('100k, no quota', '100k, no quota, no replicas', 'primaryCpuMs'),
      }
      if (!json) show(rows, ratios)
      return { claim: bench.claim, facts: machineFacts('18'), nodeCpu, articles, rows, ratios }
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

async function measure(dir: string, { rung, args = [], env = {} }: Setup, first: boolean): Promise<Measured> {
  const began = performance.now()
  const up = startNode(
    [
      '--conditions=rung-source',
      'src/cli/bin.js',
      'up',
      rung,
      'examples/conduit/app.ts',
      '--json',
      '--port',
      '0',
      ...args,
    ],
    { RUNG_DATA: dir, NODE_ENV: 'production', RUNG_CACHE: 'off', LOG_LEVEL: 'error', ...env },
  )
  try {
    const { url, parts } = await firstDocument<{ url: string; parts: { name: string; pid: number }[] }>(up)
    const startMs = performance.now() - began
    if (first) await seed(dir, articles)
    const scene = await sceneOf(dir)
    const requests = mixOf(requestsOf(scene, await logIn(url, scene.viewers.slice(0, 10))))
    const cpuOf = (named: RegExp) =>
      parts.reduce((sum, { name, pid }) => (named.test(name) ? sum + treeCpuMs(pid) : sum), 0)
    const send = (count: number) => sendRequests({ url, requests, count, connections: visitors })
    const figures = () => [cpuOf(/./), cpuOf(/^(web|app|both)/), cpuOf(/^postgres$/)] as const
    const nodes = parts.filter(({ name }) => /^(web|app|both)/.test(name)).length
    if (!first) await send(warmUp * nodes)

    // What everything uses while nobody asks is not the requests'.
    const idleFrom = figures()
    if (!first) await wait(idleMs)
    const idle = figures().map((after, n) => (after - idleFrom[n]!) / idleMs)
    const before = figures()
    const sentAt = performance.now()
    const { failures } = first ? { failures: 0 } : await send(counted)
    if (failures > 0) throw new Error(`${failures} of ${counted} requests failed`)
    const sentMs = performance.now() - sentAt
    const [cpuMs, webCpuMs, primaryCpuMs] = figures().map(
      (after, n) => (after - before[n]! - idle[n]! * sentMs) / counted,
    )

    const calm = { url, requests, rate: calmRate, seconds: calmSeconds }
    const latency = first ? createHistogram() : ((await runCalm(calm))?.all.latency ?? createHistogram())
    const stopsAt = performance.now()
    await end(up)
    return {
      perSecond: (1_000 * counted) / sentMs,
      cpuMs: cpuMs!,
      webCpuMs: webCpuMs!,
      primaryCpuMs: primaryCpuMs!,
      p50Ms: latency.at(0.5),
      p95Ms: latency.at(0.95),
      idle: idle[0]!,
      startMs,
      stopMs: performance.now() - stopsAt,
    }
  } finally {
    await end(up)
  }
}

type Summary = Record<keyof Measured, Spread>

function summary(all: readonly Measured[]): Summary {
  const names = Object.keys(all[0]!) as (keyof Measured)[]
  return Object.fromEntries(names.map((name) => [name, rounded(spread(all.map((one) => one[name])))])) as Summary
}

function show(rows: Record<string, Summary>, ratios: Record<string, Spread>): void {
  const head = ['', 'requests/s', 'CPU ms', '(web)', '(primary)', 'p50 ms', 'p95 ms', 'idle', 'start s', 'stop s']
  const cells = Object.entries(rows).map(([name, row]) => [
    name,
    row.perSecond.median.toFixed(0),
    row.cpuMs.median.toFixed(2),
    `(${row.webCpuMs.median.toFixed(2)})`,
    `(${row.primaryCpuMs.median.toFixed(2)})`,
    row.p50Ms.median.toFixed(1),
    row.p95Ms.median.toFixed(1),
    `${(100 * row.idle.median).toFixed(0)} %`,
    (row.startMs.median / 1_000).toFixed(1),
    (row.stopMs.median / 1_000).toFixed(1),
  ])
  progress(`\n${table([head, ...cells])}\n`)
  for (const [name, { median, least, most }] of Object.entries(ratios))
    progress(`${name}: ${median} (${least} to ${most})`)
}
