import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import path from 'node:path'
import type { App } from '../app/define-app.ts'
import type { ModuleContext, UsedCalls } from '../app/define-module.ts'
import { localCalls } from '../app/local-calls.ts'
import type { Tx } from '../app/work.ts'
import type { Tell } from '../backup/keep.ts'
import { atMost, sleep } from '../kernel/clock.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { sessionCookieNames } from '../kernel/http-facts.ts'
import { parseMailbox } from '../kernel/mail-address.ts'
import { loadMigrations, type MigrationEvent, migrate } from '../migrations/migrate.ts'
import { keepFigures } from '../primitives/cache/figures.ts'
import { cachedRoutes } from '../primitives/cache/routes.ts'
import type { DeclaredWarm } from '../primitives/cache/warming.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Migration } from '../primitives/data/migrations.ts'
import { createFiles, type FilesRoot } from '../primitives/files/files.ts'
import { serveFiles } from '../primitives/files/serve.ts'
import { loadAssets } from '../primitives/http/assets.ts'
import type { Http } from '../primitives/http/contract.ts'
import { tellEdge } from '../primitives/http/edge-terms.ts'
import { createHttp, requestTimeoutOf } from '../primitives/http/http.ts'
import { identifyBy } from '../primitives/http/principal.ts'
import { shedRequests } from '../primitives/http/shedding.ts'
import { idempotentRoutes } from '../primitives/idempotency/idempotency.ts'
import { jobsOf } from '../primitives/jobs/jobs.ts'
import { checkLimits, limitRequests } from '../primitives/limits/limits.ts'
import { serveInbox } from '../primitives/mail/inbox.ts'
import { createMail, type MailRoot } from '../primitives/mail/mail.ts'
import { carryPositions } from '../primitives/positions/positions.ts'
import { searchFor } from '../primitives/search/search.ts'
import type { SessionStore } from '../primitives/sessions/contract.ts'
import { cookieSessions, noSessions, type Sessions } from '../primitives/sessions/sessions.ts'
import type { Bindings } from '../topology/bindings.ts'
import { backupSource, refuseExternal } from './backups.ts'
import { boundaryGuard } from './guard.ts'
import { type Health, health } from './health.ts'
import { keepWarm } from './keep-warm.ts'
import type { Log } from './log.ts'
import { openPrimitives, type Primitives, systemMigrations } from './primitives.ts'
import { purgeLine } from './purge-cdn.ts'
import { checkRouteConfigs } from './route-config.ts'
import { deriveSecrets, storedRoot } from './secrets.ts'
import {
  type DatabaseServer,
  openCache,
  openCdn,
  openDatabase,
  openFileStore,
  openLimiter,
  openMail,
  openPositions,
  openRedis,
  openSessions,
  openSignals,
  ownDataDir,
  startDatabaseServer,
  tagHeader,
} from './wire.ts'
import { type AppWork, addWork, startWork, subscribe } from './work.ts'

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
  /** Stops taking requests, finishes those in hand, closes the database. Twice is the same as once. */
  stop(): Promise<void>
}

/**
 * From an app and a configuration to a running process. What fails stops what had been started.
 * @throws a RungError that says what to change
 */
