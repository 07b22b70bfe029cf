import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { seededRandom } from '../src/kernel/random.ts'
import { findLimit, type Limit } from '../src/load/break.ts'
import { summaryOf } from '../src/load/summary.ts'
import type { Bench } from './run.ts'
import { runCalm } from './support/calm.ts'
import { treeCpuMs } from './support/cpu.ts'
import { type LoadRequest, sendRequests } from './support/load.ts'
import { bars } from './support/plot.ts'
import { end, firstDocument, seed, startNode } from './support/processes.ts'
import { machineFacts, progress, table } from './support/report.ts'
import { logIn, sceneOf, traceOf } from './support/scene.ts'

/** 100,000 users. */
const articles = 1_000_000
const image = fileURLToPath(new URL('../docs/images/rungs.svg', import.meta.url))
/** CPU cores of one web process, and of all together where the total is equal. */
const [each, total] = [0.2, 0.6]
const p95Ms = 112
/** At the rate at which `1k` gets this slow, the others are measured. */
const slowP95Ms = 840
const stepSeconds = 10
const firstRate = 20
/** Requests whose cost and caching are counted, after as many others. */
const counted = 5_000
const failing = 0.01

interface Setup {
  name: string
  rung: string
  web: number
  cores: number
}

/** The higher rungs have a page cache, a shared cache, and at `100k` two replicas, whose CPU is not limited. */
const setups: readonly Setup[] = [
  { name: `1k, ${each} cores`, rung: '1k', web: 1, cores: each },
  { name: `10k, 2 × ${each}`, rung: '10k', web: 2, cores: each },
  { name: `100k, 3 × ${each}`, rung: '100k', web: 3, cores: each },
  { name: `1k, ${total} cores`, rung: '1k', web: 1, cores: total },
  { name: `10k, 2 × ${total / 2}`, rung: '10k', web: 2, cores: total / 2 },
]

interface Measured {
  limit: Pick<Limit, 'rate' | 'least' | 'most' | 'throughput'>
  /** Milliseconds at the rate at which `1k` with this quota has a p95 of 840 ms; `undefined` if the generator was late. */
  p95AtSlowRate: number | undefined
  cpuMs: number
  /** Of all reads of the database, those of replicas; `undefined` without any. */
  offPrimary: number | undefined
  /** Of all requests, those that reached no process of the app. */
  byEdge: number
  /** Of all requests to caches of the app, those that loaded nothing. */
  byCaches: number
}

