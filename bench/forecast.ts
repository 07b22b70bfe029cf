import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Bench } from './run.ts'
import { end, firstDocument, seed, startNode } from './support/processes.ts'
import { machineFacts, progress, table } from './support/report.ts'

const articles = 2_000
/** CPU cores of a web process: so they are what is used up first, and the generator has the rest of the machine. */
const nodeCpu = 0.08
const p95Ms = 112

const setups = [
  { name: '1k', args: ['1k'] },
  { name: '10k, web 1', args: ['10k', '--web', '1'] },
  { name: '100k, web 3', args: ['100k', '--web', '3'] },
] as const
type Name = (typeof setups)[number]['name']

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

/** What `rung plan` says of each rung, from a load test of each, and what load tests find there. Caches are off. */
const bench: Bench = {
  claim: 'a load test at one rung tells the ceiling of another',
  async run({ json, rounds = 5 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-forecast-'))
    try {
      const measured = new Map<Name, Figures & { first: string }>()
      for (const { name, args } of setups) {
        const up = rung(dir, 'up', args[0], 'examples/conduit/app.ts', ...args.slice(1), '--port', '0')
        try {
          await firstDocument(up)
          if (measured.size === 0) await seed(dir, articles)
          // Each process compiles its code first.
          await asked(dir, 'load', scenario, '--rate', '40', '--for', '20s')
          const objective = ['--p95', `${p95Ms}ms`, '--rounds', String(rounds), '--step', '3s']
          const limit = await asked<Limit>(dir, 'load', scenario, '--to-break', ...objective)
          // A machine with other work has a limit of its own.
          if (limit.isOpen || !limit.demands) throw new Error(`${name}: ${limit.unsent[0]?.why ?? 'no rate held'}`)
          const { requests } = limit.demands.limit
          const [low, likely, high] = [limit.least, limit.rate, limit.most].map((rate) => rate * requests)
          measured.set(name, { low: low!, likely: likely!, high: high!, first: limit.saturated[0]?.part ?? '' })
          progress(`${name}: ${JSON.stringify(measured.get(name))}`)
          await cp(path.join(dir, 'load'), path.join(dir, `from-${name}`, 'load'), { recursive: true })
        } finally {
          await end(up)
        }
      }
      const forecasts = []
      for (const from of setups) {
        for (const { name, args } of setups) {
          const { ceiling } = await asked<{ ceiling: Figures }>(path.join(dir, `from-${from.name}`), 'plan', ...args)
          const { low, likely, high } = ceiling
          forecasts.push({ from: from.name, name, low, likely, high, ratio: likely / measured.get(name)!.likely })
        }
      }
      const rows = Object.fromEntries(measured)
      if (!json) {
        const words = ({ low, likely, high }: Figures) =>
          `${likely.toFixed(0)} (${low.toFixed(0)} to ${high.toFixed(0)})`
        const cells = forecasts.map((one) => [
          ...[one.name, one.from, words(one), words(measured.get(one.name)!), one.ratio.toFixed(2)],
        ])
        progress(`\n${table([['ceiling of', 'costs from', 'forecast /s', 'load test /s', 'ratio'], ...cells])}\n`)
      }
      return { claim: bench.claim, facts: machineFacts('18'), nodeCpu, p95Ms, articles, measured: rows, forecasts }
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

const scenario = 'bench/support/readers.ts'

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
