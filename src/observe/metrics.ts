import { realpathSync } from 'node:fs'
import type { FastifyRequest } from 'fastify'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import {
  type Archived,
  archived,
  type BackupFailed,
  type BaseTaken,
  backupFailed,
  baseTaken,
} from '../backup/channels.ts'
import type { CacheCore } from '../primitives/cache/cache.ts'
import { type CacheNews, cacheNews } from '../primitives/cache/channels.ts'
import type { GroupStats } from '../primitives/cache/stats.ts'
import {
  type StatementDone,
  statementDone,
  type TransactionDone,
  transactionDone,
} from '../primitives/data/channels.ts'
import type { Target } from '../primitives/data/contract.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'
import { type Shed, shed } from '../primitives/http/shedding.ts'
import { type IdempotencyDone, idempotencyDone } from '../primitives/idempotency/channels.ts'
import { type RunDone, runDone } from '../primitives/jobs/channels.ts'
import { type LimitDecided, limitDecided } from '../primitives/limits/channels.ts'
import { type OutgoingDone, outgoingDone } from '../primitives/outgoing/outgoing.ts'
import { type SignalFailure, signalFailed } from '../primitives/signals/channels.ts'
import type { Stores } from '../runtime/stores.ts'
import { listen } from './listen.ts'
import { atRequestEnd } from './request-end.ts'

/** Seconds. From a cached answer to the request time limit. */
const requestBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
const statementBuckets = [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10]
const waitBuckets = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5]

export const metricsPath = '/metrics'

/** What other observers count, beside the figures taken here. */
export interface Counters {
  slowStatements: Counter<'module'>
  nPlusOne: Counter<'route'>
}

export interface Observed {
  stores: Pick<Stores, 'all'>
  cache: CacheCore
  backupDir?: string | undefined
}

/**
 * Rate, errors and duration by route; statements, transactions and pools; the process. In Prometheus' text form at
 * `/metrics`. A registry for each running app: two in one process do not mix.
 */
export function metrics(http: Http, data: DataRoot, { stores, cache, backupDir }: Observed): Counters {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  new Gauge({
    name: 'nodejs_eventloop_utilization',
    help: 'Share of time in which the event loop was busy since the last reading, 0 to 1.',
    registers,
    collect: utilisation(),
  })
  observeRequests(http, registers)
  observeStatements(http, data, registers)
  observeRuns(http, data, stores, registers)
  if (backupDir !== undefined) {
    const end = observeBackups(realpathSync(backupDir), registers)
    http.addHook('onClose', (_instance, done) => {
      end()
      done()
    })
  }
  observeRefusals(http, data, registers)
  observeCache(http, data, cache, registers)
  observeOutgoing(http, registers)
  http.get(
    metricsPath,
    { schema: { hide: true }, config: { system: true }, logLevel: 'silent' },
    async (_request, reply) => {
      return reply.type(registry.contentType).send(await registry.metrics())
    },
  )
  return {
    slowStatements: new Counter({
      name: 'db_slow_statements_total',
      help: 'Statements of 100 ms or more.',
      labelNames: ['module'],
      registers,
    }),
    nPlusOne: new Counter({
      name: 'db_n_plus_one_total',
      help: 'Units of work that ran one statement ten times or more.',
      labelNames: ['route'],
      registers,
    }),
  }
}

function utilisation(): (this: Gauge) => void {
  let last = performance.eventLoopUtilization()
  return function () {
    const now = performance.eventLoopUtilization()
    this.set(performance.eventLoopUtilization(now, last).utilization)
    last = now
  }
}