/** The figures of the README. */
const bench: Bench = {
  claim: `what Conduit with 100,000 users and 1,000,000 articles carries at each rung with a p95 of at most ${p95Ms} ms`,
  async run({ json, rounds = 5, data }) {
    const dir = data ?? (await mkdtemp(path.join(tmpdir(), 'rung-bench-rungs-')))
    try {
      const rows: Record<string, Measured> = {}
      /** By the cores of all web processes, or of one. */
      const slowRates = new Map<number, number>()
      for (const setup of setups) {
        const { rung, web, cores } = setup
        const up = startNode(
          [
            ...['--conditions=rung-source', 'src/cli/bin.js', 'up', rung, 'examples/conduit/app.ts', '--json'],
            ...['--port', '0', ...(rung === '1k' ? [] : ['--web', String(web)])],
          ],
          {
            ...{ RUNG_DATA: dir, NODE_ENV: 'production', RUNG_NODE_CPU: String(cores), LOG_LEVEL: 'error' },
            ...{ RUNG_SHEDDING: 'off', RUNG_LIMITS: 'off' },
          },
        )
        try {
          const { url, parts } = await firstDocument<{ url: string; parts: Part[] }>(up)
          if (rows[setup.name] === undefined && rung === '1k') await seed(dir, articles) // once: it finds its own
          const scene = await sceneOf(dir)
          const requests = traceOf(scene, await logIn(url, scene.viewers))
          const slowRate = slowRates.get(cores) ?? slowRates.get(cores * web)
          const one = await measure({ url, requests, parts, rounds, slowRate })
          if (rung === '1k') slowRates.set(cores, one.slowRate)
          rows[setup.name] = one.measured
          progress(`${setup.name}: ${JSON.stringify(one)}`)
        } finally {
          await end(up)
        }
      }
      if (!json) show(rows)
      await bars(
        image,
        `Requests in a second at a p95 of at most ${p95Ms} ms`,
        Object.entries(rows).map(([name, { limit }]) => ({ name, value: Math.round(limit.rate) })),
      )
      return { claim: bench.claim, facts: machineFacts('18'), articles, rows }
    } finally {
      if (!data) await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

interface Part {
  name: string
  pid: number
  address: string
}

interface Measuring {
  url: string
  requests: readonly LoadRequest[]
  parts: readonly Part[]
  rounds: number
  slowRate: number | undefined
}

async function measure({ url, requests, parts, rounds, slowRate }: Measuring) {
  const web = parts.filter(({ name }) => /^(web|app|both)/.test(name))
  /** Each time it goes on where it was, so that no cache gets the same requests again. */
  let sent = 0
  function next(count: number): LoadRequest[] {
    const from = sent % requests.length
    sent += Math.round(count)
    return [...requests.slice(from), ...requests.slice(0, from)]
  }
  const send = (count: number) => sendRequests({ url, requests: next(count), count, connections: 8 * web.length })
  await send(counted) // code is compiled, caches are filled

  const cpu = () => parts.reduce((sum, { pid }) => sum + treeCpuMs(pid), 0)
  const [cpuBefore, before] = [cpu(), await countsOf(web)]
  await send(counted)
  const [cpuMs, after] = [(cpu() - cpuBefore) / counted, await countsOf(web)]
  const grown = (name: string) => (after.get(name) ?? 0) - (before.get(name) ?? 0)

  const at = async (rate: number) => {
    const result = await runCalm({ url, requests: next(rate * stepSeconds), rate, seconds: stepSeconds })
    if (!result) return undefined
    const { all, seconds } = summaryOf(result)
    const goodput = ((1 - all.failing) * all.count) / Math.max(seconds, stepSeconds)
    return { rate, p95: all.p95, failing: all.failing, goodput }
  }
  const search = (objective: { p95Ms: number; failing: number }) =>
    findLimit({
      ...{ objective, from: firstRate, rateMax: 20_000, rounds, random: seededRandom(5), measure: at },
      onStep: ({ stage, rate, p95, failing, held }) =>
        progress(
          `  ${stage} ${rate.toFixed(0)}/s p95 ${p95.toFixed(0)} ms, ${(100 * failing).toFixed(1)} % failed${held ? '' : ': not held'}`,
        ),
    })
  const { rate, least, most, throughput } = await search({ p95Ms, failing })
  const atSlowRate = slowRate ?? (await search({ p95Ms: slowP95Ms, failing })).rate
  const measured: Measured = {
    limit: { rate, least, most, throughput },
    p95AtSlowRate: slowRate === undefined ? slowP95Ms : (await at(slowRate))?.p95,
    cpuMs,
    offPrimary: grown('reads') === 0 ? undefined : 1 - grown('primary') / grown('reads'),
    byEdge: 1 - grown('requests') / counted,
    byCaches: 1 - grown('loads') / Math.max(1, grown('cached')),
  }
  return { measured, slowRate: atSlowRate }
}

/** What the processes have counted until now. */
async function countsOf(web: readonly Part[]): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  const add = (name: string, count: number) => counts.set(name, (counts.get(name) ?? 0) + count)
  for (const { address } of web) {
    const text = await (await fetch(`http://${address}/metrics`)).text()
    for (const [, name, labels = '', value] of text.matchAll(/^(\w+)(?:\{(.*)\})? ([\d.e+]+)$/gm)) {
      const count = Number(value)
      if (name === 'db_reads_total') {
        add('reads', count)
        if (/server="primary"/.test(labels)) add('primary', count)
      }
      if (name === 'http_request_duration_seconds_count' && !/route="\/(metrics|healthz|readyz)"/.test(labels))
        add('requests', count)
      if (name === 'cache_requests_total') {
        add('cached', count)
        if (/outcome="(loaded|failed)"/.test(labels)) add('loads', count)
      }
    }
  }
  return counts
}

function show(rows: Readonly<Record<string, Measured>>): void {
  const percent = (share: number | undefined) => (share === undefined ? '–' : `${Math.round(100 * share)} %`)
  const head = [
    '',
    `rate at ${p95Ms} ms`,
    `p95 where 1k has ${slowP95Ms}`,
    'CPU ms',
    'off primary',
    'by edge',
    'by caches',
  ]
  const cells = Object.entries(rows).map(([name, { limit, p95AtSlowRate, cpuMs, offPrimary, byEdge, byCaches }]) => [
    name,
    `${limit.rate.toFixed(0)} (${limit.least.toFixed(0)} to ${limit.most.toFixed(0)})`,
    p95AtSlowRate === undefined ? '?' : p95AtSlowRate.toFixed(0),
    cpuMs.toFixed(2),
    ...[offPrimary, byEdge, byCaches].map(percent),
  ])
  progress(`\n${table([head, ...cells])}\n`)
}
