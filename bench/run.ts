import { parseArgs } from 'node:util'
import { save } from './support/report.ts'

/** A bench proves one claim: it measures, prints a table, and returns what is kept in results/. */
export interface Bench {
  claim: string
  run(options: BenchOptions): Promise<object>
}

export interface BenchOptions {
  /** Print nothing but the result as JSON. */
  json: boolean
  rounds: number | undefined
  /** Where seeded databases are kept for the next run; a temporary folder otherwise. */
  data: string | undefined
  million: boolean
  /** search-apart: so many documents. */
  documents?: number | undefined
  /** plants: histories of the sound build for each workload. */
  seeds: number | undefined
  /** plants and forecast: this one alone. */
  only: string | undefined
}

const benches: Record<string, () => Promise<{ default: Bench }>> = {
  admission: () => import('./admission.ts'),
  api: () => import('./api.ts'),
  autoscaler: () => import('./autoscaler.ts'),
  backups: () => import('./backups.ts'),
  cache: () => import('./cache.ts'),
  conduit: () => import('./conduit.ts'),
  console: () => import('./console.ts'),
  deploys: () => import('./deploys.ts'),
  edge: () => import('./edge.ts'),
  events: () => import('./events.ts'),
  failover: () => import('./failover.ts'),
  faults: () => import('./faults.ts'),
  files: () => import('./files.ts'),
  forecast: () => import('./forecast.ts'),
  groups: () => import('./groups.ts'),
  history: () => import('./history.ts'),
  image: () => import('./image.ts'),
  ladder: () => import('./ladder.ts'),
  observability: () => import('./observability.ts'),
  jobs: () => import('./jobs.ts'),
  kills: () => import('./kills.ts'),
  'kills-events': () => import('./kills-events.ts'),
  plants: () => import('./plants.ts'),
  prove: () => import('./prove.ts'),
  overload: () => import('./overload.ts'),
  record: () => import('./record.ts'),
  rungs: () => import('./rungs.ts'),
  'redis-cluster': () => import('./redis-cluster.ts'),
  replicas: () => import('./replicas.ts'),
  retention: () => import('./retention.ts'),
  schedules: () => import('./schedules.ts'),
  search: () => import('./search.ts'),
  'search-apart': () => import('./search-apart.ts'),
  'slow-clients': () => import('./slow-clients.ts'),
  testing: () => import('./testing.ts'),
  tour: () => import('./tour.ts'),
  traces: () => import('./traces.ts'),
}

const help = `npm run bench -- [name] [--json] [--rounds <n>] [--data <folder>] [--million]

  --json      The result as one JSON document.
  --rounds    Measure so often; the median counts.
  --data      Keep the seeded databases there, and use them again.
  --seeds     plants: so many histories of the sound build for each workload (50).
  --only      plants: this one alone.
  --documents search-apart: so many documents (100000).
  --million   conduit: also on 1,000,000 articles (seeding takes minutes).

Benches:`

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      million: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      data: { type: 'string' },
      seeds: { type: 'string' },
      documents: { type: 'string' },
      only: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const unknown = positionals.filter((name) => !Object.hasOwn(benches, name))
  if (values.help || unknown.length > 0) {
    process.stdout.write(`${help}\n`)
    for (const [name, load] of Object.entries(benches)) {
      process.stdout.write(`  ${name.padEnd(15)} ${(await load()).default.claim}\n`)
    }
    process.exitCode = values.help ? 0 : 1
    return
  }
  const atLeastOne = (text: string | undefined) =>
    text === undefined ? undefined : Math.max(1, Math.floor(Number(text)) || 1)
  const [rounds, seeds, documents] = [values.rounds, values.seeds, values.documents].map(atLeastOne)
  for (const name of positionals.length > 0 ? positionals : Object.keys(benches)) {
    const bench = (await benches[name]!()).default
    const { json, million, data, only } = values
    const result = await bench.run({ json, million, data, rounds, seeds, documents, only })
    if (only === undefined) await save(name, result)
    if (json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
  }
}

await main()