function observeRequests(http: Http, registers: Registry[]): void {
  const durations = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'From the request line to the end of the answer.',
    labelNames: ['method', 'route', 'status', 'module'],
    buckets: requestBuckets,
    registers,
  })
  let running = 0
  new Gauge({
    name: 'http_requests_in_flight',
    help: 'Requests being answered.',
    registers,
    collect() {
      this.set(running)
    },
  })
  // Looking labels up costs more than counting: a series is found once for each route and status.
  const series = new Map<object, Map<number, { observe(seconds: number): void }>>()
  const nowhere = {}

  http.addHook('onRequest', (_request, _reply, done) => {
    running += 1
    done()
  })
  atRequestEnd(http, ({ request, status, durationMs }) => {
    running -= 1
    found(request, status).observe(durationMs / 1000)
  })

  function found(request: FastifyRequest, status: number) {
    const route = request.routeOptions.config ?? nowhere
    let byStatus = series.get(route)
    if (!byStatus) {
      byStatus = new Map()
      series.set(route, byStatus)
    }
    let one = byStatus.get(status)
    if (!one) {
      one = durations.labels({
        method: request.method,
        route: request.routeOptions.url ?? '(none)',
        status: String(status),
        module: moduleOf(request),
      })
      byStatus.set(status, one)
    }
    return one
  }
}

export function moduleOf(request: FastifyRequest): string {
  return (request.routeOptions.config as { module?: string } | undefined)?.module ?? ''
}

function observeStatements(http: Http, data: DataRoot, registers: Registry[]): void {
  const durations = new Histogram({
    name: 'db_statement_duration_seconds',
    help: 'From sending a statement to its last row.',
    labelNames: ['module', 'target', 'command'],
    buckets: statementBuckets,
    registers,
  })
  const waits = new Histogram({
    name: 'db_pool_wait_seconds',
    help: 'Waiting for a database connection.',
    labelNames: ['target'],
    buckets: waitBuckets,
    registers,
  })
  const errors = new Counter({
    name: 'db_statement_errors_total',
    help: 'Failed statements.',
    labelNames: ['module', 'code'],
    registers,
  })
  const transactions = new Histogram({
    name: 'db_transaction_duration_seconds',
    help: 'From begin to the end of the commit or rollback; a retry counts as one of its own.',
    labelNames: ['module', 'outcome'],
    buckets: requestBuckets,
    registers,
  })
  new Gauge({
    name: 'db_pool_connections',
    help: 'Connections of this process, by state; max is the limit.',
    labelNames: ['database', 'target', 'state'],
    registers,
    collect() {
      for (const one of data.databases) {
        for (const target of ['read', 'write', 'own'] as const) {
          const { max, total, idle, waiting } = one.counts(target)
          const labels = { database: one.name, target }
          this.set({ ...labels, state: 'max' }, max)
          this.set({ ...labels, state: 'busy' }, total - idle)
          this.set({ ...labels, state: 'idle' }, idle)
          this.set({ ...labels, state: 'waiting' }, waiting)
        }
      }
    },
  })
  const series = new Map<string, { observe(seconds: number): void }>()
  const seriesOf = (target: Target) => waits.labels({ target })
  const waitSeries = {
    read: seriesOf('read'),
    write: seriesOf('write'),
    own: seriesOf('own'),
    session: seriesOf('session'),
  }

  listen<StatementDone>(http, data, statementDone, (done) => {
    const key = `${done.module}\0${done.target}\0${done.command}`
    let one = series.get(key)
    if (!one) {
      one = durations.labels({ module: done.module ?? '', target: done.target, command: done.command })
      series.set(key, one)
    }
    one.observe(done.durationMs / 1000)
    waitSeries[done.target].observe(done.waitMs / 1000)
    if (done.error) errors.inc({ module: done.module ?? '', code: done.error.code })
  })
  listen<TransactionDone>(http, data, transactionDone, (done) => {
    transactions.observe({ module: done.module ?? '', outcome: done.outcome }, done.durationMs / 1000)
  })
}

