import { createHash } from 'node:crypto'
import type { PooledTarget } from '../../topology/topology.ts'

export const postgresMajor = 18
/** Of the images, where it runs in containers. */
export const postgresVersion = '18.6'

/** The superuser only sets things up; the app's role owns its database and nothing else. */
export const superuser = 'rung'
export const appRole = 'app'
export const appDatabase = 'app'

/** The replication slot that outlives an archiver's connection. */
export const archiverSlot = 'rung_backup'

/** Postgres names its socket after a port, even without a network. */
export const socketPort = 5432

export interface PostgresSettings {
  /** Memory of the machine in bytes, from which the caches are sized. */
  memoryBytes: number
  /** Folder of the Unix socket; only its owner may enter. */
  socketDir: string
  connectionsMax: number
  /** Whether it is one of several, any of which may become the primary. */
  isMember?: boolean
  /** Whether the data is thrown away: nothing is synced to the disk. */
  throwaway?: boolean
}

const mebibyte = 1024 ** 2

function megabytes(bytes: number, least: number, most: number): string {
  return `${Math.min(most, Math.max(least, Math.floor(bytes / mebibyte)))}MB`
}

/**
 * Returns the server's settings. Pure. Reasons for differences from Postgres' defaults:
 * - `random_page_cost` 1.1: solid-state disks (the default 4 dates from spinning ones);
 * - `jit` off: it costs milliseconds on the short statements of a web backend;
 * - `pg_stat_statements`: the advice of `rung doctor` reads it;
 * - `client_connection_check_interval`: the statements of a killed process end with it and release their locks, so that the
 *   migrations of the next start do not wait;
 * - `wal_level` replica, so that a standby or a backup needs no restart;
 * - the log kept for an absent archiver is bounded in size, by what checkpoints keep anyway, and in time, so that an abandoned
 *   archiver costs nothing after some days;
 * - as one of several: enough log is kept for replicas that follow another primary after a failover, and a commit waits at most 5 s for
 *   one that has frozen;
 * - shared buffers: an eighth of the memory, at most 1 GiB, because the app shares the machine.
 */
export function settings(wanted: PostgresSettings): Record<string, string> {
  return {
    listen_addresses: '', // the socket only
    port: String(socketPort),
    unix_socket_directories: wanted.socketDir,
    unix_socket_permissions: '0700',
    ...portableSettings(wanted),
    ...(wanted.isMember && { wal_keep_size: '256MB', wal_sender_timeout: '5s' }),
    ...(wanted.throwaway && { fsync: 'off', full_page_writes: 'off' }),
  }
}

/** Returns those of them that suit a server on any machine. */
export function portableSettings(
  wanted: Pick<PostgresSettings, 'memoryBytes' | 'connectionsMax'>,
): Record<string, string> {
  return {
    max_connections: String(wanted.connectionsMax),
    superuser_reserved_connections: '3',
    shared_buffers: megabytes(wanted.memoryBytes / 8, 32, 1024),
    effective_cache_size: megabytes(wanted.memoryBytes / 2, 128, 1024 ** 2),
    maintenance_work_mem: megabytes(wanted.memoryBytes / 64, 32, 512),
    work_mem: '8MB',
    random_page_cost: '1.1',
    jit: 'off',
    client_connection_check_interval: '1s',
    wal_level: 'replica',
    max_wal_size: '2GB',
    max_slot_wal_keep_size: '2GB',
    idle_replication_slot_timeout: '3d',
    checkpoint_timeout: '10min',
    autovacuum_naptime: '10s', // the rows of queues die fast
    shared_preload_libraries: 'pg_stat_statements',
    'pg_stat_statements.max': '5000',
    track_io_timing: 'on',
    log_timezone: 'UTC',
    timezone: 'UTC',
    lc_messages: 'C',
    log_checkpoints: 'off',
    log_min_messages: 'log', // errors of statements contain values, and the app gets them anyway
    log_line_prefix: '%m [%p] ',
  }
}

export interface ReplicaSettings extends PostgresSettings {
  /** Its name for the primary: `postgres-2`. */
  name: string
  /** Folder of the primary's socket, or a link to it. */
  primarySocketDir: string
  /** What it shows is at least this late. */
  applyDelayMs?: number | undefined
}

/**
 * Returns the settings of a replica. Pure. It has those of the primary, and:
 * - `hot_standby_feedback` on: the primary keeps rows for as long as a query of the replica may need them. Without it each vacuum of
 *   a queue's table, every few seconds, would cancel each longer report on the replica. The price is what a report costs on the
 *   primary itself: dead rows stay for as long as it runs, at most a minute. A replica that is away has no queries; `releaseRows` sees to it
 *   that its slot does not go on keeping rows for it.
 * - `max_standby_streaming_delay` 3 s: what conflicts even so is rare (a migration's exclusive lock, a table that vacuum shortens).
 *   Ordinary reads end within that time. A report that does not is cancelled and retried elsewhere, because replay, and with it every
 *   session that has just written, would wait for it.
 * - short timeouts towards the primary: a primary that has come back is followed at once, and one that is frozen is noticed;
 * - the primary learns each second how far this replica is.
 */
