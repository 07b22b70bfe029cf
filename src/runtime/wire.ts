import { availableParallelism } from 'node:os'
import path from 'node:path'
import type { ConnectionConfig } from '../engines/postgres/client.ts'
import type { RedisClient } from '../engines/redis/client.ts'
import { parseSmtpUrl } from '../engines/smtp/client.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import type { CacheParts } from '../primitives/cache/cache.ts'
import type { CdnPurges } from '../primitives/cache/cdn.ts'
import { tellCache } from '../primitives/cache/channels.ts'
import type { EdgeCache } from '../primitives/cache/edge.ts'
import { notifyBus } from '../primitives/cache/notify.ts'
import { tableLog } from '../primitives/cache/table.ts'
import type { Database } from '../primitives/data/contract.ts'
import { postgresDatabase } from '../primitives/data/postgres.ts'
import type { Outbox } from '../primitives/events/contract.ts'
import { tableOutbox } from '../primitives/events/table.ts'
import type { FileStore } from '../primitives/files/contract.ts'
import type { Records } from '../primitives/idempotency/contract.ts'
import { tableRecords } from '../primitives/idempotency/table.ts'
import type { Bell, Queue } from '../primitives/jobs/contract.ts'
import { notifyBell } from '../primitives/jobs/notify.ts'
import { tableQueue } from '../primitives/jobs/table.ts'
import type { Limiter } from '../primitives/limits/contract.ts'
import { withLocalShare } from '../primitives/limits/local-share.ts'
import type { MailTransport } from '../primitives/mail/contract.ts'
import type { Inbox } from '../primitives/mail/inbox.ts'
import type { PositionRecords } from '../primitives/positions/contract.ts'
import type { SearchStore } from '../primitives/search/contract.ts'
import { tableSearch } from '../primitives/search/table.ts'
import type { SessionStore } from '../primitives/sessions/contract.ts'
import { rememberedSessions } from '../primitives/sessions/remembered.ts'
import { tableSessions } from '../primitives/sessions/table.ts'
import type { DataTopology, EdgeTopology, Topology } from '../topology/topology.ts'
import type { Config } from './config.ts'
import type { Log } from './log.ts'

/** The one place that knows which adapter stands behind which primitive. Each is loaded only where the topology names it. */

export type CacheLayers = Pick<CacheParts, 'log' | 'bus' | 'shared' | 'edge'> &
  Partial<Pick<CacheParts, 'bytesMax' | 'off'>> & {
    /** One stands in front, and hears of invalidations through the outbox. */
    cdn?: boolean
  }

/** An engine that this process itself runs, or one that runs elsewhere. */
export interface DatabaseServer {
  connection: ConnectionConfig
  /** For the doctor's experiments; the app's own where nothing better is known. */
  adminConnection: ConnectionConfig
  pid(): number | undefined
  stop(): Promise<void>
}

