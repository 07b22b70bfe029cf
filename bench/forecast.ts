import { cp, mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import path from 'node:path'
import { type CpuTimes, cpuTimes, cpuUsedMs } from '../src/engines/process/cpu.ts'
import { deploymentOf } from '../src/fleet/deployment.ts'
import { engines } from '../src/fleet/engines.ts'
import { fleetStatus } from '../src/fleet/status.ts'
import { calibrated, type Sample } from '../src/planner/calibrated.ts'
import { countsOf } from '../src/planner/demand.ts'
import { type Forecast, forecastOf } from '../src/planner/forecast.ts'
import { readSettings } from '../src/topology/read-settings.ts'
import type { Bench } from './run.ts'
import { end, firstDocument, seed, startNode } from './support/processes.ts'
import { machineFacts, progress, table } from './support/report.ts'

const articles = 2_000
/** CPU cores of a web process: so they are what is used up first, and the generator has the rest of the machine. */
const nodeCpu = 0.25
const p95Ms = 200
/** Shares of the limit at which costs are calibrated. */
const calm = [0.05, 0.08, 0.11, 0.14, 0.17, 0.2]
const secondsOfCalm = 12

const setups = [
  { name: '1k', args: ['1k'] },
  { name: '10k, web 1', args: ['10k', '--web', '1'] },
  { name: '100k, web 3', args: ['100k', '--web', '3'] },
] as const
const scenarios = { readers: 'bench/support/readers.ts', writers: 'bench/support/writers.ts' } as const

interface Figures {
  low: number
  likely: number
  high: number
}
interface Limit {
  rate: number
  least: number
  most: number
  isOpen: boolean
  saturated: readonly { part: string }[]
  unsent: readonly { why: string }[]
  demands?: { limit: { requests: number } }
}
interface Loaded {
  all: { rate: number; p95: number }
}

/** What `rung plan` says of each rung, from a load test of each and from production at a fifth of the limit, and what load tests find. Caches are off. */
const bench: Bench = {
  claim: 'costs at a fifth of the limit tell the limit within 10 %, and a load test at one rung that of another',
  async run({ json, rounds = 5, only }) {
    const rows = []
    for (const [mix, scenario] of Object.entries(scenarios)) {
      if (only !== undefined && only !== mix) continue
      const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-forecast-'))
      try {
        rows.push(...(await compare(dir, mix, scenario, rounds)))
      } finally {
        await rm(dir, { recursive: true, force: true })
      }
    }
    if (!json) {
      const words = ({ low, likely, high }: Figures) => `${likely.toFixed(0)} (${low.toFixed(0)} to ${high.toFixed(0)})`
      const cells = rows.map(({ mix, name, from, forecast, measured, first, named, ratio }) => [
        ...[mix, name, from, words(forecast), words(measured), ratio.toFixed(2), `${named}/${first}`],
      ])
      const heads = ['mix', 'ceiling of', 'costs from', 'forecast /s', 'load test /s', 'ratio', 'first: forecast/found']
      progress(`\n${table([heads, ...cells])}\n`)
    }
    return { claim: bench.claim, facts: machineFacts('18'), nodeCpu, p95Ms, articles, calm, forecasts: rows }
  },
}
export default bench

/** @param dir a data directory of its own, so that no load test of another mix is in it */
async function compare(dir: string, mix: string, scenario: string, rounds: number) {
  const found = new Map<string, { measured: Figures; first: string; production: Forecast }>()
  for (const { name, args } of setups) {
    const up = rung(dir, 'up', args[0], 'examples/conduit/app.ts', ...args.slice(1), '--port', '0')
    try {
      await firstDocument(up)
      if (found.size === 0) await seed(dir, articles)
      // Each process compiles its code first.
      await asked(dir, 'load', scenario, '--rate', '30', '--for', '20s')
      const objective = ['--p95', `${p95Ms}ms`, '--rounds', String(rounds), '--step', '3s']
      const limit = await asked<Limit>(dir, 'load', scenario, '--to-break', ...objective)
      // A machine with other work has a limit of its own.
      if (limit.isOpen || !limit.demands) throw new Error(`${name}: ${limit.unsent[0]?.why ?? 'no rate held'}`)
      const { requests } = limit.demands.limit
      const [low, likely, high] = [limit.least, limit.rate, limit.most].map((rate) => rate * requests)
      const measured = { low: low!, likely: likely!, high: high! }
      const production = await fromProduction(dir, scenario, args, limit.rate)
      found.set(name, { measured, first: limit.saturated[0]?.part ?? '?', production })
      progress(`${mix} ${name}: ${JSON.stringify(measured)}, from production ${JSON.stringify(production.ceiling)}`)
      await cp(path.join(dir, 'load'), path.join(dir, `from-${name}`, 'load'), { recursive: true })
    } finally {
      await end(up)
    }
  }
  const rows = []
  for (const { name, args } of setups) {
    const { measured, first, production } = found.get(name)!
    const row = (from: string, { ceiling, stations }: Pick<Forecast, 'ceiling' | 'stations'>) => {
      const { low, likely, high } = ceiling
      const named = stations.toSorted((a, b) => b.first - a.first)[0]?.name ?? '?'
      return {
        ...{ mix, name, from, forecast: { low, likely, high }, measured, first, named },
        ratio: likely / measured.likely,
      }
    }
    rows.push(row('20 % of its limit', production))
    for (const from of setups)
      rows.push(row(from.name, await asked<Forecast>(path.join(dir, `from-${from.name}`), 'plan', ...args)))
  }
  return rows
}

/** Forecasts the limit of what runs from what it uses at low rates, as `rung plan` does from the record. */
async function fromProduction(
  dir: string,
  scenario: string,
  args: readonly string[],
  limit: number,
): Promise<Forecast> {
  const env = { RUNG_NODE_CPU: String(nodeCpu), RUNG_CACHE: 'off' }
  const webs = args[1] === '--web' ? { web: args[2]! } : {}
  const { topology } = deploymentOf(readSettings({ env, options: { rung: args[0]!, ...webs } }), engines)
  const samples: Sample[] = []
  for (const share of calm) {
    const [before, began] = [cpuTimes(), performance.now()]
    const { all } = await asked<Loaded>(
      dir,
      'load',
      scenario,
      '--rate',
      String(share * limit),
      '--for',
      `${secondsOfCalm}s`,
    )
    const seconds = (performance.now() - began) / 1_000
    // The generator takes a moment to begin and to end: what was sent in all of the time counts.
    samples.push({
      rate: (all.rate * secondsOfCalm) / seconds,
      p95Ms: all.p95,
      cores: await coresOf(dir, before, seconds),
    })
  }
  const cores = availableParallelism()
  const facts = { counts: countsOf(topology), cores, nodeCpu, routes: [{ share: 1, cpuMs: 1 }] }
  const measured = calibrated(samples, facts)!
  const objective = { p95Ms, failing: 0.01 }
  return forecastOf({ topology, cores, spread: false, objective, users: {}, measured, peaks: [], today: 0 })
}

/** Cores that each kind of part has used since. */
async function coresOf(dir: string, before: CpuTimes, seconds: number): Promise<Record<string, number>> {
  const status = await fleetStatus(dir)
  const now = cpuTimes()
  const found: Record<string, number> = {}
  for (const { name, pid } of status.running ? status.parts : []) {
    const kind = /^postgres-\d/.test(name) ? 'replica' : name.replace(/-\d+$/, '')
    if (pid !== undefined) found[kind] = (found[kind] ?? 0) + cpuUsedMs(pid, before, now) / 1_000 / seconds
  }
  return found
}

function rung(dir: string, ...words: string[]) {
  return startNode(['--conditions=rung-source', 'src/cli/bin.js', ...words, '--json'], {
    ...{ RUNG_DATA: dir, NODE_ENV: 'production', RUNG_CACHE: 'off', LOG_LEVEL: 'error' },
    // Otherwise each step above the limit takes as long as its requests wait.
    ...{ RUNG_NODE_CPU: String(nodeCpu), RUNG_SHEDDING: 'on' },
  })
}

/** Returns what a command prints. */
async function asked<Answer = unknown>(dir: string, ...words: string[]): Promise<Answer> {
  const command = rung(dir, ...words)
  const gone = new Promise((resolve) => command.once('exit', resolve))
  const answer = await firstDocument<Answer>(command)
  await gone
  return answer
}
