import { type ChildProcess, fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type ConnectionConfig, connectOnce } from '../src/engines/postgres/client.ts'
import { type EmbeddedPostgres, startEmbedded } from '../src/engines/postgres/embedded.ts'
import { machineTicks } from '../src/kernel/clock.ts'
import { migrate } from '../src/migrations/migrate.ts'
import { systemMigrations } from '../src/runtime/migrations.ts'
import type { Bench } from './run.ts'
import { openQueue, type QueueName, type QueueSide, queueNames } from './support/queues.ts'
import { inWords, machineFacts, progress, rounded, type Spread, spread, table } from './support/report.ts'

/** Postgres keeps a plan after five. */
const writesToWarmUp = 10
const writesAWriter = { 1: 300, 16: 100 } as const
const bulkCount = 10_000
/** pg-boss does a thousand a second. */
const throughputCounts = { rung: 60_000, 'graphile-worker': 60_000, 'pg-boss': 3_000 } as const
const latencySamples = 60
const targets = { enqueueRatio16: 4, throughputRatio: 1, latencyMs: 10, takenUpMs: 10_000 }

/** Rung's jobs against the two queues that live in Postgres too, on one server, in turn. */
const bench: Bench = {
  claim: 'jobs ride the commit at 4 times the speed of the best Postgres queue, and run as fast as there',
  async run({ json, rounds = 5 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-'))
    const server = await startEmbedded({ root: dir, connectionsMax: 200 })
    try {
      return await measure(server, rounds, json)
    } finally {
      await server.stop()
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

interface Measured {
  /** Transactions a second that write a row and enqueue a job, by the number of writers. */
  writers1: Spread
  writers16: Spread
  bulk: Spread
  workers1: Spread
  workers2: Spread
  latencyMs: Spread
}

async function measure(server: EmbeddedPostgres, rounds: number, json: boolean): Promise<object> {
  const { connection } = server
  await migrate({ connection, migrations: systemMigrations })
  await query(connection, 'create schema bench; create table bench.line (id bigserial primary key, text text)')
  const version = await query(connection, 'show server_version')
  const all: Record<string, Record<keyof Measured, number[]>> = {}
  const costs: Record<'job1' | 'job16' | 'event1' | 'event16', number[]> = {
    job1: [],
    job16: [],
    event1: [],
    event16: [],
  }
  for (const name of queueNames) {
    all[name] = { writers1: [], writers16: [], bulk: [], workers1: [], workers2: [], latencyMs: [] }
  }
  for (let round = 0; round < rounds; round += 1) {
    for (const name of round % 2 === 0 ? queueNames : [...queueNames].reverse()) {
      const side = await openQueue(name, connection)
      const of = all[name]!
      if (round === 0) await side.bulk(100) // what is prepared once
      // A pool lives as long as its process: what a new connection costs is not what a write costs.
      for (const beside of name === 'rung' ? ([undefined, 'event', 'job'] as const) : (['job'] as const)) {
        await writing(side, 16, beside, writesToWarmUp)
      }
      for (const writers of [1, 16] as const) {
        const withJob = await writing(side, writers, 'job')
        of[writers === 1 ? 'writers1' : 'writers16'].push(withJob)
        if (name !== 'rung') continue
        const bare = await writing(side, writers)
        costs[`job${writers}`].push(bare / withJob)
        costs[`event${writers}`].push(bare / (await writing(side, writers, 'event')))
      }
      const began = performance.now()
      await side.bulk(bulkCount)
      of.bulk.push((bulkCount / (performance.now() - began)) * 1000)
      await empty(connection)
      of.workers1.push(await throughput(name, connection, side, 1))
      of.workers2.push(await throughput(name, connection, side, 2))
      if (round === 0) of.latencyMs.push(...(await latencies(name, connection, side)))
      await empty(connection)
      await side.close()
      const row = Object.entries(of).map(([key, values]) => `${key} ${Math.round(values.at(-1)!)}`)
      progress(`  round ${round + 1} of ${rounds}, ${name}: ${row.join(', ')}`)
    }
  }
  const takenUpMs = await takenUp(connection)
  const measured = Object.fromEntries(
    Object.entries(all).map(([name, of]) => [
      name,
      Object.fromEntries(Object.entries(of).map(([key, values]) => [key, spread(values)])) as unknown as Measured,
    ]),
  )
  const best = (key: keyof Measured) =>
    Math.max(...['graphile-worker', 'pg-boss'].map((name) => measured[name]![key].median))
  const ours = measured.rung!
  const ratios = {
    enqueue16: ours.writers16.median / best('writers16'),
    throughput1: ours.workers1.median / best('workers1'),
    throughput2: ours.workers2.median / best('workers2'),
    /** The time of a write with something beside to the same write alone. */
    writeWithJob1: spread(costs.job1),
    writeWithJob16: spread(costs.job16),
    writeWithEvent1: spread(costs.event1),
    writeWithEvent16: spread(costs.event16),
  }
  if (!json) show(measured, ratios, takenUpMs)
  return {
    claim: bench.claim,
    facts: machineFacts(String(version[0]!.server_version)),
    targets,
    perSecond: Object.fromEntries(
      Object.entries(measured).map(([name, of]) => [
        name,
        Object.fromEntries(Object.entries(of).map(([key, value]) => [key, rounded(value)])),
      ]),
    ),
    ratios: Object.fromEntries(
      Object.entries(ratios).map(([key, ratio]) => [
        key,
        typeof ratio === 'number' ? Number(ratio.toFixed(2)) : rounded(ratio),
      ]),
    ),
    takenUpMs: Math.round(takenUpMs),
  }
}

/** Transactions a second. */
async function writing(
  side: QueueSide,
  writers: 1 | 16,
  beside?: 'job' | 'event',
  count: number = writesAWriter[writers],
): Promise<number> {
  const began = performance.now()
  await Promise.all(
    Array.from({ length: writers }, async () => {
      for (let n = 0; n < count; n += 1) await side.write(beside)
    }),
  )
  return ((writers * count) / (performance.now() - began)) * 1000
}

async function startWorker(name: QueueName, connection: ConnectionConfig) {
  const child = fork(
    path.join(import.meta.dirname, 'support/queue-worker.ts'),
    [JSON.stringify({ name, connection })],
    { execArgv: ['--conditions=rung-source'] },
  )
  await new Promise((resolve) => child.once('message', resolve))
  return child
}

async function endWorker(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

/** Empty jobs a second, from when they were committed to when the last has run. The workers were idle before. */
async function throughput(
  name: QueueName,
  connection: ConnectionConfig,
  side: QueueSide,
  workers: number,
): Promise<number> {
  const count = throughputCounts[name]
  const children = await Promise.all(Array.from({ length: workers }, () => startWorker(name, connection)))
  try {
    const done = children.map(() => 0)
    const finished = new Promise<number>((resolve) => {
      for (const [at, child] of children.entries()) {
        child.on('message', (message: { done?: number; now?: number }) => {
          if (message.done === undefined) return
          done[at] = message.done
          if (done.reduce((sum, one) => sum + one, 0) >= count) resolve(message.now!)
        })
      }
    })
    await side.bulk(count)
    const began = machineTicks()
    return (count / ((await finished) - began)) * 1000
  } finally {
    await Promise.all(children.map(endWorker))
    await empty(connection)
  }
}

/** From before the commit to the start of the job in another process, which has been idle for a while, ms. */
async function latencies(name: QueueName, connection: ConnectionConfig, side: QueueSide): Promise<number[]> {
  const child = await startWorker(name, connection)
  const samples: number[] = []
  try {
    for (let n = 0; n < latencySamples; n += 1) {
      await new Promise((resolve) => setTimeout(resolve, 50 + (n % 10) * 20))
      const began = new Promise<{ began: number; at: number }>((resolve) => child.once('message', resolve))
      await side.enqueueAt(() => machineTicks())
      const message = await began
      samples.push(message.began - message.at)
    }
  } finally {
    await endWorker(child)
  }
  return samples
}

/** From the kill of the worker that holds a job to its start in another one, ms. Rung only: the others take minutes to hours. */
async function takenUp(connection: ConnectionConfig): Promise<number> {
  const side = await openQueue('rung', connection)
  const [first, second] = [await startWorker('rung', connection), await startWorker('rung', connection)]
  try {
    const stuck = (child: ChildProcess) =>
      new Promise<{ child: ChildProcess; at: number }>((resolve) => {
        child.on('message', (message: { stuck?: number }) => {
          if (message.stuck !== undefined) resolve({ child, at: message.stuck })
        })
      })
    const begun = [stuck(first), stuck(second)] as const
    await query(
      connection,
      `insert into rung.job (queue, name, payload, priority, run_at, attempts_max, keep)
       values ('bench.job', 'bench.job', '{"n":-1}', 1, now(), 10, false)`,
    )
    const { child } = await Promise.race(begun)
    const killedAt = machineTicks()
    await endWorker(child)
    const { at } = await begun[child === first ? 1 : 0]
    return at - killedAt
  } finally {
    for (const child of [first, second])
      if (child.exitCode === null && child.signalCode === null) await endWorker(child)
    await side.close()
  }
}

async function query(connection: ConnectionConfig, text: string): Promise<Record<string, unknown>[]> {
  const client = await connectOnce(connection)
  return (await client.query(text).finally(() => client.end())).rows
}

/** Everybody begins with an empty table. */
async function empty(connection: ConnectionConfig): Promise<void> {
  await query(
    connection,
    `truncate rung.job;
     do $$ begin
       if to_regclass('graphile_worker._private_jobs') is not null then truncate graphile_worker._private_jobs cascade; end if;
       if to_regclass('pgboss.job') is not null then truncate pgboss.job cascade; end if;
     end $$;
     truncate bench.line`,
  )
}

function show(measured: Record<string, Measured>, ratios: Record<string, number | Spread>, takenUpMs: number): void {
  const print = (text: string) => process.stdout.write(`${text}\n`)
  const rows: [string, keyof Measured, number][] = [
    ['writes with a job, 1 writer, a second', 'writers1', 0],
    ['writes with a job, 16 writers, a second', 'writers16', 0],
    ['bulk, jobs a second', 'bulk', 0],
    ['empty jobs a second, 1 worker', 'workers1', 0],
    ['empty jobs a second, 2 workers', 'workers2', 0],
    ['commit to start when idle, ms', 'latencyMs', 1],
  ]
  print('\nmedians')
  print(
    table([
      ['', ...queueNames],
      ...rows.map(([label, key, digits]) => [
        label,
        ...queueNames.map((name) => measured[name]![key].median.toFixed(digits)),
      ]),
    ]),
  )
  const number = (value: number | Spread) => (typeof value === 'number' ? value.toFixed(2) : inWords(value))
  print('')
  print(
    table([
      ['rung to the better of the others', 'measured', 'target'],
      ['writes with a job, 16 writers', number(ratios.enqueue16!), `≥ ${targets.enqueueRatio16}`],
      ['empty jobs, 1 worker', number(ratios.throughput1!), `≥ ${targets.throughputRatio}`],
      ['empty jobs, 2 workers', number(ratios.throughput2!), `≥ ${targets.throughputRatio}`],
      ['a write with an event to one without, 1 writer', number(ratios.writeWithEvent1!), '≤ 1.2'],
      ['a write with an event to one without, 16 writers', number(ratios.writeWithEvent16!), '≤ 1.2'],
      ['a write with a job to one without, 16 writers', number(ratios.writeWithJob16!), ''],
      ['a killed worker’s job runs again after, ms', takenUpMs.toFixed(0), `≤ ${targets.takenUpMs}`],
    ]),
  )
}
