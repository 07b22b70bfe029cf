import { realpathSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { freemem, hostname, totalmem } from 'node:os'
import type { FastifyRequest } from 'fastify'
import type { Counter, Gauge } from 'prom-client'
import { type CallDone, callDone } from '../app/calls.ts'
import { freshRun } from '../kernel/clock.ts'
import { currentScope, type Scope } from '../kernel/scope.ts'
import type { CacheCore } from '../primitives/cache/cache.ts'
import { type CacheNews, cacheNews } from '../primitives/cache/channels.ts'
import type { GroupStats } from '../primitives/cache/stats.ts'
import {
  type StatementDone,
  statementDone,
  type TransactionDone,
  transactionDone,
} from '../primitives/data/channels.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import { groupLags } from '../primitives/events/groups.ts'
import type { Http } from '../primitives/http/contract.ts'
import { type Shed, shed } from '../primitives/http/shedding.ts'
import { type IdempotencyDone, idempotencyDone } from '../primitives/idempotency/channels.ts'
import { type RunDone, runDone } from '../primitives/jobs/channels.ts'
import { type LimitDecided, limitDecided } from '../primitives/limits/channels.ts'
import { type OutgoingDone, outgoingDone } from '../primitives/outgoing/outgoing.ts'
import { type SignalFailure, signalFailed } from '../primitives/signals/channels.ts'
import type { Stores } from '../runtime/stores.ts'
import type { ToolBindings } from '../topology/bindings.ts'
import { observeBackups } from './backup-metrics.ts'
import { Figures, seriesOf } from './figures.ts'
import { listen, listenUntilClose } from './listen.ts'
import { atRequestEnd, clientClosed, type RequestEnd } from './request-end.ts'
import { serverFigures } from './servers.ts'

/** Seconds. From a cached answer to the time limit of a request. */
const requestBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
const statementBuckets = [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10]
const poolWaitBuckets = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5]
const jobWaitBuckets = [0.005, 0.01, 0.025, 0.1, 0.25, 1, 5, 30, 120, 600]

export const metricsPath = '/metrics'

/** Counters for what other observers find. */
export interface Counters {
  slowStatements: Counter
  nPlusOne: Counter
}

export interface Observed {
  stores: Pick<Stores, 'all' | 'events'>
  cache: CacheCore
  backup?: ToolBindings['backup'] | undefined
  zone?: string | undefined
  role?: string
  dataDir?: string
  /** When the certificate of the entry ends, ms since the epoch; `undefined` where it is not known. */
  certificateEndsAt?: (() => Promise<number | undefined>) | undefined
}

/** Serves figures of a running app at `/metrics`: requests, statements, pools, jobs, cache, backups, the process. */
export function metrics(
  http: Http,
  data: DataRoot,
  { stores, cache, backup, zone = '', role = '', dataDir, certificateEndsAt }: Observed,
  figures = new Figures(),
): Counters {
  const help = 'This process: 1, with where it runs and what it does as labels.'
  figures.gauge('process_info', help, ['zone', 'role'], (gauge) => gauge.set({ zone, role }, 1))
  observeEventLoop(figures)
  observeMachine(figures, dataDir)
  if (certificateEndsAt) {
    const text = 'When the certificate of the entry ends.'
    figures.gauge('tls_certificate_end_timestamp_seconds', text, [], async (gauge) => {
      const endsAt = await certificateEndsAt().catch(() => undefined)
      if (endsAt === undefined) gauge.remove()
      else gauge.set(endsAt / 1000)
    })
  }
  observeRequests(http, data, figures)
  observeStatements(http, data, figures)
  serverFigures(http, data, figures)
  observeRuns(http, data, stores, figures)
  observeEvents(stores, figures)
  observeRefusals(http, data, figures)
  observeCache(http, data, cache, figures)
  observeSignals(http, data, figures)
  observeOutgoing(http, figures)
  observeCalls(http, figures)
  if (backup?.dir !== undefined) {
    const end = observeBackups(realpathSync(backup.dir), backup.bucket !== undefined, figures)
    http.addHook('onClose', (_instance, done) => {
      end()
      done()
    })
  }
  const options = { schema: { hide: true }, config: { system: true }, logLevel: 'silent' } as const
  http.get(metricsPath, options, async (_request, reply) => reply.type(figures.contentType).send(await figures.text()))
  return {
    slowStatements: figures.counter('db_slow_statements_total', 'Statements of 100 ms or more.', ['module']),
    nPlusOne: figures.counter('db_n_plus_one_total', 'Units of work that ran one statement ten times or more.', [
      'route',
    ]),
  }
}

