import type { ScheduleEntry } from './schedule.ts'

/** What should run: which engines, and how many processes. A rung is a topology; settings change single values of it. */
export interface Topology {
  readonly rung: RungName
  readonly data: DataTopology
  readonly cache: CacheTopology
  /** What brings events to their groups. */
  readonly events: EventsTopology
  /** `nginx`: a page cache in front of the processes that answer requests. */
  readonly edge: { readonly engine: 'none' | 'nginx' }
  /** `haproxy`: spreads requests over the processes that answer them. Behind the edge, if there is one. */
  readonly balancer: { readonly engine: 'none' | 'haproxy' }
  /** A CDN in front of everything, run by its vendor. */
  readonly cdn: CdnTopology | undefined
  /** `disk`: in the data directory. `s3`: in a bucket of an S3 store. */
  readonly files: { readonly engine: 'disk' | 's3' }
  /** `eml`: written to the data directory. `smtp`: sent through a server. */
  readonly mail: { readonly engine: 'eml' | 'smtp' }
  /** Whether the log of the database is archived continuously. */
  readonly archived: boolean
  /** Where clients connect: the edge, otherwise the balancer, otherwise the one process that answers. */
  readonly http: { readonly host: string; readonly port: number }
  /** Whether clients connect by https. */
  readonly tls: boolean
  /** Number of processes of each role, which run all modules that no group has. */
  readonly processes: Readonly<Record<Role, number>>
  /** Processes whose number is found by the autoscaler; `processes` has the least. */
  readonly scaling: ScalingTopology
  /** Modules with processes of their own. */
  readonly groups: readonly Group[]
  readonly placement: PlacementTopology
  /** A part that has not answered for this many ms is restarted; 0 turns this off. */
  readonly unresponsiveAfterMs: number
}

export type RungName = '1k' | '10k' | '100k' | '500k'

/** `web` answers requests, `worker` runs jobs and handles events, `both` does both. */
export const roles = ['both', 'web', 'worker'] as const
export type Role = (typeof roles)[number]

export interface DataTopology extends DataLimits {
  /** `embedded`: Rung starts its own Postgres in the data directory. `external`: one that runs already. */
  readonly engine: 'embedded' | 'external'
  /** Number of copies of the database that follow it. Rung runs those of its own Postgres. */
  readonly replicas: number
  /** `pgbouncer`: the processes share connections through a transaction pooler. */
  readonly pooler: 'none' | 'pgbouncer'
  /** The `max_connections` of Rung's own Postgres, where it runs already and the fleet is changed. */
  readonly connectionsMax?: number
}

/** Limits of one process. Reads and writes have separate pools, so that neither starves the other. */
export interface DataLimits {
  readonly readConnectionsMax: number
  readonly writeConnectionsMax: number
  /** A replica that lags by more than this many ms is not read until it has caught up. */
  readonly lagMsMax: number
  /** A connection that is unused for this long is closed. */
  readonly idleTimeoutMs: number
  /** The server ends a statement that runs longer. */
  readonly statementTimeoutMs: number
  readonly lockTimeoutMs: number
  readonly idleInTransactionTimeoutMs: number
}

export interface CacheTopology {
  /** `memory`: each process for itself. `redis`, `external`: with a second layer that all processes share, run by Rung or elsewhere. */
  readonly engine: 'memory' | 'redis' | 'external'
  /** Over how many nodes of Redis keys are spread. Several are a cluster. */
  readonly nodes: number
  /** Size of the memory layer of one process. */
  readonly memoryBytesMax: number
}

export interface EventsTopology {
  /** `table`: the publisher adds deliveries to the queues of its database. `jetstream`, `external`: a broker, run by Rung or elsewhere, takes events to the databases of their groups. */
  readonly engine: 'table' | 'jetstream' | 'external'
  /** Nodes of the broker, each of which stores all events. */
  readonly nodes: number
}

export interface ScalingTopology {
  readonly web?: Range
  readonly worker?: Range
  /** Least numbers of web processes at times of the week. */
  readonly schedule: readonly ScheduleEntry[]
}

/** Numbers of processes. */
export interface Range {
  readonly least: number
  readonly most: number
}

/**
 * Modules with processes of their own. Where one of the numbers is 0, processes without a group do that part of the work.
 * Names of groups are unique, and a module is in one group at most.
 */
export interface Group {
  readonly name: string
  readonly modules: readonly string[]
  readonly web: number
  readonly worker: number
  /** Of each of its processes, for reads, and as many for writes. Behind a pooler its processes share pools of their own. */
  readonly connections: number
}

