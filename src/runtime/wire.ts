import path from 'node:path'
import { poolName } from '../engines/pgbouncer/recipe.ts'
import type { ConnectionConfig } from '../engines/postgres/client.ts'
import { serverNames } from '../engines/postgres/recipe.ts'
import type { RedisNode, RedisNodes } from '../engines/redis/nodes.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import type { CacheParts } from '../primitives/cache/cache.ts'
import type { CdnPurges } from '../primitives/cache/cdn.ts'
import { tellCache } from '../primitives/cache/channels.ts'
import type { InvalidationLog } from '../primitives/cache/contract.ts'
import type { EdgeCache } from '../primitives/cache/edge.ts'
import { tableLog } from '../primitives/cache/table.ts'
import { clusterDatabase } from '../primitives/data/cluster.ts'
import type { Database } from '../primitives/data/contract.ts'
import { postgresDatabase, postgresServer, type ServerOptions } from '../primitives/data/postgres.ts'
import type { Broker, EventLog, Outbox } from '../primitives/events/contract.ts'
import { tableEventLog } from '../primitives/events/log.ts'
import { tableOutbox } from '../primitives/events/table.ts'
import type { FileStore } from '../primitives/files/contract.ts'
import type { Records } from '../primitives/idempotency/contract.ts'
import { tableRecords } from '../primitives/idempotency/table.ts'
import type { ForeignClaims, Queue } from '../primitives/jobs/contract.ts'
import { tableForeignClaims } from '../primitives/jobs/foreign-table.ts'
import { tableQueue } from '../primitives/jobs/table.ts'
import type { Limiter } from '../primitives/limits/contract.ts'
import { withLocalShare } from '../primitives/limits/local-share.ts'
import type { MailTransport } from '../primitives/mail/contract.ts'
import type { Inbox } from '../primitives/mail/inbox.ts'
import type { PositionRecords } from '../primitives/positions/contract.ts'
import { type ApartSearch, apartSearch } from '../primitives/search/apart.ts'
import type { SearchStore } from '../primitives/search/contract.ts'
import { tableSearch } from '../primitives/search/table.ts'
import type { SessionStore } from '../primitives/sessions/contract.ts'
import { rememberedSessions } from '../primitives/sessions/remembered.ts'
import { tableSessions } from '../primitives/sessions/table.ts'
import { tellSignals } from '../primitives/signals/channels.ts'
import { notifyLine } from '../primitives/signals/notify.ts'
import { type Signals, signalsOver } from '../primitives/signals/signals.ts'
import type { Lease } from '../primitives/upkeep/contract.ts'
import { tableLease } from '../primitives/upkeep/table.ts'
import type { Bindings, DataBinding, EdgeBinding, ToolBindings } from '../topology/bindings.ts'
import { waysToSet } from '../topology/read-settings.ts'
import type { DataLimits, PooledTarget } from '../topology/topology.ts'
import { parseS3Url, parseSmtpUrl, withDatabase } from '../topology/urls.ts'
import type { Log } from './log.ts'

/** The one place that knows which adapter stands behind which primitive. Each is loaded only where the topology names it. */

export type CacheLayers = Pick<CacheParts, 'shared' | 'edge'> &
  Partial<Pick<CacheParts, 'alone' | 'bytesMax' | 'off'>> & {
    /** One stands in front, and hears of invalidations through the outbox. */
    cdn?: boolean
    /** How long a request of the app may take. */
    requestTimeoutMs?: number
  }

/** An engine that this process itself runs, or one that runs elsewhere. */
export interface DatabaseServer {
  /** For a tool the primary's; for a process of the app that of the first of its servers. */
  connection: ConnectionConfig
  /** Returns where the primary is: a failover may have moved it. */
  primary(): Promise<ConnectionConfig>
  /** For the doctor's experiments; the app's own where nothing better is known. */
  adminConnection: ConnectionConfig
  pid(): number | undefined
  stop(): Promise<void>
}