/** `attach`: for a tool beside a running app, whose server it then uses. `join`: for a worker, which waits for it. */
export async function startDatabaseServer(
  config: Config,
  log: Log,
  how: 'own' | 'attach' | 'join' = 'own',
): Promise<DatabaseServer> {
  const { data } = config.topology
  if (data.engine === 'external') {
    const connection = { url: data.url }
    if (config.secret === undefined) {
      const { openDataDir } = await import('../engines/postgres/data-dir.ts')
      await openDataDir(config.dataDir) // only the root of the keys is kept there
    }
    await tryOut(connection)
    return { connection, adminConnection: connection, pid: () => undefined, async stop() {} }
  }
  const { attachEmbedded, joinEmbedded, startEmbedded } = await import('../engines/postgres/embedded.ts')
  return { own: startEmbedded, attach: attachEmbedded, join: joinEmbedded }[how]({
    root: config.dataDir,
    connectionsMax: Math.max(60, data.readConnectionsMax + data.writeConnectionsMax + 20, availableParallelism() * 20),
    onEvent(event, detail) {
      const level =
        event === 'lost' || event === 'full' ? 'error' : event === 'recovered' || event === 'freed' ? 'warn' : 'debug'
      log[level]({ event: `postgres-${event}` }, detail)
    },
  })
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

export function openDatabase(topology: DataTopology, connection: ConnectionConfig, name = mainDatabase): Database {
  return postgresDatabase({
    name,
    connection,
    connectionsMax: { read: topology.readConnectionsMax, write: topology.writeConnectionsMax },
    idleTimeoutMs: topology.idleTimeoutMs,
    limits: topology,
  })
}

export function openQueues(
  database: Database,
  connection: ConnectionConfig,
): { queue: Queue; outbox: Outbox; bell: Bell } {
  return { queue: tableQueue(database), outbox: tableOutbox(database), bell: notifyBell(database, connection) }
}

/** The memory layer alone: processes hear of each other through the database. */
export function openMemoryCache(
  { cdn }: Pick<Topology, 'cdn'>,
  database: Database,
  connection: ConnectionConfig,
): CacheLayers {
  return { log: tableLog(database), bus: notifyBus(database, connection), cdn: cdn !== undefined }
}

/** In which header caches in front are told what an answer depends on. The page cache understands each of them. */
export async function tagHeader({ cdn, edge }: Pick<Topology, 'cdn' | 'edge'>) {
  if (cdn) return (await import('../engines/cdn/client.ts')).tagHeaderOf(cdn.name)
  return edge.url === undefined ? undefined : 'surrogate-key'
}

/** Who purges the CDN, where there is one. */
export async function openCdn({ cdn }: Pick<Topology, 'cdn'>): Promise<CdnPurges | undefined> {
  if (cdn === undefined) return undefined
  const [{ purgeCdn }, { CdnPurges }] = await Promise.all([
    import('../engines/cdn/client.ts'),
    import('../primitives/cache/cdn.ts'),
  ])
  return new CdnPurges((tags) => purgeCdn(cdn, tags))
}

export async function openCache(
  { cache: { engine, url, memoryBytesMax }, edge, cdn }: Pick<Topology, 'cache' | 'edge' | 'cdn'>,
  app: string,
  database: Database,
  connection: ConnectionConfig,
): Promise<{ layers: CacheLayers; redis?: RedisClient }> {
  const memory: CacheLayers = {
    ...openMemoryCache({ cdn }, database, connection),
    bytesMax: memoryBytesMax,
    ...(edge.url !== undefined && { edge: await openEdge(edge, database) }),
  }
  if (engine === 'memory') return { layers: memory }
  const [{ openRedis }, { redisLayer }, { redisBus }, { SharedCache }] = await Promise.all([
    import('../engines/redis/client.ts'),
    import('../primitives/cache/redis.ts'),
    import('../primitives/cache/redis-bus.ts'),
    import('../primitives/cache/shared.ts'),
  ])
  const redis = await openRedis({ url: url!, name: app })
  const failed = (error: unknown) => tellCache({ database, event: 'bus-failed', error })
  const shared = new SharedCache({
    layer: redisLayer(redis, app),
    log: memory.log,
    changed: (state, error) => tellCache({ database, event: `shared-${state}`, error }),
  })
  return { layers: { ...memory, shared, bus: redisBus({ client: redis, url: url!, app, failed }) }, redis }
}

async function openEdge({ url, secret }: EdgeTopology, database: Database): Promise<EdgeCache> {
  const [{ EdgeCache }, { nginxEdge }] = await Promise.all([
    import('../primitives/cache/edge.ts'),
    import('../primitives/cache/nginx.ts'),
  ])
  return new EdgeCache(nginxEdge({ url: url!, secret: secret! }), (error) =>
    tellCache({ database, event: 'edge-failed', error }),
  )
}

/** Of an embedded database there is one process that takes requests: it knows them all. */
export async function openPositions(
  { engine }: DataTopology,
  app: string,
  redis: RedisClient | undefined,
): Promise<PositionRecords> {
  if (redis) {
    const { redisPositions } = await import('../primitives/positions/redis.ts')
    return redisPositions(redis, app)
  }
  const { memoryPositions, unknownPositions } = await import('../primitives/positions/memory.ts')
  return engine === 'embedded' ? memoryPositions() : unknownPositions()
}

export function openSearchStore(database: Database): SearchStore {
  return tableSearch(database)
}

export async function openFileStore(config: Config): Promise<FileStore> {
  const { diskFiles } = await import('../primitives/files/disk.ts')
  return diskFiles({ folder: path.join(config.dataDir, 'files'), prepare: ownDataDir(config) })
}

/** With the inbox where mail is written and not sent. */
export async function openMail(config: Config, log: Log): Promise<{ transport: MailTransport; inbox?: Inbox }> {
  const { engine, url } = config.topology.mail
  if (engine === 'smtp') {
    const { smtpMail } = await import('../primitives/mail/smtp.ts')
    return { transport: smtpMail(parseSmtpUrl(url!)!) }
  }
  const { emlMail } = await import('../primitives/mail/eml.ts')
  const eml = await emlMail({
    folder: path.join(config.dataDir, 'mail'),
    prepare: ownDataDir(config),
    onWritten(file) {
      const level = config.mode === 'production' ? 'warn' : 'info'
      log[level]({ event: 'mail-written', file }, 'A mail was written and not sent: there is no RUNG_SMTP_URL.')
    },
  })
  return { transport: eml, inbox: eml }
}

/** Where the database is elsewhere, the data directory comes to be with the first thing that is kept in it. */
export function ownDataDir(config: Config): () => Promise<unknown> {
  let owned: Promise<unknown> | undefined
  async function own(): Promise<void> {
    const { openDataDir } = await import('../engines/postgres/data-dir.ts')
    await openDataDir(config.dataDir)
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

/** With an embedded database one process answers requests, and counts for itself. Several processes share their counts. */
export async function openLimiter(
  { topology, webProcesses: processes }: Config,
  app: string,
  database: Database,
  redis: RedisClient | undefined,
): Promise<Limiter> {
  const { memoryLimiter } = await import('../primitives/limits/memory.ts')
  if (redis) {
    const { redisLimiter } = await import('../primitives/limits/redis.ts')
    return withLocalShare(redisLimiter(redis, app), memoryLimiter(), { database, processes })
  }
  if (topology.data.engine === 'embedded') return memoryLimiter()
  const { tableLimiter } = await import('../primitives/limits/table.ts')
  return withLocalShare(tableLimiter(database), memoryLimiter(), { database, processes })
}

/** The table is the truth. Redis, where there is one, holds copies for all processes; otherwise each process remembers for itself. */
export async function openSessions(
  app: string,
  database: Database,
  redis: RedisClient | undefined,
): Promise<SessionStore> {
  const table = tableSessions(database)
  if (!redis) return rememberedSessions(table)
  const { redisSessions } = await import('../primitives/sessions/redis.ts')
  return redisSessions(redis, app, table)
}
