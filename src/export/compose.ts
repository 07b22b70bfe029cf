import { createHash } from 'node:crypto'
import { haproxyPackages } from '../engines/haproxy/recipe.ts'
import { natsArgs, natsPackages, natsPorts, natsUser } from '../engines/nats/recipe.ts'
import { nginxPackages } from '../engines/nginx/recipe.ts'
import { pgbouncerPackages, poolerPort } from '../engines/pgbouncer/recipe.ts'
import { appDatabase, appRole, initdbLocale, postgresVersion, serverNames } from '../engines/postgres/recipe.ts'
import { redisPackages } from '../engines/redis/recipe.ts'
import { RungError } from '../kernel/errors.ts'
import { waysToSet } from '../topology/read-settings.ts'
import type { Role } from '../topology/topology.ts'
import {
  balancerConfig,
  edgeCommand,
  edgeFiles,
  edgePorts,
  natsFile,
  poolerConfig,
  postgresSettings,
  redisFile,
} from './engine-files.ts'
import { appPort, commonSettings, eventSettings, namedProxies, secretNames } from './environment.ts'
import { type Exported, type Files, flow, ignoring, inFolder, lines, literal, marked, scalar } from './files.ts'

/** nginx and HAProxy find what is behind them at fixed addresses, which names would not be: Lua does not resolve them. */
const network = { subnet: '10.213.0.0/24', others: '10.213.0.128/25', balancer: '10.213.0.10' } as const
const addressOf = (index: number) => `10.213.0.${11 + index}`
const websMax = 100

/** The names of the web processes. */
export function webNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `web-${index + 1}`)
}

/** HAProxy asks each process twice a second whether it is ready. */
const drainMs = 2_000

