import { haproxyConfig, haproxyDefaults } from '../engines/haproxy/recipe.ts'
import { natsConfig, natsPorts, storeBytesOf } from '../engines/nats/recipe.ts'
import { appLua, purgeLua } from '../engines/nginx/lua.ts'
import {
  answerTimeoutMs,
  appModule,
  nginxArgs,
  nginxConfig,
  nginxDefaults,
  purgeModule,
} from '../engines/nginx/recipe.ts'
import { clientsMax } from '../engines/pgbouncer/engine.ts'
import { pgbouncerConfig, poolsOf } from '../engines/pgbouncer/recipe.ts'
import { appDatabase, appRole, followingSettings, portableSettings, serverNames } from '../engines/postgres/recipe.ts'
import { redisConfig } from '../engines/redis/recipe.ts'
import { connectionsNeeded, databaseConnections, poolerConnections } from '../topology/topology.ts'
import { type Exported, type Files, marked } from './files.ts'

/** Postgres and Redis are sized for this much memory each. */
export const memoryMib = { postgres: 2_048, redis: 256 } as const
const mebibyte = 1024 ** 2

export const edgePorts = { clients: 3000, admin: 9001 } as const

const edgeDir = { config: '/etc/edge', work: '/tmp/edge' } as const

/** nginx begins with an empty cache, since it may have missed purges, and without the socket that a killed one left. */
export const edgeCommand = [
  'sh',
  '-c',
  `rm -rf ${edgeDir.work} && mkdir -p ${edgeDir.work}/tmp && exec openresty ${nginxArgs(`${edgeDir.config}/nginx.conf`, edgeDir.work).join(' ')}`,
] as const

/** Returns nginx' files, for a folder that is `/etc/edge` in its container. */
export function edgeFiles(
  { deployment: { topology }, app }: Exported,
  at: {
    upstreams: readonly string[]
    adminHost: string
    proxies: readonly string[]
    sessionCookies?: readonly string[]
  },
): Files {
  const settings = {
    ...nginxDefaults,
    dir: edgeDir.work,
    luaDir: edgeDir.config,
    listen: { host: '0.0.0.0', port: edgePorts.clients },
    adminHost: at.adminHost,
    adminPort: edgePorts.admin,
    secret: { variable: 'RUNG_EDGE_SECRET' },
    instance: 'edge',
    upstreams: at.upstreams,
    modules: [],
    workers: 1,
    filesMax: undefined,
    tagsShown: topology.cdn !== undefined,
    trustedProxies: at.proxies,
    requestTimeoutMs: app.requestTimeoutMs,
    sessionCookies: [...nginxDefaults.sessionCookies, ...(at.sessionCookies ?? [])],
  }
  return {
    'nginx.conf': `${marked()}\n${nginxConfig(settings)}`,
    [`${appModule}.lua`]: `${marked('--')}\n${appLua(answerTimeoutMs(settings))}`,
    [`${purgeModule}.lua`]: `${marked('--')}\n${purgeLua}`,
  }
}

export function balancerConfig(
  { deployment: { topology }, app }: Exported,
  port: number,
  servers: readonly { name: string; address: string }[],
  trustedProxies: readonly string[],
): string {
  const config = haproxyConfig({
    ...haproxyDefaults,
    dir: '/tmp',
    listen: { host: '0.0.0.0', port },
    isEntry: topology.edge.engine === 'none',
    trustedProxies,
    servers,
    threads: 2,
    clientsMax: 10_000,
    requestTimeoutMs: app.requestTimeoutMs,
  })
  return `${marked()}\n${config}`
}

/** Its password is on its command line, which the platform fills in. */
export function redisFile(): string {
  const config = redisConfig({
    dir: '/data',
    listen: { host: '*', port: 6379 },
    memoryMaxBytes: memoryMib.redis * mebibyte,
    password: undefined,
  })
  return `${marked()}\n${config}`
}

/** Its name and its password are on its command line, which the platform fills in. */
export function natsFile({ settings: { values } }: Exported): string {
  const config = natsConfig({
    name: undefined,
    dir: '/data',
    listen: { host: '0.0.0.0', port: natsPorts.clients },
    password: undefined,
    storeBytesMax: storeBytesOf(values.events),
  })
  return `${marked()}\n${config}`
}

/** @param hosts of all servers of the database, that of the primary first */
export function poolerConfig({ deployment: { topology } }: Exported, hosts: readonly string[]): string {
  const names = serverNames(hosts.length)
  const servers = hosts.map((host, index) => ({
    name: names[index]!,
    server: { host, port: 5432, user: appRole, password: undefined, database: appDatabase, tls: undefined },
  }))
  const config = pgbouncerConfig({
    dir: '/tmp',
    network: { authFile: '/etc/pgbouncer/userlist.txt' },
    pools: poolsOf(servers, poolerConnections(topology), topology.data),
    clientsMax: clientsMax(topology, servers.length),
  })
  return `${marked(';')}\n${config}`
}

/** Returns the settings of Postgres servers: those of Rung's own, as far as they suit other machines. */
export function postgresSettings({ deployment: { topology } }: Exported): Record<string, string> {
  return {
    ...portableSettings({
      memoryBytes: memoryMib.postgres * mebibyte,
      connectionsMax: Math.max(databaseConnections(topology), connectionsNeeded(topology)), // also of the largest number
    }),
    ...(topology.data.replicas > 0 && { ...followingSettings, wal_keep_size: '1GB' }),
  }
}