function observeEventLoop(figures: Figures): void {
  const begin = performance.eventLoopUtilization()
  let last = begin
  const help = 'Share of time in which the event loop was busy since the last reading, 0 to 1.'
  figures.gauge('nodejs_eventloop_utilization', help, [], (gauge) => {
    const now = performance.eventLoopUtilization()
    gauge.set(performance.eventLoopUtilization(now, last).utilization)
    last = now
  })
  figures.countedElsewhere(
    'nodejs_eventloop_busy_seconds_total',
    'Time in which the event loop was busy.',
    [],
    (counter) => {
      const { active } = performance.eventLoopUtilization(performance.eventLoopUtilization(), begin)
      counter.inc(active / 1000)
    },
  )
}

/** With everything elsewhere there is no data directory. */
function observeMachine(figures: Figures, dataDir: string | undefined): void {
  const host = hostname()
  const set = (gauge: Gauge, free: number, all: number) => {
    for (const [state, bytes] of Object.entries({ free, all })) gauge.set({ host, state }, bytes)
  }
  const labels = ['host', 'state']
  figures.gauge('machine_memory_bytes', 'Memory of this machine, by state: free, all.', labels, (gauge) =>
    set(gauge, freemem(), totalmem()),
  )
  if (dataDir === undefined) return
  figures.gauge('disk_bytes', 'The disk of the data directory, by state: free, all.', labels, async (gauge) => {
    const disk = await statfs(dataDir).catch(() => undefined)
    if (disk) set(gauge, disk.bsize * disk.bavail, disk.bsize * disk.blocks)
  })
}

function observeRequests(http: Http, data: DataRoot, figures: Figures): void {
  const series = seriesOf(
    figures.histogram(
      'http_request_duration_seconds',
      'From the request line to the end of the answer; refused="yes": before it reached a handler.',
      ['method', 'route', 'status', 'module', 'refused'],
      requestBuckets,
    ),
  )
  let running = 0
  figures.gauge('http_requests_in_flight', 'Requests being answered.', [], (gauge) => gauge.set(running))
  http.addHook('onRequest', (_request, _reply, done) => {
    running += 1
    done()
  })
  const isRefused = observeHandlers(http, data)
  atRequestEnd(http, (end) => {
    running -= 1
    const { request, status, durationMs } = end
    const { method } = request
    const { url: route = '(none)' } = request.routeOptions
    const refused = isRefused(end)
    const labels = () => ({
      ...{ method, route, status: String(status), module: moduleOf(request) },
      ...(refused && { refused: 'yes' }),
    })
    series(`${method} ${route} ${status}${refused ? ' refused' : ''}`, labels).observe(durationMs / 1000)
  })
}

/** Such a request says nothing of the app's code: it was limited, shed or not valid. Returns whether one was refused. */
function observeHandlers(http: Http, data: DataRoot): (end: RequestEnd) => boolean {
  const handled = new WeakSet<Scope>()
  const sheds = new WeakSet<FastifyRequest>()
  http.addHook('onRoute', (route) => {
    const { handler } = route
    route.handler = function noted(request, reply) {
      const scope = currentScope()
      if (scope) handled.add(scope)
      return handler.call(this, request, reply)
    }
  })
  listen<Shed>(http, data, shed, ({ request }) => sheds.add(request))
  return ({ request, scope, status }) => {
    if (scope && handled.has(scope)) return false
    return sheds.has(request) || (status >= 400 && status < clientClosed)
  }
}

export function moduleOf(request: FastifyRequest): string {
  return (request.routeOptions.config as { module?: string } | undefined)?.module ?? ''
}

