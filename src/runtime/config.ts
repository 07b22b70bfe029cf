import { isIP } from 'node:net'
import path from 'node:path'
import { parseRedisUrl } from '../engines/redis/client.ts'
import { parseSmtpUrl } from '../engines/smtp/client.ts'
import { RungError } from '../kernel/errors.ts'
import { parseMailbox } from '../primitives/mail/address.ts'
import { rungNames, rungs } from '../topology/catalog.ts'
import { cdnIdIs, cdnNames, cdnUrlMust, isCdnId, isCdnUrl, noCdn } from '../topology/cdn.ts'
import type { CacheTopology, CdnTopology, EdgeTopology, MailTopology, Topology } from '../topology/topology.ts'

/** Everything that a process takes from outside, checked once at the start. */
export interface Config {
  topology: Topology
  /** The `.rung` folder. */
  dataDir: string
  mode: Mode
  logLevel: LogLevel
  /** For people or for programs; `auto`: for people where standard output is a terminal. */
  logFormat: LogFormat
  /** Share of successful requests that get a log line, 0 … 1. Failed and slow ones always do. */
  logSample: number
  /** Between "not ready" and the last accepted connection, ms: the time a balancer needs to look. */
  drainMs: number
  /** `web` answers requests, `worker` runs jobs and handles events, `both` does both. */
  role: Role
  /** How many processes answer requests, this one included. Without shared counts each admits its part of a limit. */
  webProcesses: number
  /** What still runs at a stop has this long to end, ms. */
  graceMs: number
  backup: {
    /** Where the running app archives to; nothing is archived where it is not given. */
    dir: string | undefined
    /** So many base backups are kept, and the log since the oldest of them. */
    keep: number
  }
  /** `off`: every value is loaded and every answer made, for measurements. */
  cache: 'on' | 'off'
  /** `off` for load tests, and by default in tests, whose requests all come from one place. */
  limits: 'on' | 'off'
  /** Refusing requests under too much load: `off` for load tests, and by default in tests. */
  shedding: 'on' | 'off'
  /** Proxies whose `X-Forwarded-For` is believed, beside those that the app names. */
  trustProxy: readonly string[]
  /** Root of all keys; made and kept in the data directory when it is not given. */
  secret: string | undefined
}

/** `development` and `test` reveal faults in answers. Boundary breaks are reported in the first, and fail in the second. */
export type Mode = 'development' | 'test' | 'production'
export type LogLevel = (typeof logLevels)[number]

export type LogFormat = (typeof logFormats)[number]

const logFormats = ['auto', 'pretty', 'json'] as const
const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type Role = (typeof roles)[number]

const roles = ['both', 'web', 'worker'] as const
const switches = ['on', 'off'] as const
const modes = ['development', 'test', 'production'] as const

type Env = Readonly<Record<string, string | undefined>>

/**
 * Reads the environment. Pure.
 * @throws CONFIG_INVALID with one sentence that says what to change
 */