/** `attach`: for a tool beside a running app, whose server it then uses. `join`: for a worker, which waits for it. */
export async function startDatabaseServer(
  { data, dataDir }: Pick<ToolBindings, 'data' | 'dataDir'>,
  log: Log,
  how: 'own' | 'attach' | 'join' = 'own',
): Promise<DatabaseServer> {
  if (data.engine === 'external') {
    const first = { url: data.url }
    const all = [first, ...data.readUrls.map((url) => ({ url }))]
    const { findPrimary } = await import('../engines/postgres/find-primary.ts')
    const primary = () => findPrimary(all)
    if (all.length === 1) await tryOut(first)
    const found = await primary()
    const connection = how === 'attach' ? found : first
    return { connection, primary, adminConnection: connection, pid: () => undefined, async stop() {} }
  }
  const { attachEmbedded, joinEmbedded, startEmbedded } = await import('../engines/postgres/embedded.ts')
  const server = await { own: startEmbedded, attach: attachEmbedded, join: joinEmbedded }[how]({
    root: dataDir,
    connectionsMax: data.connectionsMax,
    onEvent(event, detail) {
      const level =
        event === 'lost' || event === 'full' ? 'error' : event === 'recovered' || event === 'freed' ? 'warn' : 'debug'
      log[level]({ event: `postgres-${event}` }, detail)
    },
  })
  const { primaryPlace } = await import('../engines/postgres/members.ts')
  const primary = async () => ({ ...server.connection, host: (await primaryPlace(dataDir)).socketDir })
  return { ...server, primary }
}

async function tryOut(connection: ConnectionConfig): Promise<void> {
  const { connectOnce } = await import('../engines/postgres/client.ts')
  try {
    await (await connectOnce(connection)).end()
  } catch (cause) {
    throw new RungError(
      'DATA_UNAVAILABLE',
      `The database at DATABASE_URL cannot be used (${messageOf(cause)}). Start it, or correct DATABASE_URL.`,
      { cause },
    )
  }
}

/** The database of all modules that are given no other one. */
export const mainDatabase = 'main'
const searchDatabase = 'search'

type DatabaseOptions = DataLimits & Partial<Pick<DataBinding, 'readUrls' | 'poolerUrl' | 'poolerGroup'>>

/** Opens a database with all of its servers. Only the main one has several, or a pooler. */
export function openDatabase(data: DatabaseOptions, connection: ConnectionConfig, name = mainDatabase): Database {
  const { readUrls = [], poolerUrl, poolerGroup } = name === mainDatabase ? data : {}
  const server = (serverName: string, at: ConnectionConfig): ServerOptions => ({
    name: serverName,
    connection: at,
    pooler: poolerUrl === undefined ? undefined : pooled(poolerUrl, serverName, poolerGroup),
    connectionsMax: { read: data.readConnectionsMax, write: data.writeConnectionsMax },
    idleTimeoutMs: data.idleTimeoutMs,
    limits: data,
  })
  const addresses = [connection, ...readUrls.map((url) => ({ url }))]
  const servers = serverNames(addresses.length).map((serverName, index) => server(serverName, addresses[index]!))
  if (servers.length === 1) return postgresDatabase({ ...servers[0]!, name })
  return clusterDatabase({
    name,
    servers: servers.map(postgresServer),
    lagMsMax: data.lagMsMax,
    primaryReadsMax: Math.ceil(data.readConnectionsMax * primaryShare),
  })
}

/** Share of a process's connections for reads that may lead to the primary, where there are replicas. */
const primaryShare = 0.4

/** For tools: the primary itself. */
export function openPrimary(data: DataLimits, connection: ConnectionConfig): Database {
  return openDatabase({ ...data, readUrls: [], poolerUrl: undefined }, connection)
}

/** The databases of a pooler in front of one server, see `DataBinding`. */
function pooled(url: string, server: string, group: string | undefined) {
  const address = (target: PooledTarget) => ({
    url: withDatabase(url, poolName(server, target, group)),
    pooled: true,
  })
  return { read: address('read'), write: address('write'), own: address('own'), reports: address('reports') }
}

export type EventsEngine = Bindings['events']['engine']

export function openQueues(
  database: Database,
  events: EventsEngine = 'table',
): { queue: Queue; outbox: Outbox; log: EventLog } {
  const table = tableOutbox(database)
  const log = tableEventLog(database, table)
  return { queue: tableQueue(database), outbox: events === 'table' ? table : log, log }
}

