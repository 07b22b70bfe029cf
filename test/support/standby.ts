import path from 'node:path'
import { type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import { type OwnedPostgres, startEmbedded } from '../../src/engines/postgres/embedded.ts'
import { replicaNames } from '../../src/engines/postgres/recipe.ts'
import {
  type Standby,
  type StandbyEvent,
  type StandbyOptions,
  startStandby,
} from '../../src/engines/postgres/standby.ts'
import { type ReadRouted, readRouted } from '../../src/primitives/data/channels.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { ended, until } from './process.ts'

/** A primary and a standby that streams from it, both real. */
export interface Pair {
  primary: ConnectionConfig
  standby: ConnectionConfig
  /** The standby receives the log and shows nothing of it until `resume`. */
  pause(): Promise<void>
  /** Resolves when the standby shows everything that the primary had committed. */
  resume(): Promise<void>
  /** Ends the session of a reader on the standby, once it runs a statement with this text. */
  endReads(text: string): Promise<void>
  /** Whether commits wait for a standby, which never confirms them. */
  requireConfirmation(required: boolean): Promise<void>
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
    async endReads(text) {
      const ended = () =>
        askOne(
          replica!.admin,
          `select nullif(count(pg_terminate_backend(pid)), 0) from pg_stat_activity
            where state = 'active' and pid <> pg_backend_pid() and position('${text}' in query) > 0`,
        )
      await until(ended, 'the read runs and is ended')
    },
    requireConfirmation: (required) => requireConfirmation(cluster.primary, required),
  }
}

/** Whether commits wait for a standby, which never confirms them. */
async function requireConfirmation({ adminConnection: admin }: OwnedPostgres, required: boolean): Promise<void> {
  await askOne(admin, `alter system set synchronous_standby_names = '${required ? 'nobody' : ''}'`).catch(() => {})
  await askOne(admin, 'select pg_reload_conf()')
}

/** Resolves once reads without a position go to a replica: it has to be asked first. */
export async function untilReplicaReads(database: Database): Promise<void> {
  let server = ''
  const note = (message: unknown) => {
    if ((message as ReadRouted).database === database) server = (message as ReadRouted).server
  }
  readRouted.subscribe(note)
  await until(async () => {
    const connection = await database.connect({ target: 'read', deadlineAt: Number.POSITIVE_INFINITY })
    connection.release()
    return server !== 'postgres'
  }, 'a replica takes reads')
  readRouted.unsubscribe(note)
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
  const names = replicaNames(replicas)
  const started = await Promise.all(
    names.map((name) =>
      startReplica(primary, {
        name,
        root: path.join(dir, name),
        primary: () => ({ dataFolder: primary.dataDir.postgres, socketDir: primary.adminConnection.host! }),
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
      // It pauses when there is something to replay.
      await askOne(primary.adminConnection, `select pg_logical_emit_message(true, 'pause', '')`)
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