/** Jobs and deliveries: a delivery's queue is named `event:<group>`. */
function observeRuns(http: Http, data: DataRoot, stores: Observed['stores'], registers: Registry[]): void {
  const durations = new Histogram({
    name: 'job_duration_seconds',
    help: 'Runs of jobs and deliveries of events, by what became of them.',
    labelNames: ['queue', 'name', 'outcome'],
    buckets: requestBuckets,
    registers,
  })
  const waits = new Histogram({
    name: 'job_wait_seconds',
    help: 'From when it could run to when it was taken.',
    labelNames: ['queue'],
    buckets: [0.005, 0.01, 0.025, 0.1, 0.25, 1, 5, 30, 120, 600],
    registers,
  })
  const oldest = new Gauge({
    name: 'job_oldest_wait_seconds',
    help: 'The longest that anything has been waiting though it could run.',
    labelNames: ['queue'],
    registers,
  })
  new Gauge({
    name: 'jobs',
    help: 'Jobs and deliveries in the database, by state.',
    labelNames: ['queue', 'state'],
    registers,
    async collect() {
      const counts = (await Promise.all(stores.all.map(({ queue }) => queue.count().catch(() => [])))).flat()
      this.reset()
      oldest.reset()
      const oldestMs = new Map<string, number>()
      for (const { queue: name, oldestWaitMs, ...states } of counts) {
        // A queue may be in several databases.
        for (const [state, n] of Object.entries(states)) this.inc({ queue: name, state }, n)
        oldestMs.set(name, Math.max(oldestWaitMs, oldestMs.get(name) ?? 0))
      }
      for (const [queue, ms] of oldestMs) oldest.set({ queue }, ms / 1000)
    },
  })
  listen<RunDone>(http, data, runDone, ({ item, outcome, durationMs }) => {
    durations.observe({ queue: item.queue, name: item.name, outcome }, durationMs / 1000)
    waits.observe({ queue: item.queue }, item.waitedMs / 1000)
  })
}

/** Moments, so that an alert is a difference to now: `time() - backup_archived_timestamp_seconds > 5`. Gives what ends it. */
function observeBackups(backupDir: string, registers: Registry[]): () => void {
  const archivedUntil = new Gauge({
    name: 'backup_archived_timestamp_seconds',
    help: 'Everything committed until then is safe in the archive.',
    registers,
  })
  const lastBase = new Gauge({
    name: 'backup_base_timestamp_seconds',
    help: 'End of the last base backup that this process took.',
    registers,
  })
  const failures = new Counter({
    name: 'backup_failures_total',
    help: 'Times that the archive or a base backup failed; each is tried again.',
    registers,
  })
  const handlers = [
    [archived, ({ at }: Archived) => archivedUntil.set(at / 1000)],
    [baseTaken, ({ finishedAt }: BaseTaken) => lastBase.set(finishedAt / 1000)],
    [backupFailed, (_: BackupFailed) => failures.inc()],
  ] as const
  const ends = handlers.map(([channel, handle]) => {
    const listener = (message: unknown) => {
      if ((message as { backupDir: string }).backupDir === backupDir) handle(message as never)
    }
    channel.subscribe(listener)
    return () => channel.unsubscribe(listener)
  })
  return () => {
    for (const end of ends) end()
  }
}

/** Of a process that archives and runs no app: `backupDir` is a real path. */
export function archiverMetrics(backupDir: string) {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const end = observeBackups(backupDir, [registry])
  return { contentType: registry.contentType, text: () => registry.metrics(), end }
}

/** Calls to other services. They belong to the process and not to one app of it. */
function observeOutgoing(http: Http, registers: Registry[]): void {
  const durations = new Histogram({
    name: 'outgoing_duration_seconds',
    help: 'Attempts to call another service, by what became of them; "open" and "full" were not made.',
    labelNames: ['service', 'outcome'],
    buckets: requestBuckets,
    registers,
  })
  const onDone = (message: unknown) => {
    const { name, outcome, durationMs } = message as OutgoingDone
    durations.observe({ service: name, outcome }, durationMs / 1000)
  }
  outgoingDone.subscribe(onDone)
  http.addHook('onClose', (_instance, done) => {
    outgoingDone.unsubscribe(onDone)
    done()
  })
}