function observeStatements(http: Http, data: DataRoot, figures: Figures): void {
  const durations = seriesOf(
    figures.histogram(
      'db_statement_duration_seconds',
      'From sending a statement to its last row.',
      ['module', 'target', 'command'],
      statementBuckets,
    ),
  )
  const waits = seriesOf(
    figures.histogram('db_pool_wait_seconds', 'Waiting for a database connection.', ['target'], poolWaitBuckets),
  )
  const errors = figures.counter('db_statement_errors_total', 'Failed statements.', ['module', 'code'])
  const transactions = figures.histogram(
    'db_transaction_duration_seconds',
    'From begin to the end of the commit or rollback; a retry counts as a transaction of its own.',
    ['module', 'outcome'],
    requestBuckets,
  )
  const help = 'Connections of this process, by state; max is the limit.'
  figures.gauge('db_pool_connections', help, ['database', 'target', 'state'], (gauge) => {
    for (const database of data.databases) {
      for (const target of ['read', 'write', 'own'] as const) {
        const { max, total, idle, waiting } = database.counts(target)
        for (const [state, n] of Object.entries({ max, busy: total - idle, idle, waiting }))
          gauge.set({ database: database.name, target, state }, n)
      }
    }
  })
  listen<StatementDone>(http, data, statementDone, ({ module = '', target, command, durationMs, waitMs, error }) => {
    durations(`${module}\0${target}\0${command}`, () => ({ module, target, command })).observe(durationMs / 1000)
    waits(target, () => ({ target })).observe(waitMs / 1000)
    if (error) errors.inc({ module, code: error.code })
  })
  listen<TransactionDone>(http, data, transactionDone, ({ module = '', outcome, durationMs }) => {
    transactions.observe({ module, outcome }, durationMs / 1000)
  })
}

/** Jobs and deliveries: the queue of a delivery is named `event:<group>`. */
function observeRuns(http: Http, data: DataRoot, stores: Observed['stores'], figures: Figures): void {
  const durations = figures.histogram(
    'job_duration_seconds',
    'Runs of jobs and deliveries of events, by outcome.',
    ['queue', 'name', 'outcome'],
    requestBuckets,
  )
  const waits = figures.histogram(
    'job_wait_seconds',
    'From when a job could run to when it was claimed.',
    ['queue'],
    jobWaitBuckets,
  )
  const oldest = figures.gauge('job_oldest_wait_seconds', 'The longest wait of a job that could run.', ['queue'])
  figures.gauge('jobs', 'Jobs and deliveries in the database, by state.', ['queue', 'state'], async (gauge) => {
    const counts = (await Promise.all(stores.all.map(({ queue }) => queue.count().catch(() => [])))).flat()
    gauge.reset()
    oldest.reset()
    const oldestMs = new Map<string, number>()
    for (const { queue, oldestWaitMs, ...states } of counts) {
      // A queue may be in several databases.
      for (const [state, n] of Object.entries(states)) gauge.inc({ queue, state }, n)
      oldestMs.set(queue, Math.max(oldestWaitMs, oldestMs.get(queue) ?? 0))
    }
    for (const [queue, ms] of oldestMs) oldest.set({ queue }, ms / 1000)
  })
  listen<RunDone>(http, data, runDone, ({ item: { queue, name, waitedMs }, outcome, durationMs }) => {
    durations.observe({ queue, name, outcome }, durationMs / 1000)
    waits.observe({ queue }, waitedMs / 1000)
  })
}

/** Events that go over a broker, of each database. */
function observeEvents(stores: Observed['stores'], figures: Figures): void {
  if (stores.events === 'table') return
  const states = freshRun(async () => {
    const all = await Promise.all(stores.all.map(({ log }) => log.state().catch(() => undefined)))
    return all.filter((state) => state !== undefined)
  })
  figures.gauge('events_unsent', 'Published events that the broker does not have yet.', ['database'], async (gauge) => {
    gauge.reset()
    for (const { source, unnumbered, unsent } of await states()) gauge.set({ database: source }, unnumbered + unsent)
  })
  figures.gauge(
    'events_oldest_unsent_seconds',
    'How long the oldest of these has waited.',
    ['database'],
    async (gauge) => {
      gauge.reset()
      for (const { source, oldestMs } of await states()) gauge.set({ database: source }, oldestMs / 1000)
    },
  )
  figures.gauge(
    'events_behind',
    'Events of a database that a group does not have yet.',
    ['database', 'group'],
    async (gauge) => {
      const logs = stores.all.map(({ database, log }) => ({ name: database.name, log }))
      const lags = await groupLags(logs).catch(() => [])
      gauge.reset()
      for (const { source, group, behind } of lags) gauge.set({ database: source, group }, behind)
    },
  )
}

/** Calls to other services belong to the process, not to one app of it. */
function observeOutgoing(http: Http, figures: Figures): void {
  const durations = figures.histogram(
    'outgoing_duration_seconds',
    'Attempts to call another service, by outcome; "open" and "full" were not made.',
    ['service', 'outcome'],
    requestBuckets,
  )
  listenUntilClose(http, outgoingDone, (message) => {
    const { name, outcome, durationMs } = message as OutgoingDone
    durations.observe({ service: name, outcome }, durationMs / 1000)
  })
}