export async function boot(app: App, bindings: Bindings, options: BootOptions): Promise<Running> {
  const { log } = options
  const requestTimeoutMs = requestTimeoutOf(app.http)
  const stopTimeoutMs = bindings.drainMs + requestTimeoutMs + bindings.graceMs + closingMs
  const undo: (() => Promise<unknown>)[] = []
  try {
    if (bindings.data.engine === 'external' && bindings.secret === undefined) await ownDataDir(bindings)() // the root of the keys is kept there
    // Both take their time and neither needs the other.
    const [server, http] = await settled(
      startDatabaseServer(bindings, log, bindings.role === 'worker' ? 'join' : 'own'),
      createHttp(httpSettings(app, bindings, log)),
      (started) => started.stop(),
    )
    undo.push(() => server.stop())
    if (bindings.backup.dir !== undefined && bindings.role !== 'worker') {
      const { keepBackups } = await import('../backup/keep.ts') // loaded only where something is archived
      refuseExternal(bindings)
      const tell: Tell = (level, event, message, facts) => log[level]({ event, ...facts }, message)
      const source = backupSource(bindings, server, bindings.backup.dir)
      const backups = await keepBackups({ ...source, dataDir: bindings.dataDir, tell })
      undo.push(() => backups.stop())
    }
    await migrate({
      connection: server.connection,
      migrations: await migrationsOf(app),
      ...(options.onMigration && { onEvent: options.onMigration }),
    }).catch((error) => {
      throw bindings.mode === 'development' && bindings.data.engine === 'embedded'
        ? orBeginAnew(error, bindings)
        : error
    })
    const database = openDatabase(bindings.data, server.connection)
    undo.push(() => atMost(closeMsMax, database.close()))
    const reads = new Map(app.modules.map((module) => [module.name, module.reads ?? []] as const))
    const redis = await openRedis(bindings, app.name, log)
    const layers = await openCache(bindings, app.name, database, redis)
    const { shared } = bindings.cache
    const signals = await openSignals(
      database,
      server.connection,
      redis && shared && { client: redis, url: shared.url, app: app.name },
    )
    const primitives = openPrimitives(database, signals, boundaryGuard(bindings.mode, reads, log), {
      ...layers,
      off: !bindings.cache.enabled,
      requestTimeoutMs,
    })
    undo.push(() => primitives.close())
    await primitives.cache.open()
    undo.push(
      keepFigures(primitives.cache, database, {
        process: `${hostname()}:${process.pid}`,
        failed: (error) =>
          log.debug({ event: 'cache-figures', err: error }, 'the figures of the cache were not written'),
      }),
    )
    const root = primitives.data
    const state: Health = { draining: false }
    health(http, root, state, redis, { requestTimeoutMs, stopTimeoutMs })
    for (const extension of options.extensions ?? [])
      await extension(http, { data: root, server, log, bindings, primitives })
    if (bindings.shedding === 'on' && app.http.shedding !== false) shedRequests(http, app.http.shedding ?? {}, database)
    const secret = deriveSecrets(bindings.secret ?? (await storedRoot(bindings.dataDir)))
    const sessions = startSessions(app, bindings, http, await openSessions(app.name, database, redis), secret)
    carryPositions(http, {
      records: await openPositions(bindings.data, app.name, redis),
      key: secret('rung positions'),
      secure: bindings.mode === 'production',
      trouble: (what, error) => log.debug({ event: 'position', what, err: error }, 'a position could not be had'),
    })
    checkLimits(app.limits)
    if (bindings.limits === 'on')
      limitRequests(http, await openLimiter(bindings, app.name, database, redis), app.limits, database)
    checkRouteConfigs(http)
    const cacheOf = (module: string) => primitives.cache.forModule(module, root.forModule(module).write)
    cachedRoutes(http, {
      of: cacheOf,
      caughtUp: (purges) => primitives.cache.caughtUp(purges),
      tagHeader: await tagHeader(bindings),
      cookies: Object.values(sessionCookieNames),
      off: !bindings.cache.enabled,
    })
    idempotentRoutes(http, primitives.records, app.idempotency, database)
    if (bindings.edge && bindings.role !== 'worker') tellEdge(http, bindings.edge.secret)
    const files = createFiles(await openFileStore(bindings), secret('rung/files-url'))
    await http.register(serveFiles(files))
    const { transport, inbox } = await openMail(bindings, log)
    undo.push(() => transport.close())
    const mail = createMail({
      transport,
      from: parseMailbox(bindings.mail.from)!,
      idKey: secret('rung/mail-id'),
      inTransaction: root.inTransaction,
    })
    if (inbox && bindings.mode !== 'production') await http.register(serveInbox(inbox))
    const mailAsked = once(() => {
      if (inbox && bindings.mode === 'production') log.warn({ event: 'mail-not-sent' }, mailNotSent(bindings.dataDir))
    })
    const parts = { ...primitives, files, mail, mailAsked, sessions, secret }
    const { work, warms } = await addModules(app, bindings, parts, http, log)
    for (const { name, job } of work.crons) {
      if (work.jobs.some((one) => one.job.name === job.name)) continue
      const message = `Cron "${name}" enqueues the job "${job.name}", which no module of this app handles. Add handle(…) to the work of a module.`
      log.warn({ event: 'cron-unhandled' }, message)
    }
    await subscribe(work, primitives)
    const purges = await openCdn(bindings)
    if (bindings.role !== 'web') {
      const start = options.startWork ?? startWork
      undo.push(start(work, primitives, bindings.graceMs, purges ? [purgeLine(purges)] : []))
    }
    undo.push(() => http.close())
    if (bindings.cache.enabled && warms.length > 0) undo.push(await keepWarm(warms, primitives.cache, http, log))
    await listen(http, bindings)
    let stopping: Promise<void> | undefined
    return {
      url: urlOf(http),
      http,
      data: root,
      server,
      stopTimeoutMs,
      stop() {
        state.draining = true
        stopping ??= sleep(bindings.drainMs).then(() => stopAll(undo))
        return stopping
      },
    }
  } catch (error) {
    await stopAll(undo).catch((failure) => log.error({ err: failure }, 'stopping after a failed start failed as well'))
    throw error
  }
}

