import { parseMailbox } from '../kernel/mail-address.ts'
import { rungNames } from './catalog.ts'
import {
  addresses,
  cores,
  isBuild,
  isName,
  names,
  networks,
  nodeGroups,
  oneOf,
  onOrOff,
  parseRoots,
  place,
  type SettingType,
  schedule,
  share,
  text,
  url,
  urls,
  whole,
  wholeOrRange,
} from './setting-types.ts'
import { cdnNames, roles, type Topology } from './topology.ts'
import { areRedisUrls, isPostgresUrl, parseNatsUrls, parseS3Url, parseSmtpUrl } from './urls.ts'

/**
 * The only table of settings. The parser, the environment of child processes, `--help`, docs/settings.md and the type of
 * `rung.config.ts` are made from it. Its nesting is that of the file: `data.url` is `{ data: { url } }` there.
 */
export interface Setting<T = unknown, F extends boolean = boolean> {
  readonly type: SettingType<NonNullable<T>>
  readonly variable: string
  /** Name of the option on the command line, without dashes. */
  readonly option: string | undefined
  /** Whether `rung.config.ts`, which is committed, may contain it. */
  readonly inFile: F
  /** Whether its value is never shown: it is a secret, or may contain a password. */
  readonly secret: boolean
  /** Whether it leads to what others rely on: a server, a bucket, a folder, keys. An isolated data directory does not use it. */
  readonly outside: boolean
  /** One sentence. */
  readonly help: string
  default(context: DefaultContext): T
}

/** Defaults may depend on the rung and the mode. */
export interface DefaultContext {
  readonly preset: Topology
  readonly mode: Mode
}

const modes = ['development', 'test', 'production'] as const
/** `development` and `test` show where an error was thrown. A statement across a module border is logged in the first, and fails in the second. */
export type Mode = (typeof modes)[number]

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]
const logFormats = ['auto', 'pretty', 'json'] as const
export type LogFormat = (typeof logFormats)[number]

interface Row<F> {
  env: string
  help: string
  option?: string
  file?: F
  secret?: boolean
  outside?: boolean
}

/** Free text may name a system that others rely on: the author of such a setting decides. */
type Decided<T> = string extends (T extends readonly (infer One)[] ? One : T) ? { outside: boolean } : object

/** A value, or a function of the rung and the mode. */
interface Default<T> {
  default: T | ((context: DefaultContext) => T)
}

/** Creates a row. Without a default its value may be `undefined`. */
export function setting<T, const F extends boolean = true>(
  type: SettingType<T>,
  row: Row<F> & Default<NoInfer<T>> & Decided<T>,
): Setting<T, F>
export function setting<T, const F extends boolean = true>(
  type: SettingType<T>,
  row: Row<F> & Decided<T>,
): Setting<T | undefined, F>
export function setting<T>(
  type: SettingType<T>,
  { env, help, option, file = true, secret = false, outside = false, ...rest }: Row<boolean> & Partial<Default<T>>,
): Setting<T | undefined> {
  const otherwise = rest.default
  return {
    type: type as Setting<T>['type'],
    variable: env,
    option,
    inFile: file,
    secret,
    outside,
    help,
    default: (context) =>
      typeof otherwise === 'function' ? (otherwise as (context: DefaultContext) => T)(context) : otherwise,
  }
}

/** Rows by their names in the file, nested like the file. */
export interface Table {
  readonly [name: string]: Setting | Table
}

/** The value that switches off a CDN that the file names. */
export const noCdn = 'off' as const
/** The value of RUNG_CONFIG with which no file is read. */
export const noConfig = 'none'

