import { RungError } from '../../kernel/errors.ts'
import { type DataLimits, type PooledTarget, pooledTargets } from '../../topology/topology.ts'
import { isReadOnly, limitsFor, type SessionLimits, sessionSettings } from '../postgres/recipe.ts'

/** How to run PgBouncer as a pooler of transactions. Pure. */
export const pgbouncerLeast = '1.15'
export const pgbouncerVersionFlag = '--version'

export const pgbouncerPackages = {
  debian: ['pgbouncer'],
  debianServices: ['pgbouncer'],
  brew: ['pgbouncer'],
  dockerImage: 'edoburu/pgbouncer:v1.25.1-p0',
} as const

/** PgBouncer names its socket after a port, even without a network. */
export const poolerPort = 6432
export const poolerSocket = `.s.PGSQL.${poolerPort}`
/** Any name: only its owner may enter the folder of the socket, and each database is used as the role of its own URL. */
const poolerUser = 'rung'

export interface PgbouncerSettings {
  /** Folder of the configuration and the socket. */
  dir: string
  /** Listens on all addresses instead of the socket. The file has the passwords of the roles, for clients and for the servers. */
  network?: { authFile: string }
  pools: readonly Pool[]
  /** Connections of clients; further ones are refused. */
  clientsMax: number
}

/** A database of the pooler: `postgres-2.read`. */
export interface Pool {
  readonly name: string
  readonly server: PostgresServer
  readonly connectionsMax: number
  readonly limits: SessionLimits
  readonly readOnly: boolean
}

export interface PostgresServer {
  readonly host: string
  readonly port: number
  readonly user: string | undefined
  readonly password: string | undefined
  readonly database: string
  /** `sslmode`. One for all servers. */
  readonly tls: string | undefined
}

/** Returns the pools of each server: one for each target, with the settings that its sessions need. Those of a group are its own. */
export function poolsOf(
  servers: readonly { readonly name: string; readonly server: PostgresServer }[],
  connections: Readonly<Record<PooledTarget, number>>,
  data: DataLimits,
  group?: string,
): Pool[] {
  return servers.flatMap(({ name, server }) =>
    pooledTargets.map((target) => ({
      name: poolName(name, target, group),
      server,
      connectionsMax: connections[target],
      limits: limitsFor(target, data),
      readOnly: isReadOnly(target),
    })),
  )
}

/** `postgres-2.read`, `postgres.write.media` */
export function poolName(server: string, target: PooledTarget, group: string | undefined): string {
  return group === undefined ? `${server}.${target}` : `${server}.${target}.${group}`
}

/** Returns where processes find the pooler. They add the name of a database. */
export function poolerUrl(dir: string): string {
  return `postgres://${poolerUser}@/?host=${encodeURIComponent(dir)}&port=${poolerPort}`
}

/**
 * Returns the configuration. It differs from the defaults, each for a reason:
 * - a pool for each target, because the pooler makes the settings of its sessions (`connect_query`): a client's own would reach other
 *   clients, or be refused;
 * - a client waits for a connection as long as a process waits for one of its own pool, and not two minutes;
 * - a server that was away is tried again at once (`server_login_retry`), for failovers;
 * - connections are replaced after an hour, and closed after a minute without use.
 */
export function pgbouncerConfig({ dir, network, pools, clientsMax }: PgbouncerSettings): string {
  const tls = pools.find(({ server }) => server.tls !== undefined)?.server.tls ?? 'prefer'
  return `\
[databases]
${pools.map((pool) => `${pool.name} = ${entry(pool)}`).join('\n')}

[pgbouncer]
listen_addr =${network ? ' *' : ''}
listen_port = ${poolerPort}
${
  network
    ? `unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = ${plain(network.authFile)}`
    : `unix_socket_dir = ${plain(dir)}\nunix_socket_mode = 0700\nauth_type = any`
}
admin_users = ${poolerUser}
pool_mode = transaction
max_client_conn = ${clientsMax}
query_wait_timeout = 5
server_connect_timeout = 5
server_login_retry = 0.2
server_idle_timeout = 60
server_lifetime = 3600
server_reset_query_always = 0
server_tls_sslmode = ${plain(tls)}
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
log_stats = 0
`
}

function entry({ server, connectionsMax, limits, readOnly }: Pool): string {
  const settings = Object.entries(sessionSettings(limits, readOnly)).map(([name, value]) => `set ${name} = '${value}'`)
  const values: [string, string | number | undefined][] = [
    ['host', server.host],
    ['port', server.port],
    ['dbname', server.database],
    ['user', server.user],
    ['password', server.password],
    ['pool_size', connectionsMax],
    ['max_db_connections', connectionsMax],
    ['connect_query', settings.join('; ')],
  ]
  return values.flatMap(([name, value]) => (value === undefined ? [] : `${name}=${quote(String(value))}`)).join(' ')
}

function quote(text: string): string {
  return `'${plain(text).replaceAll("'", "''")}'`
}

function plain(text: string): string {
  if (/[\n\r\0]/.test(text)) throw new TypeError("PgBouncer's configuration cannot contain a line break")
  return text
}

/**
 * Parses a URL of Postgres, for a pooler in front of it.
 * @throws CONFIG_INVALID for a URL with options that the pooler would not pass on
 */
export function serverOf(text: string): PostgresServer {
  const url = new URL(text.replace('@/', '@folder/'))
  const { searchParams } = url
  const unknown = [...searchParams.keys()].find(
    (name) => !['host', 'port', 'sslmode', 'user', 'password'].includes(name),
  )
  if (unknown !== undefined) {
    throw new RungError(
      'CONFIG_INVALID',
      `PgBouncer cannot pass on "${unknown}" of the database's URL. Remove it from the URL, or set RUNG_POOLER to off.`,
    )
  }
  const user = decodeURIComponent(url.username) || (searchParams.get('user') ?? undefined)
  return {
    host: searchParams.get('host') ?? url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(searchParams.get('port') ?? (url.port || 5432)),
    user,
    password: decodeURIComponent(url.password) || (searchParams.get('password') ?? undefined),
    database: decodeURIComponent(url.pathname.slice(1)) || (user ?? 'postgres'),
    tls: tlsOf(searchParams.get('sslmode')),
  }
}

function tlsOf(mode: string | null): string | undefined {
  if (mode === null) return undefined
  return mode === 'no-verify' ? 'require' : mode
}

/** `PgBouncer 1.18.0` */
export function pgbouncerVersion(text: string): string | undefined {
  return /^PgBouncer (?:version )?(\d+(?:\.\d+)+)/i.exec(text)?.[1]
}
