import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import path from 'node:path'
import type { App } from '../app/define-app.ts'
import type { Tx } from '../app/work.ts'
import type { Tell } from '../backup/keep.ts'
import { atMost, sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { parseMailbox } from '../kernel/mail-address.ts'
import { type MigrationEvent, migrate } from '../migrations/migrate.ts'
import { keepFigures } from '../primitives/cache/figures.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import { createFiles } from '../primitives/files/files.ts'
import { trustedNetworks } from '../primitives/http/address.ts'
import type { Http } from '../primitives/http/contract.ts'
import { sharedEntry } from '../primitives/http/entry.ts'
import { createHttp, requestTimeoutOf } from '../primitives/http/http.ts'
import { checkLimits } from '../primitives/limits/limits.ts'
import { createMail } from '../primitives/mail/mail.ts'
import { idleMsOf, noSessions } from '../primitives/sessions/sessions.ts'
import type { Bindings } from '../topology/bindings.ts'
import { alertLine } from './alerts.ts'
import { backupSource, refuseExternal } from './backups.ts'
import { feedSearch } from './feed-search.ts'
import { boundaryGuard } from './guard.ts'
import type { OwnFacts } from './health.ts'
import { homesOf } from './homes.ts'
import { keepWarm } from './keep-warm.ts'
import type { Log } from './log.ts'
import { migrationsOf, systemMigrations } from './migrations.ts'
import { addModules, callKeys, type ModuleParts } from './modules.ts'
import { openPrimitives, type Primitives } from './primitives.ts'
import { purgeLine } from './purge-cdn.ts'
import { remoteCalls } from './remote-calls.ts'
import { type RequestParts, requestStages } from './request-stages.ts'
import { deriveKeys, storedRoot } from './secrets.ts'
import type { StoreParts } from './stores.ts'
import { everyMinute, pruneAll } from './upkeep.ts'
import {
  type ApartServer,
  type DatabaseServer,
  mainDatabase,
  openBroker,
  openCache,
  openCdn,
  openDatabase,
  openFileStore,
  openLimiter,
  openMail,
  openPositions,
  openRedis,
  openSearchServer,
  openSessions,
  openSignals,
  ownDataDir,
  startDatabaseServer,
} from './wire.ts'
import { startWork, subscribe } from './work.ts'

/** Something beside the app that wants its HTTP and its data: metrics, traces, a console. */
export type Extension = (
  http: Http,
  parts: { data: DataRoot<Tx>; server: DatabaseServer; log: Log; bindings: Bindings; primitives: Primitives },
) => void | Promise<void>

export interface BootOptions {
  log: Log
  extensions?: readonly Extension[]
  onMigration?: (event: MigrationEvent) => void
  /** In place of `startWork`: the test kit runs jobs when the test says so. */
  startWork?: typeof startWork
  /** Opens a database in another way: with servers that lag, for example. */
  openDatabase?: typeof openDatabase
  /** Keeps positions in another way. */
  openPositions?: typeof openPositions
  /** `false`: sessions are looked up for each request. Otherwise one that another process has ended may last for the time of a copy. */
  rememberSessions?: boolean
}

/** A process that answers. */
export interface Running {
  /** `http://127.0.0.1:3000` */
  readonly url: string
  readonly http: Http
  readonly data: DataRoot<Tx>
  readonly server: DatabaseServer
  /** `stop` resolves within this time. */
  readonly stopTimeoutMs: number
  /** From now on `/readyz` says that it is not ready. */
  drain(): void
  /** Stops taking requests, finishes those in hand, closes the database. Twice is the same as once. */
  stop(): Promise<void>
}

/** What a start works with. `undo` is run in reverse order at a stop, and after a start that failed. */
interface Starting extends BootOptions {
  app: App
  bindings: Bindings
  undo: (() => Promise<unknown>)[]
}

/**
 * From an app and a configuration to a running process, in the stages below. What a failed start had started is stopped.
 * @throws a RungError that says what to change
 */
export async function boot(app: App, bindings: Bindings, options: BootOptions): Promise<Running> {
  const { log } = options
  const undo: Starting['undo'] = []
  const starting = { ...options, app, bindings, undo }
  const requestTimeoutMs = requestTimeoutOf(app.http)
  const stopTimeoutMs = bindings.drainMs + requestTimeoutMs + bindings.graceMs + closingMs
  const health = { draining: false }
  checkLimits(app.limits)
  try {
    const [server, http] = await stage(log, 'database server', () => startServer(starting))
    await stage(log, 'backups', () => startBackups(starting, server))
    await stage(log, 'migrations', () => migrateAll(starting, server))
    const parts = await stage(log, 'primitives', () => openParts(starting, server, http))
    // At a stop requests are finished first, then work, then engines are closed.
    let endWork: (() => Promise<void>) | undefined
    undo.push(async () => endWork?.())
    undo.push(() => http.close())
    const ownFacts: OwnFacts = { requestTimeoutMs, stopTimeoutMs, trustedProxies: trustedNetworks(app.http.trustProxy) }
    const request: RequestParts = { ...parts, health, ownFacts }
    for (const { name, add } of requestStages) await stage(log, `requests: ${name}`, () => add(request))
    const added = await stage(log, 'modules', () => addModules({ ...parts, sessions: request.sessions }))
    const { work, elsewhere, warms } = added
    if (bindings.inFleet) ownFacts.routes = added.routes
    const { entryFd } = bindings.http
    const entry = entryFd === undefined ? undefined : sharedEntry(http, entryFd)
    endWork = await stage(log, 'work', () => startAllWork(starting, parts, work, elsewhere))
    await stage(log, 'warm cache', async () => {
      if (bindings.cache.enabled && warms.length > 0)
        undo.push(await keepWarm(warms, parts.primitives.cache, http, log))
    })
    await stage(log, 'listen', () => listen(http, bindings))
    await stage(log, 'entry', () => entry?.open())
    let stopping: Promise<void> | undefined
    const drain = () => {
      health.draining = true
    }
    return {
      url: urlOf(http),
      http,
      data: parts.primitives.data,
      server,
      stopTimeoutMs,
      drain,
      stop() {
        drain()
        stopping ??= sleep(bindings.drainMs)
          .then(() => entry?.leave())
          .then(() => stopAll(undo))
        return stopping
      },
    }
  } catch (error) {
    await stopAll(undo).catch((failure) => log.error({ err: failure }, 'stopping after a failed start failed as well'))
    throw error
  }
}

async function stage<T>(log: Log, name: string, run: () => Promise<T> | T): Promise<T> {
  const begunAt = systemClock.ticks()
  const result = await run()
  log.debug({ event: 'boot-stage', stage: name, ms: Math.round(systemClock.ticks() - begunAt) }, `started: ${name}`)
  return result
}

/** Both the database server and Fastify take their time, and neither needs the other. */
async function startServer({ app, bindings, log, undo }: Starting): Promise<[DatabaseServer, Http]> {
  if (bindings.data.engine === 'external' && bindings.secret === undefined) await ownDataDir(bindings)() // the root of the keys is kept there
  const [server, http] = await Promise.allSettled([
    startDatabaseServer(bindings, log, bindings.role === 'worker' ? 'join' : 'own'),
    createHttp(httpSettings(app, bindings, log)),
  ])
  if (server.status === 'rejected') throw server.reason
  undo.push(() => server.value.stop())
  if (http.status === 'rejected') throw http.reason
  return [server.value, http.value]
}

async function startBackups({ bindings, log, undo }: Starting, server: DatabaseServer): Promise<void> {
  if (bindings.backup.dir === undefined || bindings.role === 'worker') return
  const { keepBackups } = await import('../backup/keep.ts') // loaded only where something is archived
  refuseExternal(bindings)
  const tell: Tell = (level, event, message, facts) => log[level]({ event, ...facts }, message)
  const source = backupSource(bindings, server, bindings.backup.dir)
  const backups = await keepBackups({ ...source, dataDir: bindings.dataDir, tell })
  undo.push(() => backups.stop())
}

/** A start waits for the backfill of such a table; a larger one is for `rung migrate`. */
const backfillRowsMax = 100_000

/** Each database has Rung's own tables and those of its modules. */
async function migrateAll({ app, bindings, onMigration }: Starting, server: DatabaseServer): Promise<void> {
  const elsewhere = new Set(bindings.databases.flatMap(({ modules }) => modules))
  const options = { backfillRowsMax, ...(onMigration && { onEvent: onMigration }) }
  const migrations = await migrationsOf(app, (module) => !elsewhere.has(module))
  await migrate({ connection: await server.primary(), migrations, ...options }).catch((error) => {
    throw bindings.mode === 'development' && bindings.data.engine === 'embedded' ? orBeginAnew(error, bindings) : error
  })
  for (const { name, url, modules } of bindings.databases) {
    const migrations = await migrationsOf(app, (module) => modules.includes(module))
    await migrate({ connection: { url }, migrations, ...options }).catch((error) => {
      throw isRungError(error, 'DATA_UNAVAILABLE') ? isAway(name, error) : error
    })
  }
}

function isAway(name: string, error: RungError): RungError {
  const why = messageOf(error.cause ?? error).replace(/\.+$/, '')
  const message = `The database "${name}" cannot be used: ${why}. Start it, or correct its url in "databases" of rung.config.ts, and start the app again.`
  return new RungError('DATA_UNAVAILABLE', message, { cause: error })
}

type OpenedParts = Omit<RequestParts, 'health' | 'ownFacts'> &
  ModuleParts & {
    apart: ApartServer | undefined
    /** The upkeep of limits whose counts are shared. */
    prune?: (max: number) => Promise<number>
  }

/** Opens everything that modules and requests work with. */
async function openParts(starting: Starting, server: DatabaseServer, http: Http): Promise<OpenedParts> {
  const { app, bindings, log, undo } = starting
  const { primitives, redis, apart } = await openAllPrimitives(starting, server)
  const { database } = primitives.stores.main
  const keys = deriveKeys(bindings.secret ?? (await storedRoot(bindings.dataDir)))
  const broker = bindings.role === 'web' ? undefined : await openBroker(bindings, app.name, log)
  if (broker) undo.push(() => broker.close())
  const { transport, inbox } = await openMail(bindings, log)
  undo.push(() => transport.close())
  const { callsUrl } = bindings
  const tags = { inherit: primitives.cache.inheritTags.bind(primitives.cache) }
  const remote = callsUrl === undefined ? undefined : remoteCalls({ url: callsUrl, keys: keys(callKeys), tags })
  undo.push(async () => remote?.close())
  const extensionParts = { data: primitives.data, server, log, bindings, primitives }
  return {
    app,
    bindings,
    log,
    http,
    primitives,
    redis: redis && {
      get isUp() {
        return redis.every(({ client }) => client.isUp)
      },
    },
    broker,
    apart,
    keys,
    inbox,
    sessions: noSessions,
    homes: homesOf(app, bindings),
    remote,
    observers: (starting.extensions ?? []).map((extension) => () => extension(http, extensionParts)),
    sessionStore: await openSessions(database, redis, starting.rememberSessions),
    positions: await (starting.openPositions ?? openPositions)(bindings.data, redis),
    ...(bindings.limits === 'on' ? await openLimiter(bindings, database, redis) : { limiter: undefined }),
    files: createFiles(await openFileStore(bindings, log), keys('rung/files-url')),
    mail: createMail({
      transport,
      from: parseMailbox(bindings.mail.from)!,
      idKeys: keys('rung/mail-id'),
      inTransaction: primitives.data.inTransaction,
    }),
    mailAsked: once(() => {
      if (inbox && bindings.mode === 'production') log.warn({ event: 'mail-not-sent' }, mailNotSent(bindings.dataDir))
    }),
  }
}

async function openAllPrimitives(starting: Starting, server: DatabaseServer) {
  const { app, bindings, log, undo } = starting
  const open = starting.openDatabase ?? openDatabase
  const main = { database: open(bindings.data, server.connection, mainDatabase) }
  const others = bindings.databases.map(({ name, url, modules }): StoreParts => {
    return { database: open(bindings.data, { url }, name), modules }
  })
  const databases = [main, ...others].map(({ database }) => database)
  undo.push(() => atMost(closeMsMax, Promise.all(databases.map((one) => one.close()))))
  const apart = openSearchServer(bindings, (connection) => migrate({ connection, migrations: systemMigrations }))
  if (apart) undo.push(() => atMost(closeMsMax, apart.close()))
  const redis = await openRedis(bindings, app.name, log)
  for (const { client } of redis ?? []) undo.push(async () => client.close())
  const { shared } = bindings.cache
  const primitives = openPrimitives({
    databases: [main, ...others],
    events: bindings.events.engine,
    search: apart?.of,
    signals: await openSignals(
      main.database,
      server.primary,
      redis && shared && { nodes: redis, urls: shared.urls, app: app.name },
    ),
    guard: boundaryGuard(
      bindings.mode,
      new Map(app.modules.map((module) => [module.name, module.reads ?? []] as const)),
      log,
    ),
    cache: {
      ...(await openCache(bindings, databases, redis)),
      off: !bindings.cache.enabled,
      requestTimeoutMs: requestTimeoutOf(app.http),
    },
  })
  undo.push(() => primitives.close())
  await primitives.cache.open()
  undo.push(
    keepFigures(primitives.cache, main.database, {
      process: `${hostname()}:${process.pid}`,
      failed: (error) => log.debug({ event: 'cache-figures', err: error }, 'the figures of the cache were not written'),
    }),
  )
  return { primitives, redis, apart }
}

type Work = Awaited<ReturnType<typeof addModules>>['work']

/**
 * Starts what is done off the request path. Only workers do it, but every process publishes, so every group must be known.
 * @returns what ends it
 */
async function startAllWork(
  starting: Starting,
  parts: OpenedParts,
  work: Work,
  elsewhere: Work,
): Promise<(() => Promise<void>) | undefined> {
  const { app, bindings, log } = starting
  const { primitives, sessionStore, prune, broker, apart } = parts
  for (const { name, job } of work.crons) {
    if ([...work.jobs, ...elsewhere.jobs].some((one) => one.job.name === job.name)) continue
    const message = `Cron "${name}" enqueues the job "${job.name}", which no module of this app handles. Add handle(…) to the work of a module.`
    log.warn({ event: 'cron-unhandled' }, message)
  }
  await subscribe({ ...work, consumed: [...work.consumed, ...elsewhere.consumed] }, primitives)
  if (bindings.role === 'web') return undefined
  const purges = await openCdn(bindings)
  const { sessions } = app
  const endFeeds = apart ? primitives.stores.all.map(({ database }) => feedSearch(apart.of(database), log)) : []
  const endWork = (starting.startWork ?? startWork)(work, primitives, {
    graceMs: bindings.graceMs,
    broker,
    ...(bindings.events.engine !== 'table' && { eventsKeptMs: bindings.events.keptMs }),
    lines: [
      ...(purges ? [purgeLine(purges)] : []),
      ...(bindings.alerts ? [alertLine(bindings.alerts, parts.mail.forModule('rung'))] : []),
    ],
    upkeep: [
      ...(sessions
        ? [
            everyMinute('delete sessions', (stop) =>
              pruneAll((max) => sessionStore.prune(idleMsOf(sessions), max), stop),
            ),
          ]
        : []),
      ...(prune ? [everyMinute('delete counts of limits', (stop) => pruneAll(prune, stop))] : []),
    ],
    failed: (error, task) =>
      log.warn({ event: 'upkeep-failed', task, err: error }, `upkeep failed: ${messageOf(error)}`),
  })
  return async () => {
    await endWork()
    await Promise.all(endFeeds.map((end) => end()))
  }
}

/** At a stop, besides requests and jobs: connections to engines are closed, what is counted is written down. */
export const closingMs = 20_000
/** Work that hangs in a transaction must not keep the process, and its database, from stopping. */
const closeMsMax = 10_000

async function stopAll(undo: readonly (() => Promise<unknown>)[]): Promise<void> {
  const failures: unknown[] = []
  for (const step of [...undo].reverse()) await step().catch((error) => failures.push(error))
  if (failures.length > 0) throw failures[0]
}

function httpSettings(app: App, bindings: Bindings, log: Log) {
  return {
    title: app.name,
    ...app.http,
    trustProxy: [...trustedNetworks(app.http.trustProxy), ...bindings.http.trustProxy],
    logger: log.child({}),
    revealing: bindings.mode !== 'production',
  }
}

/** Where the data is only for trying things out, there is a shorter way than to restore a file. */
function orBeginAnew(error: unknown, { dataDir }: Bindings): unknown {
  if (!isRungError(error, 'MIGRATION_CHANGED')) return error
  const place = path.relative(process.cwd(), dataDir) || '.'
  const message = `${error.message} To begin with an empty database, stop the app and delete its data directory, ${place}.`
  return new RungError(error.code, message, { cause: error, facts: error.facts })
}

function mailNotSent(dataDir: string): string {
  return `This app sends mail, and there is no RUNG_SMTP_URL: each mail is written into ${path.join(dataDir, 'mail')} and reaches nobody. Set RUNG_SMTP_URL and RUNG_MAIL_FROM.`
}

function once(fn: () => void): () => void {
  let done = false
  return () => {
    if (!done) fn()
    done = true
  }
}

async function listen(http: Http, bindings: Bindings): Promise<void> {
  const { host, port } = bindings.http
  const { level } = http.log
  http.log.level = 'warn' // whoever starts the app tells where it listens
  try {
    await http.listen({ host, port })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EADDRINUSE') {
      throw new RungError(
        'PORT_IN_USE',
        `Port ${port} of ${host} is in use. Stop what uses it, or set PORT (or --port) to another one.`,
        { cause: error },
      )
    }
    if (code === 'EACCES' || code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
      throw new RungError(
        'CONFIG_INVALID',
        `Cannot listen on ${host}:${port} (${messageOf(error)}). Set HOST and PORT.`,
        { cause: error },
      )
    }
    throw error
  } finally {
    http.log.level = level
  }
}

function urlOf(http: Http): string {
  const { address, family, port } = http.server.address() as AddressInfo
  const host = address === '0.0.0.0' || address === '::' ? 'localhost' : family === 'IPv6' ? `[${address}]` : address
  return `http://${host}:${port}`
}