export function replicaSettings(wanted: ReplicaSettings): Record<string, string> {
  const { name, primarySocketDir, applyDelayMs = 0 } = wanted
  return {
    ...settings(wanted),
    hot_standby: 'on',
    primary_conninfo: Object.entries({
      host: primarySocketDir,
      port: socketPort,
      user: superuser,
      application_name: name, // as synchronous_standby_names knows it
      connect_timeout: 5,
    })
      .map(([key, value]) => `${key}='${String(value).replace(/[\\']/g, '\\$&')}'`)
      .join(' '),
    primary_slot_name: slotOf(name),
    ...followingSettings,
    ...(applyDelayMs > 0 && { recovery_min_apply_delay: `${applyDelayMs}ms` }),
  }
}

/** How a replica follows, wherever its primary is. */
export const followingSettings = {
  hot_standby_feedback: 'on',
  max_standby_streaming_delay: '3s',
  max_standby_archive_delay: '3s', // the same for log that is on the disk already
  wal_receiver_timeout: '10s',
  wal_receiver_status_interval: '1s',
  wal_retrieve_retry_interval: '500ms',
  recovery_target_timeline: 'latest',
} as const

/** Returns the names of a server and its replicas: `postgres`, `postgres-2` … */
export function serverNames(count: number): string[] {
  return ['postgres', ...replicaNames(count - 1)]
}

/** Returns the names of replicas; the primary is `postgres`. */
export function replicaNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `postgres-${index + 2}`)
}

/** Returns the value of `synchronous_standby_names`: a commit waits for any one of these. */
export function synchronousNames(names: readonly string[]): string {
  return names.length === 0 ? '' : `ANY 1 (${names.map((name) => `"${name}"`).join(', ')})`
}

/** Returns the name of a replica's slot on the primary. */
export function slotOf(name: string): string {
  return `rung_${name.replaceAll('-', '_')}`
}

/**
 * The builtin C.UTF-8 locale sorts the same on every operating system, so an index never breaks because of an upgrade of
 * the system's collation tables.
 */
export const initdbLocale = ['--encoding=UTF8', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C']

export function initdbArgs(dataDir: string): string[] {
  return [
    `--pgdata=${dataDir}`,
    `--username=${superuser}`,
    ...initdbLocale,
    '--auth-local=trust', // only its owner may enter the socket's folder
    '--auth-host=scram-sha-256',
    '--no-instructions',
  ]
}

/** Returns a fingerprint of settings: a running server with another one is restarted. */
export function fingerprint(all: Record<string, string>): string {
  return createHash('sha256').update(JSON.stringify(all)).digest('hex').slice(0, 16)
}

export function serverArgs(data: string, all: Record<string, string>): string[] {
  const args = ['-D', data]
  for (const [name, value] of Object.entries(all)) args.push('-c', `${name}=${value}`)
  args.push('-c', `rung.recipe=${fingerprint(all)}`)
  return args
}

/** Statements of the superuser; each may be repeated. */
export const setupStatements = {
  role: `do $$ begin
    if not exists (select from pg_roles where rolname = '${appRole}') then
      create role ${appRole} login;
    end if;
  end $$`,
  grants: `grant pg_monitor to ${appRole}`,
  database: `create database ${appDatabase} owner ${appRole}`,
  extension: 'create extension if not exists pg_stat_statements',
} as const

/**
 * A Unix socket's path is limited to 103 bytes on macOS and 107 on Linux; the socket of a deep data directory lies in a private folder
 * below the temporary one.
 */
export function socketDirFor(rootDir: string, tmpDir: string): string {
  const beside = `${rootDir}/run`
  if (Buffer.byteLength(`${beside}/.s.PGSQL.${socketPort}`) <= 103) return beside
  return `${tmpDir}/rung-${createHash('sha256').update(rootDir).digest('hex').slice(0, 12)}`
}

export interface SessionLimits {
  statementTimeoutMs: number
  lockTimeoutMs: number
  idleInTransactionTimeoutMs: number
}

/** Limits of Rung's own statements: they are short, and upkeep works in small pieces. */
const ownLimits: SessionLimits = {
  statementTimeoutMs: 10_000,
  lockTimeoutMs: 5_000,
  idleInTransactionTimeoutMs: 10_000,
}
const reportTimeoutMs = 60_000

/** Returns the limits of the sessions for a target. */
export function limitsFor(target: PooledTarget | 'session', limits: SessionLimits): SessionLimits {
  if (target === 'own') return ownLimits
  return target === 'reports' ? { ...limits, statementTimeoutMs: reportTimeoutMs } : limits
}

/** Returns whether sessions for a target are read-only, also where the server is the primary. */
export function isReadOnly(target: PooledTarget | 'session'): boolean {
  return target === 'read' || target === 'reports'
}

/** Makes the server write values in the forms that `values.ts` parses, with all digits. */
const exactText = { datestyle: 'ISO', intervalstyle: 'postgres', extra_float_digits: 1, bytea_output: 'hex' }

/** The settings of each session, made by the connection itself or by the pooler in front of the server. */
export function sessionSettings(limits: SessionLimits | undefined, readOnly: boolean): Record<string, string | number> {
  return {
    ...exactText,
    ...(limits && {
      statement_timeout: limits.statementTimeoutMs,
      lock_timeout: limits.lockTimeoutMs,
      idle_in_transaction_session_timeout: limits.idleInTransactionTimeoutMs,
    }),
    ...(readOnly && { default_transaction_read_only: 'on' }),
  }
}
