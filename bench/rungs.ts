import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { summaryOf } from '../src/load/summary.ts'
import type { Bench } from './run.ts'
import { runCalm } from './support/calm.ts'
import { treeCpuMs } from './support/cpu.ts'
import { type LoadRequest, sendRequests } from './support/load.ts'
import { bars } from './support/plot.ts'
import { end, firstDocument, seed, startNode } from './support/processes.ts'
import { machineFacts, progress, spread, table } from './support/report.ts'
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
/** Requests in a second, each √2 times the one before. A round ends where the app is lost: all that follows would tell of the backlog. */
const rates = [40, 57, 80, 113, 160, 226, 320, 453, 640, 905, 1280]
const [lostP95Ms, lostShare] = [3_000, 0.05]
/** Requests whose cost and caching are counted, after as many others. */
const counted = 5_000

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

interface Point {
  rate: number
  /** Of each round that came so far, in ms. */
  p95s: number[]
  goodputs: number[]
}

interface Measured {
  points: Point[]
  /** Most requests in a second that were answered without a failure, median of the rounds. */
  goodput: number
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
  async run({ json, rounds = 3, data }) {
    const dir = data ?? (await mkdtemp(path.join(tmpdir(), 'rung-bench-rungs-')))
    try {
      const rows: Record<string, Measured> = {}
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
          if (Object.keys(rows).length === 0) await seed(dir, articles) // once: it finds its own
          const scene = await sceneOf(dir)
          const requests = traceOf(scene, await logIn(url, scene.viewers))
          rows[setup.name] = await measure({ url, requests, parts, rounds })
          progress(`${setup.name}: ${JSON.stringify(rows[setup.name])}`)
        } finally {
          await end(up)
        }
      }
      if (!json) show(rows)
      await bars(
        image,
        `Requests in a second at a p95 of at most ${p95Ms} ms`,
        Object.entries(rows).map(([name, one]) => ({ name, value: Math.round(rateAt(curveOf(one), p95Ms)) })),
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
}

async function measure({ url, requests, parts, rounds }: Measuring): Promise<Measured> {
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

  const points = rates.map((rate): Point => ({ rate, p95s: [], goodputs: [] }))
  for (let round = 1; round <= rounds; round += 1) {
    for (const { rate, p95s, goodputs } of points) {
      const result = await runCalm({ url, requests: next(rate * stepSeconds), rate, seconds: stepSeconds })
      if (!result) break // the generator was late: more than this machine can send
      const { all, seconds } = summaryOf(result)
      p95s.push(all.p95)
      goodputs.push(((1 - all.failing) * all.count) / Math.max(seconds, stepSeconds))
      const failed = (100 * all.failing).toFixed(1)
      progress(`  round ${round}: ${rate}/s p95 ${all.p95.toFixed(0)} ms, ${failed} % failed`)
      if (all.p95 > lostP95Ms || all.failing > lostShare) break
    }
  }
  return {
    points,
    goodput: Math.max(...points.filter(({ goodputs }) => goodputs.length > 0).map(({ goodputs }) => median(goodputs))),
    cpuMs,
    offPrimary: grown('reads') === 0 ? undefined : 1 - grown('primary') / grown('reads'),
    byEdge: 1 - grown('requests') / counted,
    byCaches: 1 - grown('loads') / Math.max(1, grown('cached')),
  }
}

/** The median p95 of each rate, up to the one at which most rounds were lost. */
function curveOf({ points }: Pick<Measured, 'points'>): { rate: number; p95: number }[] {
  const rounds = points[0]!.p95s.length
  return points.flatMap(({ rate, p95s }) => {
    const lost = Array.from({ length: rounds - p95s.length }, () => Number.POSITIVE_INFINITY)
    const p95 = median([...p95s, ...lost])
    return Number.isFinite(p95) ? [{ rate, p95 }] : []
  })
}

/** The rate at which the curve first reaches this p95, on a straight line between the logarithms; the last one if it never does. */
function rateAt(curve: readonly { rate: number; p95: number }[], p95: number): number {
  const above = curve.findIndex((point) => point.p95 > p95)
  if (above === -1) return curve.at(-1)!.rate
  if (above === 0) return 0
  const [a, b] = [curve[above - 1]!, curve[above]!]
  return a.rate * (b.rate / a.rate) ** (Math.log(p95 / a.p95) / Math.log(b.p95 / a.p95))
}

/** The p95 at a rate between two that were measured. */
function p95At(curve: readonly { rate: number; p95: number }[], rate: number): number | undefined {
  const above = curve.findIndex((point) => point.rate >= rate)
  if (above < 1) return curve[above]?.p95
  const [a, b] = [curve[above - 1]!, curve[above]!]
  return a.p95 * (b.p95 / a.p95) ** (Math.log(rate / a.rate) / Math.log(b.rate / a.rate))
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
  const head = ['', `rate at ${p95Ms} ms`, 'p95 there', 'goodput', 'CPU ms', 'off primary', 'by edge', 'by caches']
  const cells = setups.map(({ name, cores, web }) => {
    const { goodput, cpuMs, offPrimary, byEdge, byCaches } = rows[name]!
    const curve = curveOf(rows[name]!)
    const one = setups.find((other) => other.rung === '1k' && (other.cores === cores || other.cores === cores * web))!
    const p95 = p95At(curve, rateAt(curveOf(rows[one.name]!), slowP95Ms))
    return [
      ...[name, rateAt(curve, p95Ms).toFixed(0), p95 === undefined ? '?' : p95.toFixed(0), goodput.toFixed(0)],
      ...[cpuMs.toFixed(2), ...[offPrimary, byEdge, byCaches].map(percent)],
    ]
  })
  progress(`\n${table([head, ...cells])}\n"p95 there": at the rate at which 1k with this quota has ${slowP95Ms} ms.\n`)
}

const median = (values: readonly number[]) => spread(values).median