const connections = whole(1, 1000)
const postgresForm = 'postgres://user:password@host:5432/name'
const milliseconds = (most: number) => whole(0, most)
/** Its value is shown, and written into manifests. */
const collectorUrl = text(
  (value) => value !== '' && !/^(\w+:\/\/)?[^/?#]*@/.test(value),
  'be a URL without a user and a password, which OTEL_EXPORTER_OTLP_HEADERS may have',
  'url',
)
/** A user or a password in it would be sent nowhere: `fetch` refuses such a URL. */
function isHttp(value: string): boolean {
  const { protocol = '', username = '', password = '' } = URL.parse(value) ?? {}
  return /^https?:$/.test(protocol) && username === '' && password === ''
}
const isWord = (value: string) => /^[\x21-\x7e]+$/.test(value)

export const settings = {
  rung: setting(oneOf(rungNames), {
    env: 'RUNG_TOPOLOGY',
    option: 'rung',
    default: '1k',
    help: 'The rung: which engines and processes run.',
  }),
  processes: {
    web: setting(wholeOrRange(1, 64), {
      env: 'RUNG_WEB',
      outside: false,
      option: 'web',
      help: 'Number of processes that answer requests; 2..8 leaves it to the autoscaler. Without shared counts each admits its share of a limit.',
    }),
    worker: setting(wholeOrRange(0, 64), {
      env: 'RUNG_WORKER',
      outside: false,
      option: 'worker',
      help: 'Number of processes that run jobs and handle events; also 1..4. The rung has defaults for both numbers.',
    }),
    schedule: setting(schedule, {
      env: 'RUNG_WEB_SCHEDULE',
      outside: false,
      default: [],
      help: 'Least numbers of web processes that are autoscaled, by times in UTC: mon-fri 08:00-18:00 4; several are separated by commas.',
    }),
    cpu: setting(cores, {
      env: 'RUNG_NODE_CPU',
      help: 'CPU cores that each web and worker process of rung up may use, such as 0.5; where the system cannot limit them, rung ps says so.',
    }),
    zones: setting(names, {
      env: 'RUNG_ZONES',
      outside: false,
      default: [],
      help: 'Zones over which rung up spreads web and worker processes and the servers of its database, separated by commas.',
    }),
  },
  nodes: setting(nodeGroups, {
    env: 'RUNG_NODES',
    outside: false,
    default: {},
    help: 'Groups of modules with processes of their own, by name; in the environment as JSON: {"media":{"modules":["avatars"],"web":1,"worker":2}}.',
  }),
  http: {
    host: setting(
      text((value) => /^[\w.:-]+$/.test(value), 'be a name or an address', 'address'),
      {
        env: 'HOST',
        outside: false,
        default: ({ preset }) => preset.http.host,
        help: 'The address on which clients connect.',
      },
    ),
    port: setting(whole(0, 65_535), {
      env: 'PORT',
      option: 'port',
      default: ({ preset }) => preset.http.port,
      help: 'The port on which clients connect; 0 is any free one.',
    }),
    trustProxy: setting(networks, {
      env: 'RUNG_TRUST_PROXY',
      outside: false,
      default: [],
      help: 'Proxies whose X-Forwarded-For is trusted, besides those that the app names.',
    }),
  },
  /** At the edge, otherwise at the balancer. */
  tls: {
    cert: setting(place('file'), {
      env: 'RUNG_TLS_CERT',
      outside: true,
      help: 'The certificate of rung up and the certificates of its issuers, as PEM: clients then connect by https.',
    }),
    key: setting(place('file'), {
      env: 'RUNG_TLS_KEY',
      outside: true,
      help: 'The key of that certificate, as PEM without a passphrase.',
    }),
    plainPort: setting(whole(1, 65_535), {
      env: 'RUNG_PLAIN_PORT',
      outside: true,
      help: 'A second port, usually 80, on which rung up leads clients of plain http to https.',
    }),
    hstsDays: setting(whole(0, 3_650), {
      env: 'RUNG_HSTS_DAYS',
      default: 0,
      help: 'For so many days browsers refuse plain http and wrong certificates (HSTS). It cannot be taken back.',
    }),
    acmeDir: setting(place('folder'), {
      env: 'RUNG_ACME_DIR',
      outside: true,
      help: 'The folder in which an ACME client puts its challenges: that of certbot --webroot.',
    }),
  },
  data: {
    url: setting(url(isPostgresUrl, postgresForm), {
      env: 'DATABASE_URL',
      outside: true,
      secret: true,
      help: 'A running Postgres; without it Rung starts one in the data directory.',
    }),
    readUrls: setting(urls(isPostgresUrl, postgresForm), {
      env: 'DATABASE_READ_URL',
      outside: true,
      secret: true,
      default: [],
      help: 'Running replicas of that Postgres, for reads; several are separated by commas.',
    }),
    replicas: setting(whole(0, 8), {
      env: 'RUNG_REPLICAS',
      option: 'replicas',
      default: ({ preset }) => preset.data.replicas,
      help: 'Number of replicas that rung up runs beside its own Postgres.',
    }),
    pooler: setting(onOrOff, {
      env: 'RUNG_POOLER',
      default: ({ preset }) => (preset.data.pooler === 'none' ? 'off' : 'on'),
      help: 'PgBouncer, through which the processes of rung up share their database connections.',
    }),
    lagMsMax: setting(whole(100, 60_000), {
      env: 'RUNG_LAG_MS',
      default: ({ preset }) => preset.data.lagMsMax,
      help: 'A replica that lags by more than this many ms is not read until it lags by less than a fifth of that.',
    }),
    readConnectionsMax: setting(connections, {
      env: 'RUNG_POOL_READ',
      default: ({ preset }) => preset.data.readConnectionsMax,
      help: 'Connections of each process for reads.',
    }),
    writeConnectionsMax: setting(connections, {
      env: 'RUNG_POOL_WRITE',
      default: ({ preset }) => preset.data.writeConnectionsMax,
      help: 'Connections of each process for writes.',
    }),
  },
  cache: {
    url: setting(
      url(areRedisUrls, 'redis://:password@host:6379 or rediss://…, for a cluster several with commas between them'),
      {
        env: 'RUNG_REDIS_URL',
        outside: true,
        secret: true,
        help: 'A running Redis or Valkey for the layer of the cache that all processes share; nodes of a cluster are separated by commas.',
      },
    ),
    nodes: setting(whole(1, 9), {
      env: 'RUNG_REDIS_NODES',
      help: 'Number of nodes of Redis over which keys are spread: rung up runs several as a cluster. By default as many as RUNG_REDIS_URL names.',
    }),
    memoryMib: setting(whole(1, 100_000), {
      env: 'RUNG_CACHE_MIB',
      default: ({ preset }) => preset.cache.memoryBytesMax / 1024 ** 2,
      help: 'Memory for the cache of each process, in MiB.',
    }),
    enabled: setting(onOrOff, {
      env: 'RUNG_CACHE',
      default: 'on',
      help: 'off: nothing is cached, for measurements.',
    }),
  },
  events: {
    engine: setting(oneOf(['table', 'jetstream']), {
      env: 'RUNG_EVENTS',
      help: 'What brings events to their groups: the queues of the database (table), or NATS (jetstream), which is the default where RUNG_NATS_URL is set. The rung decides otherwise.',
    }),
    url: setting(
      url((value) => parseNatsUrls(value) !== undefined, 'nats://user:password@host:4222 or tls://…'),
      {
        env: 'RUNG_NATS_URL',
        outside: true,
        secret: true,
        help: 'A running NATS with JetStream for events; the nodes of a cluster are separated by commas.',
      },
    ),
    nodes: setting(whole(1, 5), {
      env: 'RUNG_NATS_NODES',
      default: ({ preset }) => preset.events.nodes,
      help: 'Number of NATS nodes that rung up runs, or of those at RUNG_NATS_URL, usually 1 or 3; each stores all events.',
    }),
    streamMib: setting(whole(16, 1_000_000), {
      env: 'RUNG_EVENTS_MIB',
      default: 1_024,
      help: 'Disk space of the broker for events, in MiB. If it is full, events wait in the database.',
    }),
    keepHours: setting(whole(1, 8_760), {
      env: 'RUNG_EVENTS_KEEP_H',
      default: 24,
      help: 'Events that went over a broker are kept in the database for so many hours, for groups that begin at the start.',
    }),
  },
  search: {
    url: setting(url(isPostgresUrl, postgresForm), {
      env: 'RUNG_SEARCH_URL',
      outside: true,
      secret: true,
      help: 'A running Postgres with a database for search alone; without it search is in the database of the app.',
    }),
  },
  edge: setting(onOrOff, {
    env: 'RUNG_EDGE',
    default: ({ preset }) => (preset.edge.engine === 'none' ? 'off' : 'on'),
    help: 'The page cache in front of the processes that answer requests.',
  }),
  balancer: setting(onOrOff, {
    env: 'RUNG_BALANCER',
    default: ({ preset }) => (preset.balancer.engine === 'none' ? 'off' : 'on'),
    help: 'HAProxy, which spreads requests over the processes that answer them.',
  }),
  cdn: {
    name: setting(oneOf([...cdnNames, noCdn]), {
      env: 'RUNG_CDN',
      outside: true,
      help: 'A CDN in front of everything, which is purged by tags.',
    }),
    id: setting(
      text((value) => /^[\w-]+$/.test(value), 'be the id of the service (Fastly) or the zone (Cloudflare)', 'id'),
      { env: 'RUNG_CDN_ID', outside: true, help: 'The service (Fastly) or the zone (Cloudflare).' },
    ),
    url: setting(
      text(
        (value) => /^https?:\/\/[^?#@]*[^/?#@]$/.test(value) && URL.canParse(value),
        'have the form https://api.example.org, without a slash at its end',
        'url',
      ),
      { env: 'RUNG_CDN_URL', outside: true, help: 'The purge API, if it is not the vendor’s.' },
    ),
    token: setting(text(isWord, 'be a token that may purge, without blanks'), {
      env: 'RUNG_CDN_TOKEN',
      outside: true,
      file: false,
      secret: true,
      help: 'A token that may purge the CDN, and nothing else.',
    }),
  },
  files: {
    url: setting(
      url((value) => parseS3Url(value) !== undefined, 's3://key:secret@host/bucket?region=eu-central-1'),
      {
        env: 'RUNG_S3_URL',
        outside: true,
        secret: true,
        help: 'The bucket of an S3 store for files; without it they are in the data directory.',
      },
    ),
    shared: setting(onOrOff, {
      env: 'RUNG_FILES_SHARED',
      default: 'off',
      help: 'on: processes on several machines have the same data directory, so files may be in it; rung up sets it.',
    }),
  },
  mail: {
    url: setting(
      url((value) => parseSmtpUrl(value) !== undefined, 'smtp://user:password@host:587 or smtps://…'),
      {
        env: 'RUNG_SMTP_URL',
        outside: true,
        secret: true,
        help: 'The server that sends mail; without it mail is written into the data directory.',
      },
    ),
    from: setting(
      text(
        (value) => parseMailbox(value) !== undefined,
        'be an address such as shop@example.org or Shop <shop@example.org>',
        'address',
      ),
      { env: 'RUNG_MAIL_FROM', outside: false, help: 'The sender of mail that names none; needed with a mail server.' },
    ),
  },
  backup: {
    dir: setting(place('folder'), {
      env: 'RUNG_BACKUP_DIR',
      outside: true,
      help: 'The folder to which Rung’s own Postgres is archived continuously.',
    }),
    keep: setting(whole(1, 10_000), {
      env: 'RUNG_BACKUP_KEEP',
      default: 7,
      help: 'Base backups that are kept, with the log since the oldest of them.',
    }),
    url: setting(
      url((value) => parseS3Url(value) !== undefined, 's3://key:secret@host/bucket/folder?region=eu-central-1'),
      {
        env: 'RUNG_BACKUP_S3_URL',
        outside: true,
        secret: true,
        help: 'The bucket of an S3 store to which backups are copied, encrypted; without RUNG_BACKUP_DIR the data directory has only the newest.',
      },
    ),
    key: setting(
      text((value) => value.length >= 32, 'have at least 32 characters; make one with: rung backup key'),
      {
        env: 'RUNG_BACKUP_KEY',
        outside: true,
        file: false,
        secret: true,
        help: 'The key of the backups in the bucket. Without it nobody can read them: keep it elsewhere too.',
      },
    ),
    mibPerS: setting(whole(1, 10_000), {
      env: 'RUNG_BACKUP_MIB_PER_S',
      help: 'Most MiB a second for base backups and complete segments on their way to the bucket; the newest log is not held up.',
    }),
  },
  log: {
    level: setting(oneOf(logLevels), { env: 'LOG_LEVEL', default: 'info', help: 'The lowest level that is logged.' }),
    format: setting(oneOf(logFormats), {
      env: 'RUNG_LOG',
      option: 'log',
      default: 'auto',
      help: 'Log lines for people (pretty) or programs (json); auto: pretty on a terminal.',
    }),
    sample: setting(share, {
      env: 'RUNG_LOG_SAMPLE',
      default: ({ mode }) => (mode === 'development' ? 1 : 0.01),
      help: 'Share of successful requests that get a log line; failed and slow ones always do.',
    }),
  },
  record: setting(onOrOff, {
    env: 'RUNG_RECORD',
    default: ({ mode }) => (mode === 'test' ? 'off' : 'on'),
    help: 'The record: what processes measure, kept in the database for 13 months.',
  }),
  prometheus: setting(url(isHttp, 'http://prometheus:9090'), {
    env: 'RUNG_PROMETHEUS_URL',
    outside: false,
    help: 'A Prometheus that scrapes the app. Commands that plan, price or advise read it instead of the record.',
  }),
  alerts: {
    enabled: setting(onOrOff, {
      env: 'RUNG_ALERTS',
      default: ({ mode }) => (mode === 'production' ? 'on' : 'off'),
      help: 'Alerts, which are evaluated over the record once a minute.',
    }),
    webhook: setting(url(isHttp, 'https://hooks.example.org/services/…'), {
      env: 'RUNG_ALERT_WEBHOOK',
      outside: true,
      file: false,
      secret: true,
      help: 'Where alerts are posted as JSON that Slack understands. Whoever knows the URL can post there.',
    }),
    mail: setting(addresses, {
      env: 'RUNG_ALERT_MAIL',
      outside: true,
      help: 'Addresses to which alerts are mailed; it needs RUNG_SMTP_URL.',
    }),
  },
  console: setting(oneOf(['off', 'show', 'act']), {
    env: 'RUNG_CONSOLE',
    default: ({ mode }) => (mode === 'test' ? 'off' : 'show'),
    help: 'Whether rung start, dev and up open the console: no (off), to look only (show), or also to make changes (act).',
  }),
  limits: setting(onOrOff, {
    env: 'RUNG_LIMITS',
    default: ({ mode }) => (mode === 'test' ? 'off' : 'on'),
    help: 'Rate limits; off for load tests.',
  }),
  shedding: setting(onOrOff, {
    env: 'RUNG_SHEDDING',
    default: ({ mode }) => (mode === 'test' ? 'off' : 'on'),
    help: 'Refusing requests when the load is too high; off for load tests.',
  }),
  stop: {
    drainMs: setting(milliseconds(300_000), {
      env: 'RUNG_DRAIN_MS',
      default: 0,
      help: 'After SIGTERM /readyz reports “not ready” for this many ms before the port closes, for a balancer.',
    }),
    graceMs: setting(milliseconds(3_600_000), {
      env: 'RUNG_GRACE_MS',
      default: 10_000,
      help: 'Jobs that run at a stop have this many ms to end.',
    }),
  },
  unresponsiveAfterMs: setting(whole(1_000, 3_600_000, 'never'), {
    env: 'RUNG_UNRESPONSIVE_MS',
    default: ({ preset }) => preset.unresponsiveAfterMs,
    help: 'A part of rung up that has not answered for this many ms is restarted, a server of the database with replicas after 3000 at most; 0 disables this.',
  }),
  /** Settings of one process or command, which the file cannot contain. */
  process: {
    mode: setting(oneOf(modes), {
      env: 'NODE_ENV',
      file: false,
      default: 'production',
      help: 'In development and test, answers show where an error was thrown; test fails on statements across module borders.',
    }),
    dataDir: setting(place('folder'), {
      env: 'RUNG_DATA',
      outside: false,
      option: 'data',
      file: false,
      default: '.rung',
      help: 'The data directory.',
    }),
    config: setting(place('file', false), {
      env: 'RUNG_CONFIG',
      outside: false,
      file: false,
      help: 'The file to read instead of rung.config.ts; none: no file is read.',
    }),
    role: setting(oneOf(roles), {
      env: 'RUNG_ROLE',
      option: 'role',
      file: false,
      default: 'both',
      help: 'What this process does: answer requests (web), run jobs and handle events (worker), or both.',
    }),
    group: setting(text(isName, 'be a name in small letters', 'name'), {
      env: 'RUNG_GROUP',
      outside: false,
      file: false,
      help: 'The group of RUNG_NODES to which this process belongs; without it, it runs all modules that no group has. rung up sets it.',
    }),
    callsUrl: setting(url(isHttp, 'http://127.0.0.1:9000'), {
      env: 'RUNG_CALLS_URL',
      outside: true,
      file: false,
      help: 'Where this process calls modules of other groups; rung up sets it.',
    }),
    zone: setting(text(isName, 'be a name in small letters', 'name'), {
      env: 'RUNG_ZONE',
      outside: false,
      file: false,
      help: 'The zone in which this process runs, for its log and its metrics; rung up sets it.',
    }),
    build: setting(text(isBuild, 'have at most 64 letters, digits, dots and dashes', 'id'), {
      env: 'RUNG_BUILD',
      outside: false,
      file: false,
      help: 'The id of the code, a commit for example; without it one is made from the files of the app.',
    }),
    entryFd: setting(whole(3, 1_000_000), {
      env: 'RUNG_ENTRY_FD',
      file: false,
      help: 'The file descriptor of the public port, from which this process accepts besides its own; rung up sets it.',
    }),
    supervisor: setting(whole(1, 2 ** 31 - 1), {
      env: 'RUNG_FLEET',
      file: false,
      help: 'The process id of the rung up that runs this process; it counts only for its own children. rung up sets it.',
    }),
    secret: setting(
      text(
        (value) => parseRoots(value) !== undefined,
        'have at least 32 characters in each line, and behind each @ of a further line a day (2027-01-31) or a time (2027-01-31T12:00:00Z); make one with: openssl rand -base64 48',
      ),
      {
        env: 'RUNG_SECRET',
        outside: true,
        file: false,
        secret: true,
        help: 'The root of all keys; without it one is created in the data directory. Further lines have roots that are accepted too: the next one, or former ones until a time (root@2027-01-31).',
      },
    ),
    testServer: setting(url(isPostgresUrl, postgresForm), {
      env: 'RUNG_TEST_SERVER',
      outside: false,
      file: false,
      secret: true,
      help: 'The Postgres server on which tests create their databases; "rung test" sets it.',
    }),
    testReplica: setting(place('folder'), {
      env: 'RUNG_TEST_REPLICA',
      outside: false,
      file: false,
      help: 'The folder of a late replica of that server; "rung test --lag" sets it.',
    }),
    testNodes: setting(place('folder'), {
      env: 'RUNG_TEST_NODES',
      outside: false,
      file: false,
      help: 'The folder of a run on two nodes: each test app runs on two nodes, and records in it whether it could; "rung test --nodes 2" sets it.',
    }),
    poolerUrl: setting(url(isPostgresUrl, 'postgres://user:password@host:6432'), {
      env: 'RUNG_POOLER_URL',
      outside: true,
      file: false,
      secret: true,
      help: 'The pooler, with a database for each server and target: postgres.read, postgres-2.read.',
    }),
    edgeUrl: setting(
      text(
        (value) => /^https?:\/\/[^/?#@]+$/.test(value) && URL.canParse(value),
        'have the form http://127.0.0.1:9001, without a path',
        'url',
      ),
      {
        env: 'RUNG_EDGE_URL',
        outside: true,
        file: false,
        help: 'The page cache’s own address, through which pages are purged.',
      },
    ),
    edgeSecret: setting(text(isWord, 'be a word without blanks'), {
      env: 'RUNG_EDGE_SECRET',
      outside: true,
      file: false,
      secret: true,
      help: 'The secret of the page cache’s own address.',
    }),
  },
  /** The OpenTelemetry SDK reads these variables too. */
  telemetry: {
    endpoint: setting(collectorUrl, {
      env: 'OTEL_EXPORTER_OTLP_ENDPOINT',
      outside: true,
      file: false,
      help: 'Where spans are sent; needs the OpenTelemetry SDK.',
    }),
    tracesEndpoint: setting(collectorUrl, {
      env: 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
      outside: true,
      file: false,
      help: 'Where spans are sent, as a complete URL.',
    }),
    logsEndpoint: setting(collectorUrl, {
      env: 'OTEL_EXPORTER_OTLP_LOGS_ENDPOINT',
      outside: true,
      file: false,
      help: 'Where lines of the log are sent too, as a complete URL; needs the OpenTelemetry SDK.',
    }),
    sample: setting(share, {
      env: 'OTEL_TRACES_SAMPLER_ARG',
      file: false,
      default: 1,
      help: 'Share of traces that are recorded.',
    }),
    service: setting(text(Boolean, 'be a name'), {
      env: 'OTEL_SERVICE_NAME',
      outside: false,
      file: false,
      help: 'The name of the service in traces and logs; by default that of the app.',
    }),
  },
} as const

/** The values of a table, nested like the table. */
export type ValuesOf<T> = { readonly [K in keyof T]: T[K] extends Setting<infer V> ? V : ValuesOf<T[K]> }

/** The name of a setting (`data.url`), or of a group of them (`data`). */
type NamesIn<T> = {
  [K in keyof T & string]: T[K] extends { variable: string } ? K : K | `${K}.${NamesIn<T[K]>}`
}[keyof T & string]

export type SettingName = NamesIn<typeof settings>

/** The part of a table that a file may contain; everything is optional. */
export type FileOf<T> = {
  -readonly [K in keyof T as T[K] extends Setting<unknown, false> ? never : K]?: T[K] extends Setting<infer V>
    ? NonNullable<V>
    : FileOf<T[K]>
}

export type Values = ValuesOf<typeof settings>

/** What `rung.config.ts` may contain: `export default defineTopology({ rung: '10k', … })`. */
export type TopologyChanges = Omit<FileOf<typeof settings>, 'process' | 'telemetry'>

/** For the types; it changes nothing. */
export function defineTopology(changes: TopologyChanges): TopologyChanges {
  return changes
}