export function readConfig(env: Env, cwd: string): Config {
  const url = env.DATABASE_URL || undefined
  if (url !== undefined && !/^postgres(ql)?:\/\//.test(url)) {
    throw invalid('DATABASE_URL must begin with postgres:// (its value is not shown here, it may hold a password).')
  }
  // `postgres://user@/db?host=/folder` names no host and is fine.
  if (url !== undefined && !URL.canParse(url.replace('@/', '@folder/'))) {
    throw invalid(
      'DATABASE_URL is not a URL (its value is not shown here). Write signs like @ : / in a password as %40 %3A %2F.',
    )
  }
  const secret = env.RUNG_SECRET || undefined
  if (secret !== undefined && secret.length < 32) {
    throw invalid('RUNG_SECRET must have at least 32 characters; make one with: openssl rand -base64 48')
  }
  const preset = rungs[oneOf(env, 'RUNG_TOPOLOGY', rungNames, '1k')]
  const role = oneOf(env, 'RUNG_ROLE', roles, 'both')
  const mode = oneOf(env, 'NODE_ENV', modes, 'production')
  return {
    topology: {
      ...preset,
      data: {
        ...preset.data,
        ...(url && { engine: 'external', url }),
        readConnectionsMax: integer(env, 'RUNG_POOL_READ', preset.data.readConnectionsMax, 1, 1000),
        writeConnectionsMax: integer(env, 'RUNG_POOL_WRITE', preset.data.writeConnectionsMax, 1, 1000),
      },
      cache: cacheTopology(env, preset.cache),
      edge: edgeTopology(env),
      cdn: cdnTopology(env),
      mail: mailTopology(env, preset.mail),
      http: {
        host: env.HOST || preset.http.host,
        // A worker answers only for its health and its metrics, beside a web process that has the port.
        port: integer(env, 'PORT', role === 'worker' ? 0 : preset.http.port, 0, 65_535),
      },
    },
    dataDir: path.resolve(cwd, env.RUNG_DATA || '.rung'),
    mode,
    logLevel: oneOf(env, 'LOG_LEVEL', logLevels, 'info'),
    logFormat: oneOf(env, 'RUNG_LOG', logFormats, 'auto'),
    drainMs: integer(env, 'RUNG_DRAIN_MS', 0, 0, 300_000),
    role,
    webProcesses: integer(env, 'RUNG_WEB', preset.processes.both + preset.processes.web, 1, 10_000),
    graceMs: integer(env, 'RUNG_GRACE_MS', 10_000, 0, 3_600_000),
    logSample: share(env, 'RUNG_LOG_SAMPLE', mode === 'development' ? 1 : 0.01),
    backup: {
      dir: env.RUNG_BACKUP_DIR ? path.resolve(cwd, env.RUNG_BACKUP_DIR) : undefined,
      keep: integer(env, 'RUNG_BACKUP_KEEP', 7, 1, 10_000),
    },
    cache: oneOf(env, 'RUNG_CACHE', switches, 'on'),
    limits: oneOf(env, 'RUNG_LIMITS', switches, mode === 'test' ? 'off' : 'on'),
    shedding: oneOf(env, 'RUNG_SHEDDING', switches, mode === 'test' ? 'off' : 'on'),
    trustProxy: addresses(env, 'RUNG_TRUST_PROXY'),
    secret,
  }
}

function cacheTopology(env: Env, preset: CacheTopology): CacheTopology {
  const url = env.RUNG_REDIS_URL || undefined
  if (url !== undefined && !parseRedisUrl(url)) {
    throw invalid(
      'RUNG_REDIS_URL must have the form redis://:password@host:6379 or rediss://… (its value is not shown here). Write signs like @ : / in a password as %40 %3A %2F.',
    )
  }
  if (preset.engine === 'redis' && url === undefined) {
    throw invalid('This topology needs Redis: set RUNG_REDIS_URL, or RUNG_TOPOLOGY=1k.')
  }
  const mebibytes = integer(env, 'RUNG_CACHE_MIB', preset.memoryBytesMax / 1024 ** 2, 1, 100_000)
  return { engine: url === undefined ? 'memory' : 'redis', url, memoryBytesMax: mebibytes * 1024 ** 2 }
}

