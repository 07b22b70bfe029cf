import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { readSettings, type Settings, type Sources, waysToSet } from './read-settings.ts'
import type { LogFormat, LogLevel, Mode } from './settings.ts'
import {
  type CdnTopology,
  type DataLimits,
  databaseConnections,
  type Group,
  type Role,
  type RungName,
  type Topology,
  webProcesses,
} from './topology.ts'
import { topologyOf } from './topology-of.ts'
import { redisUrlsIn } from './urls.ts'

/** Where everything is, for one process: its complete, checked configuration. */
export interface Bindings extends ToolBindings {
  readonly role: Role
  /** Where it runs, if there are several places. */
  readonly zone: string | undefined
  /** The group to which it belongs; `undefined`: it runs all modules that no group has. */
  readonly group: string | undefined
  readonly groups: readonly Group[]
  /** Where it calls modules of other groups: `http://127.0.0.1:9001`. */
  readonly callsUrl: string | undefined
  /** The id of the code, if a setting names it. */
  readonly build: string | undefined
  /** Whether `rung up` runs this process. */
  readonly inFleet: boolean
  readonly http: {
    readonly host: string
    /** 0: any free one. */
    readonly port: number
    /** A listening socket that it shares with other processes, and answers besides that port. */
    readonly entryFd: number | undefined
    /** Proxies whose `X-Forwarded-For` is trusted, besides those that the app names. */
    readonly trustProxy: readonly string[]
  }
  /** The folder with the challenges of an ACME client; absolute. */
  readonly acmeDir: string | undefined
  readonly cache: {
    readonly enabled: boolean
    /** Size of this process's memory layer. */
    readonly memoryBytesMax: number
    /** The layer that all processes share. */
    readonly shared: { readonly engine: 'redis'; readonly urls: readonly string[]; readonly nodes: number } | undefined
  }
  readonly events: EventsBinding
  readonly cdn: CdnBinding | undefined
  /** The page cache in front of this process. */
  readonly edge: EdgeBinding | undefined
  readonly files: FilesBinding
  readonly mail: MailBinding
  /** Databases besides that of `data`, and the modules whose tables each contains. No current rung has any. */
  readonly databases: readonly DatabaseBinding[]
  /** Number of processes that answer requests, in the whole fleet. */
  readonly webProcesses: number
  readonly limits: 'on' | 'off'
  readonly shedding: 'on' | 'off'
  /** Whether what it measures is recorded. */
  readonly record: boolean
  /** The console that "rung start" opens. */
  readonly console: 'off' | 'show' | 'act'
  /** Where alerts are sent; without it there are none. */
  readonly alerts: AlertsBinding | undefined
  /** From "not ready" to the last accepted connection, in ms: the time that a balancer needs to notice. */
  readonly drainMs: number
  /** Jobs that run at a stop have this long to end, in ms. */
  readonly graceMs: number
  readonly telemetry: Settings['values']['telemetry']
}

export type EventsBinding =
  | { readonly engine: 'table' }
  | {
      readonly engine: 'jetstream'
      readonly url: string
      readonly stream: {
        readonly bytesMax: number
        /** The broker has what was not taken; the log has what is older, ms. */
        readonly ageMsMax: number
        readonly replicas: number
      }
      /** Events are kept in the database for so long, ms. */
      readonly keptMs: number
    }

export interface AlertsBinding {
  /** A URL that is a secret. */
  readonly webhook: string | undefined
  readonly mail: readonly string[]
}

/** The bindings of a tool that works only on the data. */
export interface ToolBindings {
  readonly rung: RungName
  readonly mode: Mode
  /** The `.rung` folder; absolute. */
  readonly dataDir: string
  /** Root of all keys, and in further lines roots that are accepted too; if missing, one is created in the data directory. */
  readonly secret: string | undefined
  readonly data: DataBinding
  /** A database of its own for search, if there is one. */
  readonly search: { readonly url: string } | undefined
  /** The CDN in front of everything, which the processes of the app purge. */
  readonly cdn: CdnTopology | undefined
  readonly backup: {
    /** Absolute. Without it nothing is archived. */
    readonly dir: string | undefined
    /** Base backups that are kept there, with the log since the oldest of them. */
    readonly keep: number
    /** Where all of it is copied to. */
    readonly bucket: BackupBucket | undefined
  }
  readonly log: {
    readonly level: LogLevel
    readonly format: LogFormat
    /** Share of successful requests that get a log line, 0 to 1. */
    readonly sample: number
  }
}

