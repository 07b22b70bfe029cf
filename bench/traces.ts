import diagnostics from 'node:diagnostics_channel'
import { Scope } from '../src/kernel/scope.ts'
import { TraceRing } from '../src/observe/traces/ring.ts'
import { watchTraces } from '../src/observe/traces/watch.ts'
import { type CacheReadDone, cacheReadDone } from '../src/primitives/cache/channels.ts'
import { type StatementDone, statementDone } from '../src/primitives/data/channels.ts'
import type { DataRoot } from '../src/primitives/data/data.ts'
import type { Http } from '../src/primitives/http/contract.ts'
import { childOf } from '../src/primitives/http/trace-context.ts'
import { type RunBegin, type RunDone, runBegin, runDone } from '../src/primitives/jobs/channels.ts'
import { compareServed } from './observability.ts'
import type { Bench } from './run.ts'
import { rounded, type Spread, spread, table } from './support/report.ts'

const target = 1.01
const unitsOfARound = 100_000
/** More than Conduit's list has. */
const [statements, reads] = [4, 6]

/**
 * What it costs to keep traces: a sample while nobody looks, all of them for ten minutes after a look. Two processes that answer the same
 * requests differ by all of it, but are compared no better than the machine is quiet. So the watch alone is also told of units of work.
 */
const bench: Bench = {
  claim: 'traces cost a request at most 1 % more CPU while nobody looks',
  async run(options) {
    const { asleep, awake } = costAlone(options.rounds ?? 9)
    const served = await compareServed(['observed', 'traced'], target, options)
    const share = (us: Spread) => Number((us.median / 1_000 / served.offMs.median).toFixed(4))
    const shares = { asleep: share(asleep), awake: share(awake) }
    if (!options.json) {
      const row = (name: string, us: Spread, of: number) => [name, us.median.toFixed(2), `${(100 * of).toFixed(2)} %`]
      const rows = [row('a sample', asleep, shares.asleep), row('all', awake, shares.awake)]
      process.stdout.write(`\nA unit of ${statements} statements and ${reads} reads of the cache\n`)
      process.stdout.write(`${table([['kept', 'us of CPU', 'of a request'], ...rows])}\n`)
    }
    return { claim: bench.claim, ...served, aloneUs: { asleep: rounded(asleep), awake: rounded(awake) }, shares }
  },
}
export default bench

function costAlone(rounds: number): { asleep: Spread; awake: Spread } {
  const costs: { asleep: number[]; awake: number[] } = { asleep: [], awake: [] }
  for (let round = -2; round < rounds; round += 1) {
    const off = cpuUsOf(undefined)
    const asleep = cpuUsOf(new TraceRing()) - off
    const awake = cpuUsOf(new TraceRing({ always: true })) - off
    if (round < 0) continue // for the compiler
    costs.asleep.push(asleep)
    costs.awake.push(awake)
  }
  return { asleep: spread(costs.asleep), awake: spread(costs.awake) }
}

/** CPU of one unit of work, us, with a watch that has this ring, or without any watch. */
function cpuUsOf(ring: TraceRing | undefined): number {
  const database = {} as never
  const closes: (() => void)[] = []
  const http = {
    addHook(name: string, hook: (instance: unknown, done: () => void) => void) {
      if (name === 'onClose') closes.push(() => hook(undefined, () => {}))
    },
  } as unknown as Http
  if (ring) watchTraces(http, { databases: [database] } as unknown as DataRoot, ring)
  // Others listen to these also without traces, so that their messages are made anyway.
  const ignore = () => {}
  for (const one of [statementDone, runBegin, runDone]) diagnostics.subscribe(one.name, ignore)
  const texts = Array.from(
    { length: 40 },
    (_, n) => `select ${'column, '.repeat(30)} from articles.article where n = ${n}`,
  )
  const before = process.cpuUsage()
  for (let n = 0; n < unitsOfARound; n += 1) unit(n, database, texts, ring === undefined)
  const { user, system } = process.cpuUsage(before)
  for (const one of [statementDone, runBegin, runDone]) diagnostics.unsubscribe(one.name, ignore)
  for (const close of closes) close()
  return (user + system) / unitsOfARound
}

function unit(n: number, database: never, texts: readonly string[], isOff: boolean): void {
  const scope = new Scope('job', String(n), 'bench.unit')
  const item = { name: 'bench.unit', queue: 'main', id: n, context: null } as never
  if (isOff) scope.traceparent = childOf(undefined) // a request has one anyway
  runBegin.publish({ database, item, scope } satisfies RunBegin)
  for (let read = 0; read < reads; read += 1) {
    if (!cacheReadDone.hasSubscribers) break // as the cache does
    const outcome = read % 3 === 0 ? 'memory' : 'shared'
    const done: CacheReadDone = { scope, module: 'articles', group: 'article', outcome, durationMs: 0.1 }
    cacheReadDone.publish(done)
  }
  for (let k = 0; k < statements; k += 1) {
    const done = {
      ...{
        statement: { text: texts[(n + k) % texts.length]!, values: [] },
        database,
        target: 'read',
        module: 'articles',
      },
      ...{ scope, inTransaction: false, startedAt: 0, waitMs: 0, durationMs: 1, rowCount: 20, command: 'SELECT' },
      error: undefined,
    } as unknown as StatementDone
    statementDone.publish(done)
  }
  const ended = { database, item, scope, kind: 'job', outcome: 'done', durationMs: 5, error: undefined } as const
  runDone.publish(ended satisfies RunDone)
}
