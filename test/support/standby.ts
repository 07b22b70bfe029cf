import path from 'node:path'
import { type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import { type OwnedPostgres, startEmbedded } from '../../src/engines/postgres/embedded.ts'
import {
  type Standby,
  type StandbyEvent,
  type StandbyOptions,
  startStandby,
} from '../../src/engines/postgres/standby.ts'
import { parsePlace } from '../../src/kernel/position.ts'
import type { Connection, Database, Result, Statement } from '../../src/primitives/data/contract.ts'
import { askPlace, placeIn } from '../../src/primitives/data/place.ts'
import { ended, until } from './process.ts'

/** A primary and a standby that streams from it, both real. */
export interface Pair {
  primary: ConnectionConfig
  standby: ConnectionConfig
  /** The standby receives the log and shows nothing of it until `resume`. */
  pause(): Promise<void>
  /** Resolves when the standby shows everything that the primary had committed. */
  resume(): Promise<void>
  stop(): Promise<void>
}

/** Starts a pair in a folder. */
export async function startPair(dir: string): Promise<Pair> {
  const cluster = await startCluster(dir, 1)
  const [replica] = cluster.replicas
  return {
    primary: cluster.primary.connection,
    standby: replica!.connection,
    pause: replica!.pause,
    resume: replica!.resume,
    stop: cluster.stop,
  }
}

/** A primary and its replicas, all real. */
export interface Cluster {
  primary: OwnedPostgres
  /** `postgres-2`, `postgres-3` … */
  replicas: readonly Replica[]
  stop(): Promise<void>
}

export interface Replica {
  readonly name: string
  readonly root: string
  /** The app's role; the same after each restart. */
  readonly connection: ConnectionConfig
  readonly admin: ConnectionConfig
  /** What has happened to it, as `event: detail`. */
  readonly events: readonly string[]
  pid(): number
  /** It receives the log and shows nothing of it until `resume`. */
  pause(): Promise<void>
  /** Resolves when it shows everything that the primary had committed. */
  resume(): Promise<void>
  /** Resolves when it shows everything that the primary has committed by now. */
  caughtUp(): Promise<void>
  /** kill -9 of the server. It restarts itself; resolves when it answers again. */
  kill(): Promise<void>
  /** SIGSTOP, and SIGCONT. */
  freeze(): void
  thaw(): void
  /** It stays down until `start`. */
  stop(): Promise<void>
  start(changes?: Partial<StandbyOptions>): Promise<void>
}

export interface ClusterOptions {
  /** What each replica shows is at least this late. */
  applyDelayMs?: number
  connectionsMax?: number
}

/** Starts a primary and replicas in a folder. Nothing of it survives a crash of the machine. */
export async function startCluster(dir: string, replicas: number, options: ClusterOptions = {}): Promise<Cluster> {
  const { connectionsMax = 100, applyDelayMs } = options
  const primary = await startEmbedded({ root: path.join(dir, 'primary'), connectionsMax, throwaway: true })
  const names = Array.from({ length: replicas }, (_, index) => `postgres-${index + 2}`)
  const started = await Promise.all(
    names.map((name) =>
      startReplica(primary, {
        name,
        root: path.join(dir, name),
        primary: { dataFolder: primary.dataDir.postgres, socketDir: primary.adminConnection.host! },
        connectionsMax,
        throwaway: true,
        ...(applyDelayMs !== undefined && { applyDelayMs }),
      }),
    ),
  )
  return {
    primary,
    replicas: started,
    async stop() {
      await Promise.all(started.map((replica) => replica.stop()))
      await primary.stop()
    },
  }
}

/** Asks for one value. */
export async function askOne(connection: ConnectionConfig, text: string): Promise<unknown> {
  const client = await connectOnce(connection)
  return client
    .query(text)
    .then(({ rows }) => Object.values((rows[0] ?? {}) as object)[0])
    .finally(() => client.end())
}

async function startReplica(primary: OwnedPostgres, options: StandbyOptions): Promise<Replica> {
  const events: string[] = []
  const onEvent = (event: StandbyEvent, detail: string) => void events.push(`${event}: ${detail}`)
  const start = (changes: Partial<StandbyOptions> = {}) => startStandby({ onEvent, ...options, ...changes })
  let standby: Standby | undefined = await start()
  const { connection } = standby
  const admin = { ...standby.adminConnection, database: 'postgres' }
  const running = () => standby!.pid()!

  async function caughtUp(): Promise<void> {
    const end = await askOne({ ...primary.adminConnection, database: 'postgres' }, 'select pg_current_wal_lsn()')
    const isThere = () =>
      askOne(admin, `select pg_last_wal_replay_lsn() >= '${end}'::pg_lsn`).catch(() => false) as Promise<boolean>
    await until(isThere, () => `${options.name} has caught up: ${events.join('; ')}`)
  }

  return {
    name: options.name,
    root: options.root,
    connection,
    admin,
    events,
    pid: running,
    async pause() {
      await askOne(admin, 'select pg_wal_replay_pause()')
      const state = () => askOne(admin, 'select pg_get_wal_replay_pause_state()')
      await until(async () => (await state()) === 'paused', `${options.name} pauses`)
    },
    async resume() {
      await askOne(admin, 'select pg_wal_replay_resume()')
      await caughtUp()
    },
    caughtUp,
    async kill() {
      const pid = running()
      process.kill(pid, 'SIGKILL')
      await ended(pid)
      await until(() => standby?.pid() !== pid, `${options.name} is back`)
      await until(() => askOne(admin, 'select true').catch(() => false) as Promise<boolean>, `${options.name} answers`)
    },
    freeze: () => void process.kill(running(), 'SIGSTOP'),
    thaw: () => void process.kill(running(), 'SIGCONT'),
    async stop() {
      await standby?.stop()
      standby = undefined
    },
    async start(changes) {
      standby = await start(changes)
    },
  }
}

const askReplayed: Statement = {
  text: `select '1/' || pg_last_wal_replay_lsn() as place`, // the timeline of a server that was never restored
  values: [],
  name: undefined,
}

/** Reads from the standby where it is new enough, otherwise from the primary. `reads` counts them. */
export function lagging(
  primary: Database,
  standby: Database,
): { database: Database; reads: { primary: number; standby: number } } {
  const reads = { primary: 0, standby: 0 }
  const database: Database = {
    name: primary.name,
    lags: true,
    counts: (target) => primary.counts(target),
    async connect(need) {
      if (need.target !== 'read') return primary.connect(need)
      const connection = need.atLeast === 'all' ? undefined : await standby.connect(need)
      if (connection) {
        const replayed = parsePlace(String((await connection.run(askReplayed)).rows[0]!.place))!
        if (need.atLeast === undefined || replayed >= (need.atLeast as bigint)) {
          reads.standby += 1
          return seeing(connection, askReplayed)
        }
        connection.release()
      }
      reads.primary += 1
      return seeing(await primary.connect(need), askPlace)
    },
    async close() {
      await Promise.all([primary.close(), standby.close()])
    },
  }
  return { database, reads }
}

/** Asks for the place after what was read, so that it covers it. */
function seeing(connection: Connection, ask: Statement): Connection {
  const seen = (result: Promise<Result>) =>
    result.then(async (it) => ({ ...it, seen: placeIn(await connection.run(ask)) }))
  return {
    get inTransaction() {
      return connection.inTransaction
    },
    run: (statement) => seen(connection.run(statement)),
    runTogether: (statements) => connection.runTogether(statements).map(seen),
    cancel: () => connection.cancel(),
    release: (broken) => connection.release(broken),
  }
}