export interface BackupBucket {
  readonly url: string
  readonly key: string
  readonly keep: number
  readonly bytesPerS: number | undefined
}

export interface DatabaseBinding {
  readonly name: string
  readonly url: string
  readonly modules: readonly string[]
}

export type DataBinding = DataLimits & {
  /** The replicas: other servers of the same cluster, named postgres-2, postgres-3 … in this order. That of `url` is named postgres. */
  readonly readUrls: readonly string[]
  /** A pooler with a database `<server>.<target>` for each server and each of `pooledTargets`; for a group, `<server>.<target>.<group>`. */
  readonly poolerUrl: string | undefined
  readonly poolerGroup: string | undefined
} & (
    | { readonly engine: 'external'; readonly url: string }
    /** In the data directory. `connectionsMax` is the `max_connections` of a server that this process starts. */
    | { readonly engine: 'embedded'; readonly connectionsMax: number }
  )

/** `url` is the page cache's own address: `http://127.0.0.1:9001`. */
export interface EdgeBinding {
  readonly engine: 'nginx'
  readonly url: string
  readonly secret: string
}

export interface CdnBinding extends CdnTopology {
  /** The purge API; by default the vendor's. */
  readonly url: string | undefined
  readonly token: string
}

/** `alone`: other processes may run on machines that do not have this data directory, so that files in it would be lost to them. */
export type FilesBinding =
  | { readonly engine: 'disk'; readonly alone: boolean }
  | { readonly engine: 's3'; readonly url: string }

/** `from` is the sender of mail without one: `Shop <shop@example.org>`. */
export type MailBinding =
  | { readonly engine: 'eml'; readonly from: string }
  | { readonly engine: 'smtp'; readonly url: string; readonly from: string }

/**
 * Derives the bindings of a process.
 * @param cwd the folder of relative paths
 * @throws CONFIG_INVALID if the rung needs something that no setting names
 */
export function bindingsOf(settings: Settings, cwd: string): Bindings {
  const { values, given } = settings
  const { cache, process } = values
  const topology = topologyOf(settings)
  if (topology.cache.engine === 'redis') {
    throw invalid(
      `Rung ${topology.rung} needs Redis. Start everything with "rung up", or set ${waysToSet('cache.url')}, or set RUNG_TOPOLOGY=1k.`,
    )
  }
  if (topology.events.engine === 'jetstream') {
    throw invalid(
      `Events over a broker need NATS. Start everything with "rung up", or set ${waysToSet('events.url')}, or set RUNG_EVENTS=table.`,
    )
  }
  if (topology.tls) {
    throw invalid(
      `One process alone does not speak TLS. Start everything with "rung up" and RUNG_EDGE=on or RUNG_BALANCER=on, or unset ${settings.given.get('tls.cert')!.called}.`,
    )
  }
  // A worker answers only for health and metrics, and leaves the port of the file and the rung to the web process.
  const ownPort = process.role !== 'worker' || (given.has('http.port') && given.get('http.port')!.from !== 'file')
  return {
    ...toolBindingsOf(settings, cwd),
    role: process.role,
    zone: process.zone,
    group: process.group,
    groups: topology.groups,
    callsUrl: process.callsUrl,
    build: process.build,
    inFleet: process.supervisor !== undefined,
    http: {
      ...values.http,
      port: ownPort ? values.http.port : 0,
      // It counts only for a child of the supervisor.
      entryFd: process.supervisor === undefined ? undefined : process.entryFd,
    },
    acmeDir: values.tls.acmeDir === undefined ? undefined : path.resolve(cwd, values.tls.acmeDir),
    cache: {
      enabled: cache.enabled === 'on',
      memoryBytesMax: topology.cache.memoryBytesMax,
      shared: sharedOf(topology, cache),
    },
    events: eventsOf(topology, values),
    cdn: cdnOf(topology.cdn, values.cdn),
    edge: edgeOf(process),
    files: filesOf(topology, values),
    mail: mailOf(values.mail),
    databases: [],
    webProcesses: webProcesses(topology),
    limits: values.limits,
    shedding: values.shedding,
    record: values.record === 'on',
    // A fleet has one, not each of its processes.
    console: process.supervisor === undefined && values.process.role === 'both' ? values.console : 'off',
    alerts: alertsOf(values),
    ...values.stop,
    telemetry: values.telemetry,
  }
}