/** Fewer than others have: one module needs fewer, and another one must not lose them. */
export const groupConnections = 5

/** Where the processes of the app run. */
export interface PlacementTopology {
  /** CPU cores that it may use; `undefined`: as many as the machine has. */
  readonly cpu: number | undefined
  /** Places that fail apart from each other. Processes of the app and servers of the database are spread over them. */
  readonly zones: readonly string[]
}

export const cdnNames = ['fastly', 'cloudflare'] as const
export type CdnName = (typeof cdnNames)[number]

export interface CdnTopology {
  readonly name: CdnName
  /** Id of the service (Fastly) or the zone (Cloudflare). */
  readonly id: string
}

/** Connections of each process for Rung's own statements. */
const ownConnections = 3
/** Connections of each process that lead past a pooler: two that listen, and one that asks each server how far it is. */
const directConnections = 3
/** Connections besides those of processes: migrations, rebuilds of an index, tools. */
const otherConnections = 20
/** Enough for `rung up 10k`, so that Postgres is not restarted between it and `rung start`. */
const connectionsMin = 100

type Connecting = Pick<Topology, 'data' | 'processes'> & Partial<Pick<Topology, 'scaling' | 'groups'>>

/** Behind a pooler a process needs few connections of its own: so many processes may run before Postgres must be restarted. */
const pooledProcessesMin = 16

/** Returns the `max_connections` of Rung's own Postgres. */
export function databaseConnections(topology: Connecting): number {
  const { connectionsMax, pooler } = topology.data
  const added = pooler === 'none' ? 0 : Math.max(0, pooledProcessesMin - processCount(topology)) * directConnections
  return connectionsMax ?? Math.max(connectionsMin, connectionsNeeded(withOneMore(topology)) + added)
}

/** A deploy runs one more process that answers. */
function withOneMore({ data, processes, groups = [] }: Connecting): Connecting {
  const isRolled = processes.web > 0 && data.pooler === 'none'
  return { data, groups, processes: { ...processes, web: processes.web + (isRolled ? 1 : 0) } }
}

/** Returns the connections that all processes and tools need at most on one server. */
export function connectionsNeeded(topology: Connecting): number {
  const { data } = topology
  const sum = (counts: readonly number[]) => counts.reduce((all, one) => all + one, 0)
  const { groups = [] } = topology
  const pooled = sum([undefined, ...groups].flatMap((group) => Object.values(poolerConnections(topology, group))))
  const ofEach = data.readConnectionsMax + data.writeConnectionsMax + ownConnections
  const inGroups = groups.map((group) => countIn(group) * (2 * group.connections + ownConnections))
  const shared = data.pooler === 'none' ? sum([coreCount(topology) * ofEach, ...inGroups]) : pooled
  return shared + processCount(topology) * directConnections + otherConnections
}

/** What a connection is for. A pooler has a pool for each, on each server. */
export const pooledTargets = ['read', 'write', 'own', 'reports'] as const
export type PooledTarget = (typeof pooledTargets)[number]

/** Processes whose connections may all be in use at the same time. More of them share these: they would queue in Postgres otherwise. */
const busyProcesses = 2
/** Long reads, for all processes together. */
const reportConnections = 4
const groupReportConnections = 2

/** Returns the connections of a pooler to one server, for each target: those of a group, or of the processes that have none. */
export function poolerConnections(topology: Connecting, group?: Group): Readonly<Record<PooledTarget, number>> {
  const { readConnectionsMax, writeConnectionsMax } = topology.data
  const busy = Math.min(busyProcesses, group ? countIn(group) : coreCount(topology))
  const [read, write] = group ? [group.connections, group.connections] : [readConnectionsMax, writeConnectionsMax]
  const reports = group ? groupReportConnections : reportConnections
  return { read: busy * read, write: busy * write, own: busy * ownConnections, reports }
}

const countIn = ({ web, worker }: Group) => web + worker

function processCount(topology: Connecting): number {
  return coreCount(topology) + (topology.groups ?? []).reduce((sum, group) => sum + countIn(group), 0)
}

/** The most that have no group and run at a time. While autoscaled processes are restarted, one more of them may run. */
function coreCount({ processes, scaling = { schedule: [] } }: Connecting): number {
  const most = (role: 'web' | 'worker') => Math.max(processes[role], scaling[role] ? scaling[role].most + 1 : 0)
  return processes.both + most('web') + most('worker')
}

/** Returns the number of processes that answer requests. */
export function webProcesses({ processes, groups }: Pick<Topology, 'processes' | 'groups'>): number {
  return processes.both + processes.web + groups.reduce((sum, { web }) => sum + web, 0)
}
