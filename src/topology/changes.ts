import { RungError } from '../kernel/errors.ts'
import { rungNames, rungs } from './catalog.ts'
import { cdnIdIs, cdnNames, cdnUrlMust, isCdnId, isCdnUrl, noCdn } from './cdn.ts'
import type { CdnName, CdnTopology, RungName, Topology } from './topology.ts'

/** What `rung.config.ts` may say, beside the app: `export default defineTopology({ rung: '10k', … })`. */
export interface TopologyChanges {
  rung?: RungName
  data?: {
    /** A Postgres of yours, `postgres://…`: then none is started. */
    url?: string
    /** Connections of each process. */
    readConnectionsMax?: number
    writeConnectionsMax?: number
  }
  cache?: {
    /** A Redis or Valkey of yours, `redis://…`: then none is started. */
    url?: string
  }
  /** The page cache in front. */
  edge?: 'on' | 'off'
  /** A CDN of yours in front of all. What may purge it, `RUNG_CDN_TOKEN`, comes by the environment alone: this file is committed. */
  cdn?: {
    name: CdnName
    /** Of the service (Fastly), the zone (Cloudflare). */
    id: string
    /** Of its purge API, where it is not the vendor's own. */
    url?: string
  }
  /** How many that answer requests, and how many that run jobs. */
  processes?: { web?: number; worker?: number }
  /** Where clients come in. */
  http?: { host?: string; port?: number }
  /** A process that has not answered for so long, ms, is ended and started again (30,000); 0 is never. */
  silentMsMax?: number
}

/** For the types; it changes nothing. */
export function defineTopology(changes: TopologyChanges): TopologyChanges {
  return changes
}

/** The same settings by each of their names: a path in the file, a variable, an option of the command line. */
interface Setting {
  path: string
  variable: string
  option?: string
  is(value: unknown): boolean
  must: string
  /** Written as text in the environment and on the command line. */
  number?: true
  /** Never shown: it may hold a password. */
  hidden?: true
}

const whole = (least: number, most: number) => ({
  is: (value: unknown) => Number.isInteger(value) && Number(value) >= least && Number(value) <= most,
  must: `be a whole number from ${least} to ${most}`,
  number: true as const,
})
const oneOf = (allowed: readonly string[]) => ({
  is: (value: unknown) => allowed.some((one) => one === value),
  must: `be one of ${allowed.join(', ')}`,
})
const url = (pattern: RegExp, form: string) => ({
  is: (value: unknown) =>
    typeof value === 'string' && pattern.test(value) && URL.canParse(value.replace('@/', '@folder/')),
  must: `have the form ${form}, with signs like @ : / in a password written as %40 %3A %2F`,
  hidden: true as const,
})