function observeCalls(http: Http, figures: Figures): void {
  const help = 'Calls of a module by another one, in this process or on other nodes.'
  const durations = figures.histogram('module_call_duration_seconds', help, ['from', 'to'], requestBuckets)
  listenUntilClose(http, callDone, (message) => {
    const { from, to, durationMs } = message as CallDone
    durations.observe({ from, to }, durationMs / 1000)
  })
}

/** Requests that were limited or shed, and those with an idempotency key. */
function observeRefusals(http: Http, data: DataRoot, figures: Figures): void {
  const limited = figures.counter('http_limited_total', 'Requests refused by a limit (429).', ['limit'])
  const uncounted = figures.counter(
    'http_limits_unavailable_total',
    'Times that the shared counts could not be reached and the process counted for itself.',
  )
  const keys = figures.counter('http_idempotency_total', 'Requests with an Idempotency-Key, by outcome.', ['outcome'])
  const refused = figures.counter('http_shed_total', 'Requests refused under too much load (503).', ['priority'])
  listen<Shed>(http, data, shed, ({ priority }) => refused.inc({ priority }))
  listen<LimitDecided>(http, data, limitDecided, ({ outcome, limit }) => {
    if (outcome === 'refused') limited.inc({ limit })
    else uncounted.inc()
  })
  listen<IdempotencyDone>(http, data, idempotencyDone, ({ outcome }) => keys.inc({ outcome }))
}

function observeSignals(http: Http, data: DataRoot, figures: Figures): void {
  const failures = figures.counter(
    'signal_failures_total',
    'Times that a signal to the other processes could not be sent, or the line that carries signals was lost.',
  )
  listen<SignalFailure>(http, data, signalFailed, () => failures.inc())
}

/** The outcomes of a request to the cache. */
const cacheOutcomes: Record<string, (stats: GroupStats) => number> = {
  memory: ({ hits }) => hits,
  shared: ({ sharedHits }) => sharedHits,
  grace: ({ graces }) => graces,
  coalesced: ({ coalesced }) => coalesced,
  loaded: ({ loads, failures }) => Math.max(0, loads - failures),
  failed: ({ failures }) => failures,
  bypassed: ({ bypassed }) => bypassed,
}

/** Which part of the cache an event is a failure of. */
const cacheParts: Partial<Record<CacheNews['event'], string>> = {
  'log-failed': 'log',
  'edge-failed': 'edge',
  'shared-down': 'shared',
}

/** The cache counts by itself; its counts are read when the figures are asked for. */
function observeCache(http: Http, data: DataRoot, cache: CacheCore, figures: Figures): void {
  const labels = ['module', 'group']
  const count = (name: string, help: string, extra: string[], of: (stats: GroupStats) => [n: number, object?][]) =>
    figures.countedElsewhere(name, help, [...labels, ...extra], (counter) => {
      for (const stats of cache.groups.all()) {
        const { module, group } = stats
        for (const [n, more] of of(stats)) if (n > 0) counter.inc({ module, group, ...more }, n)
      }
    })
  count(
    'cache_requests_total',
    'Requests to the cache, by outcome; background loads are among those loaded and failed.',
    ['outcome'],
    (stats) => Object.entries(cacheOutcomes).map(([outcome, of]) => [of(stats), { outcome }]),
  )
  count('cache_load_seconds_sum', 'Time of all loads.', [], ({ loadMs }) => [[loadMs / 1000]])
  count('cache_load_seconds_count', 'Loads that began.', [], ({ loads }) => [[loads]])
  figures.gauge('cache_entries', 'Entries in the memory of this process.', [], (gauge) => gauge.set(cache.size.entries))
  figures.gauge('cache_bytes', 'Bytes that they take.', [], (gauge) => gauge.set(cache.size.bytes))
  figures.gauge('cache_bytes_max', 'Bytes that they may take.', [], (gauge) => gauge.set(cache.size.bytesMax))
  const { shared } = cache
  if (shared) {
    const help = 'Whether the shared layer is used, 0 or 1.'
    figures.gauge('cache_shared_up', help, [], (gauge) => gauge.set(Number(shared.up)))
  }
  const failures = figures.counter(
    'cache_failures_total',
    'Times that the log of invalidations could not be read, the edge not be told, or the shared layer was given up.',
    ['part'],
  )
  listen<CacheNews>(http, data, cacheNews, ({ event }) => {
    const part = cacheParts[event]
    if (part) failures.inc({ part })
  })
}