/** Only processes that work off queues need the broker. */
export async function openBroker(
  { events }: Pick<Bindings, 'events'>,
  app: string,
  log: Log,
): Promise<Broker | undefined> {
  if (events.engine === 'table') return undefined
  const [{ openNats }, { jetstreamBroker }] = await Promise.all([
    import('../engines/nats/client.ts'),
    import('../primitives/events/jetstream.ts'),
  ])
  const client = await openNats({ url: events.url, name: app })
  if (!client.isUp) {
    const message = `${messageOf(client.trouble)} Until it can be used, events are read from the database. Check RUNG_NATS_URL, or events.url in rung.config.ts.`
    log.warn({ event: 'nats-unreachable', err: client.trouble }, message)
  }
  return jetstreamBroker(client, { app, ...events.stream })
}

/** For what one process brings to the broker and takes from it, for one database. */
export function openEventsLease(database: Database): Lease {
  return tableLease(database, 'events')
}

export function openForeignClaims(database: Database): ForeignClaims {
  return tableForeignClaims(database)
}

export function openInvalidationLog(database: Database): InvalidationLog {
  return tableLog(database)
}

/** The lease of the upkeep of one database. */
export function openUpkeepLease(database: Database): Lease {
  return tableLease(database, 'upkeep')
}

/** For what one process records of all. */
export function openRecordLease(database: Database): Lease {
  return tableLease(database, 'record')
}

/** For what one process evaluates for all. */
export function openAlertLease(database: Database): Lease {
  return tableLease(database, 'alerts')
}

export async function openRedis(
  { cache: { shared } }: Pick<Bindings, 'cache'>,
  app: string,
  log: Log,
): Promise<RedisNodes | undefined> {
  if (shared === undefined) return undefined
  const { openRedisNodes } = await import('../engines/redis/nodes.ts')
  const redis = await openRedisNodes({ ...shared, app, name: app })
  for (const [index, { client }] of redis.entries()) {
    if (client.isUp) continue
    const which = redis.length === 1 ? 'Redis' : `Node ${index + 1} of ${redis.length} of Redis`
    const why = client.trouble === undefined ? '' : `: ${messageOf(client.trouble).replace(/\.+$/, '')}`
    const message = `${which} cannot be used${why}. Until it can, each process loads, limits and looks sessions up for itself. Check RUNG_REDIS_URL, or cache.url in rung.config.ts.`
    log.warn({ event: 'redis-unreachable', err: client.trouble }, message)
  }
  return redis
}

/** Signals between all processes of the app: over Redis where there is one, otherwise over the database's own NOTIFY. */
export async function openSignals(
  database: Database,
  primary: DatabaseServer['primary'],
  redis?: { nodes: RedisNodes; urls: readonly string[]; app: string },
): Promise<Signals> {
  const failed = (error: unknown) => tellSignals({ database, error })
  if (redis === undefined) return signalsOver(notifyLine(database, primary, failed), failed)
  const { redisLine } = await import('../primitives/signals/redis.ts')
  return signalsOver(redisLine(redis, failed), failed)
}

/** In which header caches in front are told what an answer depends on. The page cache understands each of them. */
export async function tagHeader({ cdn, edge }: Pick<Bindings, 'cdn' | 'edge'>) {
  if (cdn) return (await import('../engines/cdn/client.ts')).tagHeaderOf(cdn.name)
  return edge && 'surrogate-key'
}

/** Returns what purges the CDN, if there is one. */
export async function openCdn({ cdn }: Pick<Bindings, 'cdn'>): Promise<CdnPurges | undefined> {
  if (cdn === undefined) return undefined
  const [{ purgeCdn }, { CdnPurges }] = await Promise.all([
    import('../engines/cdn/client.ts'),
    import('../primitives/cache/cdn.ts'),
  ])
  return new CdnPurges((tags) => purgeCdn(cdn, tags))
}