/** @throws CONFIG_INVALID */
export function toolBindingsOf(settings: Settings, cwd: string): ToolBindings {
  const { values } = settings
  const topology = topologyOf(settings)
  return {
    rung: topology.rung,
    mode: values.process.mode,
    dataDir: dataDirOf(settings, cwd),
    secret: values.process.secret,
    data: dataOf(topology, values),
    search: values.search.url === undefined ? undefined : { url: values.search.url },
    cdn: topology.cdn,
    backup: backupOf(settings, cwd),
    log: values.log,
  }
}

/** Reads the bindings of a process that is configured by its environment alone. */
export function readBindings(env: Sources['env'], cwd: string): Bindings {
  return bindingsOf(readSettings({ env }), cwd)
}

export function dataDirOf({ values }: Settings, cwd: string): string {
  return path.resolve(cwd, values.process.dataDir)
}

/** What is copied to a bucket passes through a folder. */
export function backupDirOf(settings: Settings, cwd: string): string | undefined {
  const { dir, url } = settings.values.backup
  if (dir !== undefined) return path.resolve(cwd, dir)
  return url === undefined ? undefined : ownBackupDir(dataDirOf(settings, cwd))
}

/** Backups beside the data, where they survive a mistake but not the disk. */
export function ownBackupDir(dataDir: string): string {
  return path.join(dataDir, 'backups')
}

function backupOf(settings: Settings, cwd: string): ToolBindings['backup'] {
  const { dir, keep, url, key, mibPerS } = settings.values.backup
  const bytesPerS = mibPerS && mibPerS * 1024 ** 2
  const bucket = url === undefined ? undefined : { url, key: key!, keep, bytesPerS }
  return { dir: backupDirOf(settings, cwd), keep: bucket && dir === undefined ? 1 : keep, bucket }
}

function dataOf(topology: Topology, { data, process: { poolerUrl, group } }: Settings['values']): DataBinding {
  const { engine: _engine, replicas: _replicas, pooler: _pooler, ...limits } = topology.data
  const { url, readUrls } = data
  const shared = { ...limits, readUrls, poolerUrl, poolerGroup: group }
  return url === undefined
    ? { ...shared, engine: 'embedded', connectionsMax: databaseConnections(topology) }
    : { ...shared, engine: 'external', url }
}

/** The log has what the stream forgets; so few minutes bound its disk, and are longer than a deploy or a failover. */
const streamAgeMs = 600_000

function eventsOf({ events }: Topology, { events: given }: Settings['values']): EventsBinding {
  if (events.engine === 'table') return { engine: 'table' }
  const stream = { bytesMax: given.streamMib * 1024 ** 2, ageMsMax: streamAgeMs, replicas: events.nodes }
  return { engine: 'jetstream', url: given.url!, stream, keptMs: given.keepHours * 3_600_000 }
}

function sharedOf({ cache: { nodes } }: Topology, { url }: Settings['values']['cache']): Bindings['cache']['shared'] {
  return url === undefined ? undefined : { engine: 'redis', urls: redisUrlsIn(url), nodes }
}

function edgeOf({ edgeUrl: url, edgeSecret: secret }: Settings['values']['process']): EdgeBinding | undefined {
  return url === undefined || secret === undefined ? undefined : { engine: 'nginx', url, secret }
}

function cdnOf(cdn: CdnTopology | undefined, { url, token }: Settings['values']['cdn']): CdnBinding | undefined {
  if (cdn === undefined) return undefined
  if (token === undefined) throw invalid('A CDN needs RUNG_CDN_TOKEN, a token that may purge, and nothing else.')
  return { ...cdn, url, token }
}

/** With an embedded database all processes are on one machine. */
function filesOf({ processes, groups, data }: Topology, { files: { url, shared } }: Settings['values']): FilesBinding {
  if (url !== undefined) return { engine: 's3', url }
  const several = processes.both + processes.web + processes.worker > 1 || groups.length > 0
  return { engine: 'disk', alone: several && data.engine === 'external' && shared === 'off' }
}

/** They are evaluated over the record. */
export function alertsOf({ record, alerts }: Pick<Settings['values'], 'record' | 'alerts'>): AlertsBinding | undefined {
  if (record === 'off' || alerts.enabled === 'off') return undefined
  return { webhook: alerts.webhook, mail: alerts.mail ?? [] }
}

export function mailOf({ url, from = 'rung@localhost' }: Settings['values']['mail']): MailBinding {
  return url === undefined ? { engine: 'eml', from } : { engine: 'smtp', url, from }
}

function invalid(message: string): RungError {
  return new RungError('CONFIG_INVALID', message)
}