/** What a process of the app must know of the page cache in front of it. */
function edgeTopology(env: Env): EdgeTopology {
  const url = env.RUNG_EDGE_URL || undefined
  const secret = env.RUNG_EDGE_SECRET || undefined
  if (url === undefined) return { engine: 'none', url: undefined, secret: undefined }
  if (!/^https?:\/\/[^/?#@]+$/.test(url) || !URL.canParse(url)) {
    throw invalid(`RUNG_EDGE_URL is "${url}"; it must have the form http://127.0.0.1:9001, without a path.`)
  }
  if (secret === undefined)
    throw invalid('RUNG_EDGE_URL needs RUNG_EDGE_SECRET, the word that the page cache asks for.')
  return { engine: 'nginx', url, secret }
}

/** What purges a CDN that stands in front. Its values are not shown: two of them together are the right to empty it. */
function cdnTopology(env: Env): CdnTopology | undefined {
  if (!env.RUNG_CDN) {
    // The token may be there for a CDN that rung.config.ts names.
    const alone = ['RUNG_CDN_ID', 'RUNG_CDN_URL'].find((name) => env[name])
    if (alone) throw invalid(`${alone} is of no use without RUNG_CDN, one of ${cdnNames.join(', ')}.`)
    return undefined
  }
  if (env.RUNG_CDN === noCdn) return undefined
  const name = oneOf(env, 'RUNG_CDN', cdnNames, 'fastly')
  const { RUNG_CDN_ID: id = '', RUNG_CDN_TOKEN: token = '', RUNG_CDN_URL: url } = env
  if (!isCdnId(id)) throw invalid(`RUNG_CDN needs RUNG_CDN_ID, ${cdnIdIs}.`)
  if (!/^[\x21-\x7e]+$/.test(token))
    throw invalid('RUNG_CDN needs RUNG_CDN_TOKEN, a token that may purge, and nothing else.')
  if (url && !isCdnUrl(url)) throw invalid(`RUNG_CDN_URL is "${url}"; it must ${cdnUrlMust}.`)
  return { name, url: url || undefined, id, token }
}

function addresses(env: Env, name: string): string[] {
  const all = (env[name] ?? '').split(',').map((text) => text.trim())
  for (const address of all.filter(Boolean)) {
    const [host, bits, ...more] = address.split('/')
    const family = isIP(host!)
    const fits = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128))
    if (family === 0 || !fits || more.length > 0)
      throw invalid(`${name} names "${address}"; it must be addresses or networks: 127.0.0.1, 10.0.0.0/8.`)
  }
  return all.filter(Boolean)
}

function mailTopology(env: Env, preset: MailTopology): MailTopology {
  const url = env.RUNG_SMTP_URL || undefined
  const from = env.RUNG_MAIL_FROM || undefined
  if (url !== undefined && !parseSmtpUrl(url)) {
    throw invalid(
      'RUNG_SMTP_URL must have the form smtp://user:password@host:587 or smtps://… (its value is not shown here). Write signs like @ : / in a password as %40 %3A %2F.',
    )
  }
  if (from !== undefined && !parseMailbox(from)) {
    throw invalid(
      `RUNG_MAIL_FROM is "${from}"; it must be an address such as shop@example.org or Shop <shop@example.org>.`,
    )
  }
  if (url !== undefined && from === undefined) {
    throw invalid('RUNG_SMTP_URL needs RUNG_MAIL_FROM, the address that mail comes from: Shop <shop@example.org>.')
  }
  return { ...preset, ...(url && { engine: 'smtp', url }), ...(from && { from }) }
}

function integer(env: Env, name: string, fallback: number, least: number, most: number): number {
  const text = env[name]
  if (text === undefined || text === '') return fallback
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isInteger(value) || value < least || value > most) {
    throw invalid(`${name} is "${text}"; it must be a whole number from ${least} to ${most}.`)
  }
  return value
}

function share(env: Env, name: string, fallback: number): number {
  const text = env[name]
  if (text === undefined || text === '') return fallback
  const value = Number(text)
  if (!(value >= 0 && value <= 1)) throw invalid(`${name} is "${text}"; it must be a number from 0 to 1.`)
  return value
}

function oneOf<T extends string>(env: Env, name: string, allowed: readonly T[], fallback: T): T {
  const text = env[name] || fallback
  const found = allowed.find((value) => value === text)
  if (found === undefined) throw invalid(`${name} is "${text}"; it must be one of ${allowed.join(', ')}.`)
  return found
}

function invalid(message: string): RungError {
  return new RungError('CONFIG_INVALID', message)
}