/** Returns compose.yaml and what it names, for one machine with Docker. Pure. */
export function composeFiles(exported: Exported): Files {
  const { topology } = exported.deployment
  const { processes, data, cache, events, edge, balancer } = topology
  const isBalanced = balancer.engine === 'haproxy'
  if (processes.web > websMax || (processes.web > 1 && !isBalanced)) {
    throw new RungError(
      'CONFIG_INVALID',
      `Compose runs one web process, or up to ${websMax} behind the balancer. Set ${waysToSet('balancer')} to on.`,
    )
  }
  /** The processes that answer requests. */
  const answering = (processes.both > 0 ? ['app'] : webNames(processes.web)).map((name, index) => ({
    name,
    address: addressOf(index),
  }))
  const own = {
    postgres: data.engine === 'embedded',
    pooler: data.engine === 'embedded' && data.pooler === 'pgbouncer',
    redis: cache.engine === 'redis',
    nats: events.engine === 'jetstream',
  }
  const replicas = own.postgres ? serverNames(1 + data.replicas).slice(1) : []
  const edgeAt = isBalanced ? `${network.balancer}:${appPort}` : `${answering[0]!.address}:${appPort}`
  const hasEdge = edge.engine === 'nginx'
  const isBehind = hasEdge || isBalanced
  const isDrained = isBalanced && !exported.settings.given.has('stop.drainMs')
  const proxies = [...namedProxies(exported), network.subnet]
  /** The files of the engines, as their containers see them. */
  const edgeMount = hasEdge ? edgeFiles(exported, { upstreams: [edgeAt], adminHost: '0.0.0.0', proxies }) : {}
  const balancerMount = isBalanced && {
    'haproxy.cfg': balancerConfig(
      exported,
      appPort,
      answering.map(({ name, address }) => ({ name, address: `${address}:${appPort}` })),
      proxies,
    ),
  }
  const redisMount = own.redis && { 'redis.conf': redisFile() }
  const natsMount = own.nats && { 'nats.conf': natsFile(exported) }
  const poolerMount = own.pooler && { 'pgbouncer.ini': poolerConfig(exported, ['postgres', ...replicas]) }
  const postgresMount = own.postgres ? postgresFiles() : {}

  return {
    'compose.yaml': composeFile(),
    '.env.example': example(),
    ...ignoring('.env'),
    ...inFolder('edge', edgeMount),
    ...balancerMount,
    ...redisMount,
    ...natsMount,
    ...poolerMount,
    ...inFolder('postgres', postgresMount),
  }

  function composeFile(): string {
    return `\
${marked()}

x-app: &app
  image: \${IMAGE:-${exported.app.name}}:\${TAG:-latest}
  build: ${scalar(literal(exported.context))}
  restart: unless-stopped
  stop_grace_period: ${seconds(exported.app.stopMs + (isDrained ? drainMs : 0))}
  ${lines(2, 'volumes: [data:/data]', topology.placement.cpu !== undefined && `cpus: ${topology.placement.cpu}`)}

x-environment: &environment
  ${lines(2, ...environment())}

services:
  migrate:
    <<: *app
    command: ${flow(['migrate', ...appFile()])}
    restart: "no"
    ${lines(4, 'environment: *environment', own.postgres && 'depends_on: { postgres: { condition: service_healthy } }')}
${[
  ...answering.map(({ name, address }) =>
    appService(name, processes.both > 0 ? 'both' : 'web', isBehind ? { address } : { entry: true }),
  ),
  processes.worker > 0 && appService('worker', 'worker', { count: processes.worker }),
  hasEdge && edgeService(),
  isBalanced && balancerService(),
  own.redis && redisService(),
  own.nats && natsService(),
  own.pooler && poolerService(),
  own.postgres && postgresServices(),
]
  .filter(Boolean)
  .join('')}
networks:
  default:
    ipam:
      config:
        - subnet: ${network.subnet}
          ip_range: ${network.others} # the addresses below it are given by hand

volumes:
  ${lines(2, 'data:', own.postgres && 'postgres:', own.nats && 'nats:', ...replicas.map((name) => `${name}:`))}
`
  }

  function environment(): string[] {
    const password = `\${DATABASE_PASSWORD:?}`
    const databaseAt = (host: string) => `postgres://${appRole}:${password}@${host}:5432/${appDatabase}`
    const several = processes.both + processes.web + processes.worker > 1
    const common = Object.entries(commonSettings(exported.settings, [network.subnet])).map(
      ([name, value]) => `${name}: ${scalar(literal(value))}`,
    )
    return [
      ...common,
      own.postgres ? `DATABASE_URL: ${databaseAt('postgres')}` : required('DATABASE_URL'),
      replicas.length > 0 && `DATABASE_READ_URL: ${replicas.map(databaseAt).join(',')}`,
      !own.postgres && data.replicas > 0 && required('DATABASE_READ_URL'),
      own.pooler && `RUNG_POOLER_URL: postgres://${appRole}:${password}@pooler:${poolerPort}`,
      own.redis && `RUNG_REDIS_URL: redis://:\${REDIS_PASSWORD:?}@redis:6379`,
      cache.engine === 'external' && required('RUNG_REDIS_URL'),
      // One node: on one machine others would not outlive it.
      ...eventSettings(events, `nats://${natsUser}:\${NATS_PASSWORD:?}@nats:${natsPorts.clients}`, 1).map(
        ([name, value]) => `${name}: ${scalar(value)}`,
      ),
      events.engine === 'external' && required('RUNG_NATS_URL'),
      hasEdge && `RUNG_EDGE_URL: http://edge:${edgePorts.admin}`,
      hasEdge && required('RUNG_EDGE_SECRET'),
      several && 'RUNG_FILES_SHARED: "on"',
      ...secrets().map(required),
    ].filter((line) => line !== false)
  }

  function secrets(): string[] {
    return ['RUNG_SECRET', ...secretNames(exported.settings)]
  }

  function appService(
    name: string,
    role: Role,
    { address, count = 1, entry = false }: { address?: string; count?: number; entry?: boolean },
  ): string {
    const own = [
      ...(role === 'both' ? [] : [`RUNG_ROLE: ${role}`]),
      ...(role !== 'worker' && isDrained ? [`RUNG_DRAIN_MS: "${drainMs}"`] : []),
    ]
    return `
  ${name}:
    <<: *app
    ${lines(
      4,
      count > 1 && `scale: ${count}`,
      appFile().length > 0 && `command: ${flow(['start', ...appFile()])}`,
      own.length === 0 ? 'environment: *environment' : `environment: { <<: *environment, ${own.join(', ')} }`,
      entry && ports(),
      address && `networks: { default: { ipv4_address: ${address} } }`,
    )}
    depends_on: { migrate: { condition: service_completed_successfully } }
`
  }

  function edgeService(): string {
    return `
  edge: # the page cache, and the address for clients
    image: ${nginxPackages.dockerImage}
    command: ${flow(edgeCommand)}
    user: "1000:1000" # nginx needs no root: its files are in /tmp
    restart: unless-stopped
    stop_signal: SIGQUIT # finishes requests in progress
    stop_grace_period: ${seconds(exported.app.requestTimeoutMs + 5_000)}
    environment: { RUNG_EDGE_SECRET: "\${RUNG_EDGE_SECRET:?}" }
    volumes: [./edge:/etc/edge:ro]
    ${labels(edgeMount)}
    ${ports()}
    depends_on: [${isBalanced ? 'balancer' : answering[0]!.name}]
`
  }

  function balancerService(): string {
    return `
  balancer:
    image: ${haproxyPackages.dockerImage}
    restart: unless-stopped
    stop_signal: SIGUSR1 # finishes requests in progress
    stop_grace_period: ${seconds(exported.app.requestTimeoutMs + 5_000)}
    volumes: [./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro]
    ${labels(balancerMount)}
    networks: { default: { ipv4_address: ${network.balancer} } }
    ${lines(4, !hasEdge && ports(), `depends_on: [${answering.map(({ name }) => name).join(', ')}]`)}
`
  }

  function redisService(): string {
    return `
  redis:
    image: ${redisPackages.dockerImage}
    command: [redis-server, /etc/redis.conf, --requirepass, "\${REDIS_PASSWORD:?}"]
    restart: unless-stopped
    volumes: [./redis.conf:/etc/redis.conf:ro]
    ${labels(redisMount)}
`
  }

  function natsService(): string {
    return `
  nats: # carries events; what it loses is read from the database
    image: ${natsPackages.dockerImage}
    command: ${flow(natsArgs('/etc/nats/nats.conf', { name: 'nats', password: `\${NATS_PASSWORD:?}` }))}
    restart: unless-stopped
    volumes: [./nats.conf:/etc/nats/nats.conf:ro, nats:/data]
    ${labels(natsMount)}
`
  }

  function poolerService(): string {
    return `
  pooler:
    image: ${pgbouncerPackages.dockerImage}
    restart: unless-stopped
    environment: { AUTH_TYPE: scram-sha-256, DB_USER: ${appRole}, DB_PASSWORD: "\${DATABASE_PASSWORD:?}" }
    volumes: [./pgbouncer.ini:/etc/pgbouncer/pgbouncer.ini:ro]
    ${labels(poolerMount)}
`
  }

  function postgresServices(): string {
    const hba = replicas.length > 0 ? ', -c, hba_file=/etc/postgresql/pg_hba.conf' : ''
    const { 'app.sh': _once, 'replica.sh': script, ...settings } = postgresMount
    const check = `test: [CMD, pg_isready, --quiet, --host=127.0.0.1, --username=${appRole}, --dbname=${appDatabase}]`
    return `
  postgres:
    image: postgres:${postgresVersion}-bookworm
    command: [postgres, -c, config_file=/etc/postgresql/postgresql.conf${hba}]
    restart: unless-stopped
    stop_grace_period: 60s
    shm_size: 256m
    environment:
      POSTGRES_PASSWORD: \${POSTGRES_PASSWORD:?}
      POSTGRES_INITDB_ARGS: ${initdbLocale.join(' ')}
      DATABASE_PASSWORD: \${DATABASE_PASSWORD:?}
    volumes:
      - postgres:/var/lib/postgresql
      - ./postgres:/etc/postgresql:ro
      - ./postgres/app.sh:/docker-entrypoint-initdb.d/app.sh:ro # runs once, when the volume is empty
    ${labels(settings)}
    healthcheck: { ${check}, interval: 5s, timeout: 3s, retries: 24 }
${replicas
  .map(
    (name) => `
  ${name}:
    image: postgres:${postgresVersion}-bookworm
    entrypoint: [bash, /etc/postgresql/replica.sh]
    user: postgres
    restart: unless-stopped
    stop_grace_period: 60s
    shm_size: 256m
    environment: { PGPASSWORD: "\${POSTGRES_PASSWORD:?}" }
    volumes:
      - ${name}:/var/lib/postgresql
      - ./postgres:/etc/postgresql:ro
    ${labels({ ...settings, script })}
    depends_on: { postgres: { condition: service_healthy } }
`,
  )
  .join('')}`
  }

  function postgresFiles(): Files {
    const settings = { listen_addresses: '*', ...postgresSettings(exported) }
    return {
      'postgresql.conf': `${marked()}\n${Object.entries(settings)
        .map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
        .join('')}`,
      'app.sh': initScript,
      ...(replicas.length > 0 && { 'pg_hba.conf': hostRules, 'replica.sh': replicaScript }),
    }
  }

  function example(): string {
    const external = (name: string, isNeeded: boolean) => isNeeded && `${name}=`
    return `\
${marked()}
# Copy this to .env, fill it in, and never commit it. Make each secret with: openssl rand -hex 32
${lines(
  0,
  ...secrets().map((name) => `${name}=`),
  own.postgres &&
    '# The roles of Postgres: its superuser, and that of the app.\nPOSTGRES_PASSWORD=\nDATABASE_PASSWORD=',
  external('DATABASE_URL', !own.postgres),
  external('DATABASE_READ_URL', !own.postgres && data.replicas > 0),
  external('RUNG_REDIS_URL', cache.engine === 'external'),
  own.redis && 'REDIS_PASSWORD=',
  external('RUNG_NATS_URL', events.engine === 'external'),
  own.nats && 'NATS_PASSWORD=',
  hasEdge && 'RUNG_EDGE_SECRET=',
)}
# Where this machine listens, on 127.0.0.1: what ends TLS is in front of it.
# PORT=3000
# The image of the app, and its version: a commit, for example.
# IMAGE=ghcr.io/example/${exported.app.name}
# TAG=
`
  }

  function appFile(): string[] {
    return exported.app.file === undefined ? [] : [literal(exported.app.file)]
  }
}