/** Waits for both; when one fails the other is undone too. */
async function settled<A, B>(
  first: Promise<A>,
  second: Promise<B>,
  undoFirst: (value: A) => Promise<void>,
): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([first, second])
  if (a.status === 'rejected') throw a.reason
  if (b.status === 'rejected') {
    await undoFirst(a.value)
    throw b.reason
  }
  return [a.value, b.value]
}

/** At a stop, besides requests and jobs: connections to engines are closed, what is counted is written down. */
const closingMs = 20_000
/** Work that hangs in a transaction must not keep the process, and its database, from stopping. */
const closeMsMax = 10_000

async function stopAll(undo: readonly (() => Promise<unknown>)[]): Promise<void> {
  const failures: unknown[] = []
  for (const step of [...undo].reverse()) await step().catch((error) => failures.push(error))
  if (failures.length > 0) throw failures[0]
}

function httpSettings(app: App, bindings: Bindings, log: Log) {
  const own = app.http.trustProxy ?? []
  return {
    title: app.name,
    ...app.http,
    // What is not a list is the app author's mistake, and is told as such.
    trustProxy: Array.isArray(own) ? [...own, ...bindings.http.trustProxy] : own,
    logger: log.child({}),
    revealing: bindings.mode !== 'production',
  }
}

/** Rung's own, then those of the modules. */
export async function migrationsOf(app: App): Promise<Migration[]> {
  const sources = app.modules.flatMap(({ name, migrations, reads }) =>
    migrations ? [{ module: name, folder: migrations, reads: reads ?? [] }] : [],
  )
  return [...systemMigrations, ...(await loadMigrations(sources))]
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

type Secrets = (purpose: string) => Uint8Array

function startSessions(app: App, bindings: Bindings, http: Http, store: SessionStore, secret: Secrets): Sessions {
  if (!app.sessions) return noSessions
  const secure = bindings.mode === 'production'
  // No module's name has a blank.
  return cookieSessions(http, store, app.sessions, { key: secret('rung sessions'), secure })
}

interface Parts extends Primitives {
  files: FilesRoot
  mail: MailRoot
  /** A module has mail to send. */
  mailAsked(): void
  sessions: Sessions
  secret: Secrets
}

/** Routes are added where requests are taken; what the modules do off the request path is known everywhere. */
async function addModules(
  app: App,
  bindings: Bindings,
  parts: Parts,
  http: Http,
  log: Log,
): Promise<{ work: AppWork; warms: DeclaredWarm[] }> {
  const { data, files, mail, sessions, secret } = parts
  const work: AppWork = { jobs: [], consumed: [], crons: [] }
  const warms: DeclaredWarm[] = []
  const jobs = jobsOf(parts.queue)
  const rules = { checked: bindings.mode !== 'production', inTransaction: data.inTransaction }
  const exposed = new Map<string, unknown>()
  for (const module of app.modules) {
    const calls: Record<string, unknown> = {}
    for (const [alias, used] of Object.entries((module.uses ?? {}) as UsedCalls)) {
      calls[alias] = exposed.get(used.module)
    }
    const assets = await loadAssets(module.name, module.assets)
    if (bindings.role !== 'worker') assets.serve(http)
    const context: ModuleContext = {
      data: data.forModule(module.name),
      jobs,
      files: files.forModule(module.name),
      get mail() {
        parts.mailAsked()
        return mail.forModule(module.name)
      },
      sessions,
      search: searchFor(module.name, parts.searchStore),
      cache: parts.cache.forModule(module.name, data.forModule(module.name).write),
      calls: calls as ModuleContext['calls'],
      log: log.child({ module: module.name }),
      asset: assets.urlOf,
      secret: (purpose) => secret(`${module.name}/${purpose}`),
    }
    if (module.exposes) exposed.set(module.name, localCalls(module.exposes, module.calls!(context), rules))
    addWork(work, module.name, module.work?.(context) ?? [], parts)
    const { routes, identify } = module
    if (bindings.role !== 'worker') {
      for (const warm of module.warm?.(context) ?? []) warms.push({ module: module.name, warm })
    }
    if (identify) identifyBy(http, identify(context))
    if (routes && bindings.role !== 'worker') {
      // In a context of its own: a hook or decorator of one module does not reach another.
      await http.register(async (scoped) => {
        scoped.addHook('onRoute', (route) => {
          route.config = { ...route.config, module: module.name } as never
        })
        await routes(scoped as unknown as Http, context)
      })
    }
  }
  return { work, warms }
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