/** Requests that were limited, and those with an idempotency key. */
function observeRefusals(http: Http, data: DataRoot, registers: Registry[]): void {
  const limited = new Counter({
    name: 'http_limited_total',
    help: 'Requests refused by a limit (429).',
    labelNames: ['limit'],
    registers,
  })
  const uncounted = new Counter({
    name: 'http_limits_unavailable_total',
    help: 'Times that the shared counts could not be reached and the process counted for itself.',
    registers,
  })
  const keys = new Counter({
    name: 'http_idempotency_total',
    help: 'Requests with an Idempotency-Key, by what became of them.',
    labelNames: ['outcome'],
    registers,
  })
  const refused = new Counter({
    name: 'http_shed_total',
    help: 'Requests refused under too much load (503).',
    labelNames: ['priority'],
    registers,
  })
  listen<Shed>(http, data, shed, ({ priority }) => refused.inc({ priority }))
  listen<LimitDecided>(http, data, limitDecided, ({ outcome, limit }) => {
    if (outcome === 'refused') limited.inc({ limit })
    else uncounted.inc()
  })
  listen<IdempotencyDone>(http, data, idempotencyDone, ({ outcome }) => keys.inc({ outcome }))
}

/** What became of a question, and what is counted of it. */
const cacheOutcomes: [outcome: string, of: (stats: GroupStats) => number][] = [
  ['memory', ({ hits }) => hits],
  ['shared', ({ sharedHits }) => sharedHits],
  ['grace', ({ graces }) => graces],
  ['coalesced', ({ coalesced }) => coalesced],
  ['loaded', ({ loads, failures }) => Math.max(0, loads - failures)],
  ['failed', ({ failures }) => failures],
  ['bypassed', ({ bypassed }) => bypassed],
]

/** The cache counts for itself; here it is only read, when somebody asks. */
function observeCache(http: Http, data: DataRoot, cache: CacheCore, registers: Registry[]): void {
  const labelNames = ['module', 'group'] as const
  new Counter({
    name: 'cache_requests_total',
    help: 'Questions to the cache, by what became of them; background loads are among those loaded and failed.',
    labelNames: [...labelNames, 'outcome'],
    registers,
    collect() {
      this.reset()
      for (const stats of cache.groups.all()) {
        const { module, group } = stats
        for (const [outcome, of] of cacheOutcomes) {
          const n = of(stats)
          if (n > 0) this.inc({ module, group, outcome }, n)
        }
      }
    },
  })
  const ofLoads: [name: string, help: string, of: (stats: GroupStats) => number][] = [
    ['cache_load_seconds_sum', 'Time of all loads.', ({ loadMs }) => loadMs / 1000],
    ['cache_load_seconds_count', 'Loads that began.', ({ loads }) => loads],
  ]
  for (const [name, help, of] of ofLoads) {
    new Counter({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset()
        for (const stats of cache.groups.all()) {
          if (stats.loads > 0) this.inc({ module: stats.module, group: stats.group }, of(stats))
        }
      },
    })
  }
  const ofNow: [name: string, help: string, value: () => number][] = [
    ['cache_entries', 'Entries in the memory of this process.', () => cache.size.entries],
    ['cache_bytes', 'Bytes that they take.', () => cache.size.bytes],
    ['cache_bytes_max', 'Bytes that they may take.', () => cache.size.bytesMax],
  ]
  if (cache.shared) {
    ofNow.push(['cache_shared_up', 'Whether the shared layer is used, 0 or 1.', () => Number(cache.shared!.up)])
  }
  for (const [name, help, value] of ofNow) {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value())
      },
    })
  }
  const failures = new Counter({
    name: 'cache_failures_total',
    help: 'Times that the log of invalidations could not be read, the edge could not be told, or the shared layer was given up.',
    labelNames: ['part'],
    registers,
  })
  const parts: Partial<Record<CacheNews['event'], string>> = {
    'log-failed': 'log',
    'edge-failed': 'edge',
    'shared-down': 'shared',
  }
  listen<CacheNews>(http, data, cacheNews, ({ event }) => {
    const part = parts[event]
    if (part) failures.inc({ part })
  })
  const signals = new Counter({
    name: 'signal_failures_total',
    help: 'Times that a signal to the other processes could not be sent, or the line that carries signals was lost.',
    registers,
  })
  listen<SignalFailure>(http, data, signalFailed, () => signals.inc())
}