export async function openCache(
  { cache: { memoryBytesMax }, data, edge, cdn, http }: Pick<Bindings, 'cache' | 'data' | 'edge' | 'cdn' | 'http'>,
  databases: readonly Database[],
  redis: RedisNodes | undefined,
): Promise<CacheLayers> {
  const database = databases[0]!
  const memory: CacheLayers = {
    // While a fleet climbs, another process answers at the same port: sessions carry what they have read.
    alone: answersAlone(data, redis) && http.entryFd === undefined && !databases.some(({ lags }) => lags),
    cdn: cdn !== undefined,
    bytesMax: memoryBytesMax,
    ...(edge && { edge: await openEdge(edge, database) }),
  }
  if (redis === undefined) return memory
  const [{ redisLayer }, { SharedCache }, { SpreadCache }] = await Promise.all([
    import('../primitives/cache/redis.ts'),
    import('../primitives/cache/shared.ts'),
    import('../primitives/cache/spread.ts'),
  ])
  const logs = databases.map((one) => ({ database: one.name, log: openInvalidationLog(one) }))
  const shared = redis.map((one, index) => {
    const node = redis.length === 1 ? '' : `node ${index + 1} of ${redis.length}`
    const changed = (state: 'up' | 'down', error: unknown) =>
      tellCache({ database, event: `shared-${state}`, node, error })
    return new SharedCache({ layer: redisLayer(one), logs, changed })
  })
  return { ...memory, shared: new SpreadCache(shared) }
}

async function openEdge({ url, secret }: EdgeBinding, database: Database): Promise<EdgeCache> {
  const [{ EdgeCache }, { nginxEdge }] = await Promise.all([
    import('../primitives/cache/edge.ts'),
    import('../primitives/cache/nginx.ts'),
  ])
  return new EdgeCache(nginxEdge({ url, secret }), (error) => tellCache({ database, event: 'edge-failed', error }))
}

/** With an embedded database and without Redis one process takes all requests. */
function answersAlone({ engine }: Pick<DataBinding, 'engine'>, redis: RedisNodes | undefined): boolean {
  return engine === 'embedded' && redis === undefined
}

/** The memory of a process that takes all requests knows all positions. */
export async function openPositions(
  data: Pick<DataBinding, 'engine'>,
  redis: RedisNodes | undefined,
): Promise<PositionRecords> {
  if (redis) {
    const { redisPositions } = await import('../primitives/positions/redis.ts')
    return redisPositions(redis)
  }
  const { memoryPositions, unknownPositions } = await import('../primitives/positions/memory.ts')
  return answersAlone(data, redis) ? memoryPositions() : unknownPositions()
}

export function openSearchStore(database: Database): SearchStore {
  return tableSearch(database)
}

/** Search in a database of its own, which databases of the app feed. */
export interface ApartServer {
  of(core: Database): ApartSearch
  close(): Promise<void>
}

/** It need not run: what is written waits for it, and only searches fail. */
export function openSearchServer(
  { data, search }: Pick<ToolBindings, 'data' | 'search'>,
  prepare: (connection: ConnectionConfig) => Promise<unknown>,
): ApartServer | undefined {
  if (search === undefined) return undefined
  const connection = { url: search.url }
  const target = openDatabase(data, connection, searchDatabase)
  const opened = new Map<string, ApartSearch>()
  return {
    of(core) {
      const documents = tableSearch(target)
      const store =
        opened.get(core.name) ?? apartSearch({ core, target, documents, prepare: () => prepare(connection) })
      opened.set(core.name, store)
      return store
    },
    close: () => target.close(),
  }
}

export async function openFileStore(bindings: Bindings, log: Log): Promise<FileStore> {
  const { files } = bindings
  if (files.engine === 's3') {
    const { s3Files } = await import('../primitives/files/s3.ts')
    return s3Files(parseS3Url(files.url)!, (failure) => {
      const message = `The S3 store cannot be reached: ${failure.message.replace(/\.+$/, '')}. Until it can, files fail. Check RUNG_S3_URL, or files.url in rung.config.ts.`
      log.warn({ event: 's3-unreachable', err: failure }, message)
    })
  }
  const { diskFiles } = await import('../primitives/files/disk.ts')
  const own = ownDataDir(bindings)
  return diskFiles({
    folder: path.join(bindings.dataDir, 'files'),
    prepare: files.alone ? async () => Promise.reject(filesAlone()) : own,
  })
}