const ports = () => `ports: ["127.0.0.1:\${PORT:-3000}:${appPort}"]`
const required = (name: string) => `${name}: \${${name}:?}`
/** Compose makes a new container where the service has changed. It does not look into files that are mounted, so the service has their hash. */
const labels = (files: object | false) =>
  `labels: { rung.files: "${createHash('sha256').update(JSON.stringify(files)).digest('hex').slice(0, 12)}" }`
const seconds = (ms: number) => `${Math.ceil(ms / 1_000)}s`

/** The role of the app owns its database and nothing else. */
const initScript = `\
#!/bin/bash
${marked()}
psql --no-psqlrc --set ON_ERROR_STOP=1 --set password="$DATABASE_PASSWORD" --username postgres <<'SQL'
create role ${appRole} login password :'password';
grant pg_monitor to ${appRole};
create database ${appDatabase} owner ${appRole};
\\connect ${appDatabase}
create extension pg_stat_statements;
SQL
`

const hostRules = `\
${marked()}
local all all trust
host all all samenet scram-sha-256
host replication postgres samenet scram-sha-256
`

const replicaScript = `\
#!/bin/bash
${marked()}
# Copies the primary if the volume is empty, and follows it from then on. One that was away too long: remove its volume.
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  rm -rf "$PGDATA"
  pg_basebackup --host=postgres --username=postgres --pgdata="$PGDATA" --write-recovery-conf --checkpoint=fast
fi
exec postgres -c config_file=/etc/postgresql/postgresql.conf -c hba_file=/etc/postgresql/pg_hba.conf
`