const settings: readonly Setting[] = [
  { path: 'rung', variable: 'RUNG_TOPOLOGY', option: 'the rung', ...oneOf(rungNames) },
  {
    path: 'data.url',
    variable: 'DATABASE_URL',
    ...url(/^postgres(ql)?:\/\//, 'postgres://user:password@host:5432/name'),
  },
  { path: 'data.readConnectionsMax', variable: 'RUNG_POOL_READ', ...whole(1, 1000) },
  { path: 'data.writeConnectionsMax', variable: 'RUNG_POOL_WRITE', ...whole(1, 1000) },
  {
    path: 'cache.url',
    variable: 'RUNG_REDIS_URL',
    ...url(/^(rediss?:\/\/[^/]|redis\+unix:\/\/)/, 'redis://:password@host:6379'),
  },
  { path: 'edge', variable: 'RUNG_EDGE', ...oneOf(['on', 'off']) },
  { path: 'cdn.name', variable: 'RUNG_CDN', ...oneOf([...cdnNames, noCdn]) },
  {
    path: 'cdn.id',
    variable: 'RUNG_CDN_ID',
    is: (value) => typeof value === 'string' && isCdnId(value),
    must: `be ${cdnIdIs}`,
  },
  {
    path: 'cdn.url',
    variable: 'RUNG_CDN_URL',
    is: (value) => typeof value === 'string' && isCdnUrl(value),
    must: cdnUrlMust,
  },
  { path: 'processes.web', variable: 'RUNG_WEB', option: '--web', ...whole(1, 64) },
  { path: 'processes.worker', variable: 'RUNG_WORKER', option: '--worker', ...whole(0, 64) },
  {
    path: 'http.host',
    variable: 'HOST',
    is: (value) => typeof value === 'string' && /^[\w.:-]+$/.test(value),
    must: 'be a name or an address',
  },
  { path: 'http.port', variable: 'PORT', option: '--port', ...whole(0, 65_535) },
  {
    path: 'silentMsMax',
    variable: 'RUNG_SILENT_MS',
    is: (value) => value === 0 || whole(1_000, 3_600_000).is(value),
    must: 'be 0, for never, or a whole number from 1000 to 3600000',
    number: true,
  },
]

type Values = Record<string, string | number | undefined>

export interface Sources {
  /** What the file exports by default. */
  file?: unknown
  env: Readonly<Record<string, string | undefined>>
  /** By path, as text. */
  options?: Readonly<Record<string, string | undefined>>
}

/**
 * A rung with what was changed of it: the command line wins over the environment, that over the file.
 * @throws CONFIG_INVALID with one sentence that names the value as its author wrote it
 */
export function topologyOf({ file, env, options = {} }: Sources): Topology {
  const values: Values = { ...fromFile(file), ...fromEnv(env), ...fromOptions(options) }
  const preset = rungs[(values.rung as RungName | undefined) ?? '1k']
  const { data, cache, http } = preset
  const databaseUrl = values['data.url'] as string | undefined
  const redisUrl = values['cache.url'] as string | undefined
  const topology: Topology = {
    ...preset,
    data: {
      ...data,
      ...(databaseUrl !== undefined && { engine: 'external', url: databaseUrl }),
      readConnectionsMax: (values['data.readConnectionsMax'] as number) ?? data.readConnectionsMax,
      writeConnectionsMax: (values['data.writeConnectionsMax'] as number) ?? data.writeConnectionsMax,
    },
    cache: { ...cache, ...(redisUrl !== undefined && { engine: 'redis', url: redisUrl }) },
    cdn: cdnOf(values, env.RUNG_CDN_TOKEN),
    edge: values.edge === undefined ? preset.edge : { ...preset.edge, engine: values.edge === 'on' ? 'nginx' : 'none' },
    http: {
      host: (values['http.host'] as string) ?? http.host,
      port: (values['http.port'] as number) ?? http.port,
    },
    processes: processesOf(preset, values),
    silentMsMax: (values.silentMsMax as number) ?? preset.silentMsMax,
  }
  if (topology.edge.engine === 'none' && topology.processes.web + topology.processes.both > 1) {
    throw invalid('Several web processes need the edge in front of them: leave it on, or have one web process.')
  }
  return topology
}

/** Without its token, if need be: who only looks does not have it, and who starts is asked for it. */
function cdnOf(values: Values, token = ''): CdnTopology | undefined {
  const { 'cdn.name': name, 'cdn.id': id, 'cdn.url': url } = values
  if (name === noCdn) return undefined
  if (name === undefined) {
    if (id === undefined && url === undefined) return undefined
    throw invalid(`A CDN needs its name, one of ${cdnNames.join(', ')}: cdn.name of rung.config.ts, or RUNG_CDN.`)
  }
  if (id === undefined) throw invalid(`A CDN needs ${cdnIdIs}: cdn.id of rung.config.ts, or RUNG_CDN_ID.`)
  return { name: name as CdnName, id: String(id), url: url as string | undefined, token }
}

/** Where one process does both, saying how many of either splits it. */
function processesOf({ processes }: Topology, values: Values): Topology['processes'] {
  const web = values['processes.web'] as number | undefined
  const worker = values['processes.worker'] as number | undefined
  if (web === undefined && worker === undefined) return processes
  return { both: 0, web: web ?? Math.max(1, processes.web), worker: worker ?? Math.max(1, processes.worker) }
}

function fromFile(file: unknown): Values {
  if (file === undefined) return {}
  if (!isPlain(file)) throw invalid('rung.config.ts must export an object: export default defineTopology({ … })')
  const found: Values = {}
  const walk = (value: Record<string, unknown>, above: string) => {
    for (const [name, inner] of Object.entries(value)) {
      const path = `${above}${name}`
      const setting = settings.find((one) => one.path === path)
      if (setting === undefined && isPlain(inner) && settings.some((one) => one.path.startsWith(`${path}.`)))
        walk(inner, `${path}.`)
      else if (path === 'cdn.token') {
        throw invalid('rung.config.ts has "cdn.token"; take it out, and set RUNG_CDN_TOKEN: the file is committed.')
      } else if (setting === undefined) {
        throw invalid(`rung.config.ts has "${path}", which is no setting of a topology. See: rung topology --help`)
      } else if (inner !== undefined) found[path] = checked(setting, inner, `${path} of rung.config.ts`)
    }
  }
  walk(file, '')
  return found
}

function fromEnv(env: Sources['env']): Values {
  const given = settings.filter(({ variable }) => env[variable] !== undefined && env[variable] !== '')
  return Object.fromEntries(given.map((one) => [one.path, parsed(one, env[one.variable]!, one.variable)]))
}

function fromOptions(options: NonNullable<Sources['options']>): Values {
  const given = settings.filter(({ path }) => options[path] !== undefined)
  return Object.fromEntries(given.map((one) => [one.path, parsed(one, options[one.path]!, one.option ?? one.path)]))
}

function parsed(setting: Setting, text: string, called: string): string | number {
  return checked(setting, setting.number && /^\d+$/.test(text) ? Number(text) : text, called)
}

function checked({ is, must, hidden }: Setting, value: unknown, called: string): string | number {
  if (is(value)) return value as string | number
  const shown = hidden ? ' (its value is not shown here)' : ` is ${JSON.stringify(value)}; it`
  throw invalid(`${called}${shown} must ${must}.`)
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function invalid(message: string): RungError {
  return new RungError('CONFIG_INVALID', message)
}
