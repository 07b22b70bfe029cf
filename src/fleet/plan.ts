import { createHash } from 'node:crypto'
import { socketDirFor } from '../engines/postgres/recipe.ts'
import { redisUrl } from '../engines/redis/recipe.ts'
import type { CdnTopology, Topology } from '../topology/topology.ts'

/** From a topology to the processes that make it: pure, so that it can be read, printed and compared. */

export type Part = PostgresPart | RedisPart | EdgePart | AppPart | ArchiverPart

interface Common {
  name: string
  /** Parts of a lower wave answer before this one is started. */
  startWave: number
  /** Parts of a higher one are gone before this one is stopped. */
  stopWave: number
  /** Where it listens, for people: no passwords. */
  address: string
  /** Its own folder, with its log. */
  dir: string
}

export interface PostgresPart extends Common {
  kind: 'postgres'
  root: string
  connectionsMax: number
}

export interface RedisPart extends Common {
  kind: 'redis'
  socketPath: string
  password: string
}

export interface EdgePart extends Common {
  kind: 'edge'
  listen: { host: string; port: number }
  adminPort: number
  secret: string
  /** A CDN stands in front, and wants to know what a page depends on. */
  tagsShown: boolean
  upstreams: readonly string[]
}

/** One of Rung's own commands. */
interface CommandPart extends Common {
  program: string
  args: readonly string[]
  cwd: string
  /** Its whole environment. */
  env: Env
  healthUrl: string
  /** For what it has in hand when it is told to stop. */
  stopTimeoutMs: number
}

export interface AppPart extends CommandPart {
  kind: 'app'
  role: Role
}

/** Follows the log of Postgres into the backup directory. */
export interface ArchiverPart extends CommandPart {
  kind: 'archiver'
}

export type Role = 'web' | 'worker' | 'both'
export type Env = Readonly<Record<string, string | undefined>>

/** What a plan stands on: everything that is not decided by the topology. */
export interface Ground {
  /** Absolute. */
  dataDir: string
  tmpDir: string
  /** `program …args start file --role web` is a process of the app. */
  app: { program: string; args: readonly string[]; file: string; cwd: string; env: Env }
  /** Free ones, as many as `portsNeeded`. */
  ports: readonly number[]
  secrets: { root: string | undefined; redis: string; edge: string }
}

export interface Plan {
  /** Where clients come in. */
  url: string
  /** In the order in which people want to read them: from the clients inwards. */
  parts: readonly Part[]
}

/** Set here, whatever the user's environment says. */
const ours =
  /^(RUNG_(TOPOLOGY|DATA|REDIS_URL|EDGE|EDGE_URL|EDGE_SECRET|CDN|CDN_ID|CDN_TOKEN|CDN_URL|ROLE|SECRET|WEB|WORKER|POOL_READ|POOL_WRITE)|DATABASE_URL|PORT|HOST)$/
const local = '127.0.0.1'
/** A request has 30 s, and its connection and the database's some more. */
const requestsMs = 50_000
/** The app's own default. */
const graceMs = 10_000
/** Beside the app's: migrations, the bell, the watch, tools. */
const otherConnections = 20

/** One for each process of the app but the one that has the public port, one for the edge's own door, one for the archiver's. */
export function portsNeeded(topology: Topology, { env }: Pick<Ground['app'], 'env'>): number {
  const apps = rolesOf(topology).length
  return (topology.edge.engine === 'nginx' ? apps + 1 : apps - 1) + (archives(topology, env) ? 1 : 0)
}

/** A Postgres of others is not archived; the app's process says so. */
function archives({ data }: Topology, env: Env): boolean {
  return data.engine === 'embedded' && Boolean(env.RUNG_BACKUP_DIR)
}

export function planFleet(topology: Topology, ground: Ground): Plan {
  const { http } = topology
  const ports = [...ground.ports]
  const next = () => ports.shift()!
  const edge = topology.edge.engine === 'nginx' ? edgePart(topology, ground, next()) : undefined
  const redis = topology.cache.engine === 'redis' && topology.cache.url === undefined ? redisPart(ground) : undefined
  const postgres = topology.data.engine === 'embedded' ? postgresPart(topology, ground) : undefined

  const passed: Env = Object.fromEntries(Object.entries(ground.app.env).filter(([name]) => !ours.test(name)))
  const archived = archives(topology, ground.app.env)

  const shared: Env = {
    ...passed,
    ...(archived && { RUNG_BACKUP_DIR: undefined }), // one process archives
    RUNG_TOPOLOGY: topology.rung,
    RUNG_DATA: ground.dataDir,
    RUNG_WEB: String(topology.processes.both + topology.processes.web),
    RUNG_POOL_READ: String(topology.data.readConnectionsMax),
    RUNG_POOL_WRITE: String(topology.data.writeConnectionsMax),
    DATABASE_URL: topology.data.url ?? databaseUrl(ground),
    RUNG_SECRET: ground.secrets.root,
    RUNG_REDIS_URL: redis
      ? redisUrl({ listen: { socketPath: redis.socketPath }, password: redis.password })
      : topology.cache.url,
    ...(edge && { RUNG_EDGE_URL: `http://${local}:${edge.adminPort}`, RUNG_EDGE_SECRET: edge.secret }),
    ...(topology.cdn && cdnEnv(topology.cdn)),
  }
  const apps = rolesOf(topology).map(([role, name]) => {
    const behind = edge !== undefined || role === 'worker'
    const env = { ...shared, HOST: behind ? local : http.host, PORT: String(behind ? next() : http.port) }
    return appPart(name, role, ground, edge && role !== 'worker' ? believing(env) : env)
  })
  const parts = [
    ...(edge
      ? [{ ...edge, upstreams: apps.filter(({ role }) => role !== 'worker').map(({ address }) => address) }]
      : []),
    ...apps,
    ...(redis ? [redis] : []),
    ...(postgres ? [postgres] : []),
    ...(archived ? [archiverPart(ground, passed, next())] : []),
  ]
  return { url: `http://${hostOf(http.host)}:${http.port}`, parts }
}