/** Raised by the first file and not at the start, because most apps keep none. */
function filesAlone(): RungError {
  const message = `A file was not stored: the app runs as several processes on a database that they share, and those on other machines would not find it. Set ${waysToSet('files.url')} to the bucket of an S3 store, or ${waysToSet('files.shared')} to on if all processes have the same data directory.`
  return new RungError('CONFIG_INVALID', message)
}

/** With the inbox where mail is written and not sent. */
export async function openMail(
  bindings: Pick<Bindings, 'mail' | 'mode' | 'dataDir'>,
  log: Log,
): Promise<{ transport: MailTransport; inbox?: Inbox }> {
  const { mail } = bindings
  if (mail.engine === 'smtp') {
    const { smtpMail } = await import('../primitives/mail/smtp.ts')
    return { transport: smtpMail(parseSmtpUrl(mail.url)!) }
  }
  const { emlMail } = await import('../primitives/mail/eml.ts')
  const eml = await emlMail({
    folder: path.join(bindings.dataDir, 'mail'),
    prepare: ownDataDir(bindings),
    onWritten(file) {
      const level = bindings.mode === 'production' ? 'warn' : 'info'
      log[level]({ event: 'mail-written', file }, 'A mail was written and not sent: there is no RUNG_SMTP_URL.')
    },
  })
  return { transport: eml, inbox: eml }
}

/** The files that an app keeps on the disk, for tools. */
export async function openDiskFiles(dataDir: string): Promise<FileStore> {
  const { diskFiles } = await import('../primitives/files/disk.ts')
  return diskFiles({ folder: path.join(dataDir, 'files') })
}

/** The mails that were written and not sent, for tools. */
export async function openInbox(dataDir: string): Promise<Inbox> {
  const { emlMail } = await import('../primitives/mail/eml.ts')
  return emlMail({ folder: path.join(dataDir, 'mail') })
}

/** Where the database is elsewhere, the data directory comes to be with the first thing that is kept in it. */
export function ownDataDir({ dataDir }: Pick<ToolBindings, 'dataDir'>): () => Promise<unknown> {
  let owned: Promise<unknown> | undefined
  async function own(): Promise<void> {
    const { openDataDir } = await import('../engines/postgres/data-dir.ts')
    await openDataDir(dataDir)
  }
  return () => {
    owned ??= own().catch((error) => {
      owned = undefined // the next one tries again
      throw error
    })
    return owned
  }
}

export function openRecords(database: Database): Records {
  return tableRecords(database)
}

/**
 * A process that answers all requests counts for itself. Several processes share their counts.
 * @returns `prune`: the upkeep of counts that are shared
 */
export async function openLimiter(
  { data, webProcesses: processes }: Pick<Bindings, 'data' | 'webProcesses'>,
  database: Database,
  redis: RedisNodes | undefined,
): Promise<{ limiter: Limiter; prune?: (max: number) => Promise<number> }> {
  const { memoryLimiter } = await import('../primitives/limits/memory.ts')
  if (redis) {
    const [{ redisLimiter }, { spreadLimiter }] = await Promise.all([
      import('../primitives/limits/redis.ts'),
      import('../primitives/limits/spread.ts'),
    ])
    const ofNode = (node: RedisNode) => withLocalShare(redisLimiter(node), memoryLimiter(), { database, processes })
    return { limiter: redis.length === 1 ? ofNode(redis[0]) : spreadLimiter(redis.map(ofNode)) }
  }
  if (answersAlone(data, redis)) return { limiter: memoryLimiter() }
  const { tableLimiter } = await import('../primitives/limits/table.ts')
  const shared = tableLimiter(database)
  return { limiter: withLocalShare(shared, memoryLimiter(), { database, processes }), prune: shared.prune }
}

/** The table is the truth. Redis, where there is one, holds copies for all processes; otherwise each process remembers for itself. */
export async function openSessions(
  database: Database,
  redis: RedisNodes | undefined,
  remember = true,
): Promise<SessionStore> {
  const table = tableSessions(database)
  if (!remember) return table
  if (!redis) return rememberedSessions(table)
  const { redisSessions } = await import('../primitives/sessions/redis.ts')
  return redisSessions(redis, table)
}