/** Each process of the app, with its name. */
function rolesOf({ processes }: Topology): [role: Role, name: string][] {
  const several = (role: Role, name: string) =>
    Array.from({ length: processes[role] }, (_, index): [Role, string] => [role, `${name}-${index + 1}`])
  return [...several('both', 'app'), ...several('web', 'web'), ...several('worker', 'worker')]
}

/** The edge runs on this machine, and tells for whom it asks. */
function believing(env: Env): Env {
  return { ...env, RUNG_TRUST_PROXY: env.RUNG_TRUST_PROXY ? `${env.RUNG_TRUST_PROXY},${local}` : local }
}

function appPart(name: string, role: Role, { app, dataDir }: Ground, env: Env): AppPart {
  const address = `${hostOf(env.HOST!)}:${env.PORT}`
  return {
    kind: 'app',
    name,
    role,
    startWave: 1,
    stopWave: role === 'worker' ? 2 : 3,
    address,
    dir: partDir(dataDir, name),
    program: app.program,
    args: [...app.args, 'start', app.file, '--role', role],
    cwd: app.cwd,
    env: { ...env, RUNG_ROLE: role },
    healthUrl: `http://${address}/healthz`,
    stopTimeoutMs: requestsMs + Number(env.RUNG_DRAIN_MS || 0) + Number(env.RUNG_GRACE_MS || graceMs),
  }
}

/** It outlives what writes, and ends before Postgres. It needs nothing of the app: neither its keys nor its engines. */
function archiverPart({ app, dataDir }: Ground, passed: Env, port: number): ArchiverPart {
  const address = `${local}:${port}`
  return {
    kind: 'archiver',
    name: 'archiver',
    startWave: 1,
    stopWave: 1,
    address,
    dir: partDir(dataDir, 'archiver'),
    program: app.program,
    args: [...app.args, 'backup', '--stream', '--port', String(port)],
    cwd: app.cwd,
    env: { ...passed, RUNG_DATA: dataDir },
    healthUrl: `http://${address}/healthz`,
    stopTimeoutMs: graceMs,
  }
}

function cdnEnv({ name, id, token, url }: CdnTopology): Env {
  return { RUNG_CDN: name, RUNG_CDN_ID: id, RUNG_CDN_TOKEN: token, RUNG_CDN_URL: url }
}

function edgePart({ http, cdn }: Topology, ground: Ground, adminPort: number): EdgePart {
  return {
    kind: 'edge',
    name: 'edge',
    startWave: 2,
    stopWave: 4,
    address: `${hostOf(http.host)}:${http.port}`,
    dir: shortDir(ground, 'edge', 'gate.sock'),
    listen: http,
    adminPort,
    secret: ground.secrets.edge,
    tagsShown: cdn !== undefined,
    upstreams: [],
  }
}

function redisPart(ground: Ground): RedisPart {
  const dir = shortDir(ground, 'redis', 'redis.sock')
  const socketPath = `${dir}/redis.sock`
  return {
    kind: 'redis',
    name: 'redis',
    startWave: 0,
    stopWave: 1,
    address: socketPath,
    dir,
    socketPath,
    password: ground.secrets.redis,
  }
}

function postgresPart(topology: Topology, { dataDir, tmpDir }: Ground): PostgresPart {
  const { readConnectionsMax, writeConnectionsMax } = topology.data
  return {
    kind: 'postgres',
    name: 'postgres',
    startWave: 0,
    stopWave: 0,
    address: socketDirFor(dataDir, tmpDir),
    dir: dataDir,
    root: dataDir,
    connectionsMax: rolesOf(topology).length * (readConnectionsMax + writeConnectionsMax) + otherConnections,
  }
}

/** The socket's folder admits its owner only, and the app's role has no password. */
function databaseUrl({ dataDir, tmpDir }: Ground): string {
  return `postgres://app@/app?host=${encodeURIComponent(socketDirFor(dataDir, tmpDir))}`
}

export function fleetDir(dataDir: string): string {
  return `${dataDir}/fleet`
}

function partDir(dataDir: string, name: string): string {
  return `${fleetDir(dataDir)}/${name}`
}

/** A Unix socket's path is limited to 103 bytes on macOS: below a deep data directory its folder is a private one elsewhere. */
function shortDir({ dataDir, tmpDir }: Ground, name: string, socket: string): string {
  const dir = partDir(dataDir, name)
  if (Buffer.byteLength(`${dir}/${socket}`) <= 103) return dir
  return `${tmpDir}/rung-${createHash('sha256').update(dir).digest('hex').slice(0, 12)}`
}

function hostOf(host: string): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost'
  return host.includes(':') ? `[${host}]` : host
}
