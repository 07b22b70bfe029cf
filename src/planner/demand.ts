import { poolerConnections, type Topology } from '../topology/topology.ts'
import { type Interval, prior, scaled, sourceOf } from './interval.ts'
import type { Station } from './queueing.ts'
import { type Scaling, stretchOf } from './usl.ts'

/** Processes of one kind, or a server, and the cores that each of them can use. */
export interface Part {
  name: string
  count: number
  coresEach: number
}

/** What a load test measured on the running app. Rates are requests per second. */
export interface Measurement {
  /** How many of each part ran. */
  counts: Readonly<Record<string, number>>
  /** Cores of the machine, and of each process of the app if it had a quota. */
  cores: number
  nodeCpu?: number
  /** CPU ms of each part for one request of the mix. */
  demand: Readonly<Record<string, Interval>>
  /** Each route's share of the requests, and the CPU ms of all parts for one of them. */
  routes: readonly { share: number; cpuMs: number }[]
  steps: readonly { rate: number; p95: number }[]
}

/** All that the queueing model needs. */
export interface Model {
  parts: readonly Part[]
  /** CPU ms for one request, by part. */
  demand: Readonly<Record<string, Interval>>
  /** See `Station.variability`. */
  variability: Interval
  /** Connections of all pools, and how long a request holds one, as a multiple of the CPU time of the database. */
  connections: number
  held: Interval
  /** Cores of the machine on which all parts run; `undefined`: each has one of its own. */
  machineCores: number | undefined
  /** Of the web processes, and for how many of them their demand was measured. Without it their throughput grows with their number. */
  scaling?: { law: Scaling; measuredWith: number }
  /** What a request waits for that no station explains: networks, disks, timers. */
  fixedMs: number
}

/** One thread does the work of each. */
export const oneThread: ReadonlySet<string> = new Set(['app', 'web', 'worker', 'pooler', 'redis'])
const isOfApp = (name: string) => name === 'app' || name === 'web' || name === 'worker'

/**
 * CPU ms for one request, where nothing was measured.
 * Sources: web, postgres: `npm run bench -- ladder`, Conduit on a seeded database with caches off: web 0.65–1.26 ms, Postgres 0.31–0.49 ms. The upper ends
 * are what pages made on the server and reports cost. edge, balancer, pooler, redis: of the 1.59 ms of all parts of 100k in the same bench, 0.24 ms are
 * theirs together, the worker's included. What a worker does depends on the app; this is a tenth of a web process.
 */
const priorDemand: Readonly<Record<string, Interval>> = {
  web: prior(0.6, 1, 5),
  worker: prior(0.02, 0.1, 1),
  database: prior(0.3, 0.5, 3),
  edge: prior(0.03, 0.08, 0.2),
  balancer: prior(0.03, 0.08, 0.2),
  pooler: prior(0.05, 0.1, 0.3),
  redis: prior(0.01, 0.03, 0.1),
}
/**
 * Of the work of the database that replicas can do. Source: 60 to 85 % is what teams report who split reads from writes; in `npm run bench -- ladder`,
 * which only reads, it is 99 %.
 */
const priorReads = prior(0.6, 0.75, 0.95)
/** How much times vary within a route, squared. An exponential time has 1; answers of one route are more alike, until a large one comes. */
const priorWithin = prior(0.3, 1, 2)
/** The same for all requests, where nothing is known of the routes. No source: costs of routes are taken to vary half as much as those within one. */
const priorVariability = prior(0.7, 1.8, 4)
/** A connection is held while Postgres works, and while the statement and its answer travel and commits wait for the disk. */
const priorHeld = prior(1.5, 3, 10)

/** Returns how many of each part a topology runs at most. */
export function countsOf({ edge, balancer, processes, scaling, data, cache }: Topology): Record<string, number> {
  const all = {
    edge: edge.engine === 'none' ? 0 : 1,
    balancer: balancer.engine === 'none' ? 0 : 1,
    app: processes.both,
    web: scaling.web?.most ?? processes.web,
    worker: scaling.worker?.most ?? processes.worker,
    pooler: data.pooler === 'none' ? 0 : 1,
    redis: cache.engine === 'memory' ? 0 : cache.nodes,
    postgres: 1,
    replica: data.replicas,
  }
  return Object.fromEntries(Object.entries(all).filter(([, count]) => count > 0))
}

export function partsOf(counts: Readonly<Record<string, number>>, cores: number, nodeCpu?: number): Part[] {
  return Object.entries(counts)
    .filter(([name]) => name in { ...priorDemand, app: 1, postgres: 1, replica: 1 })
    .map(([name, count]) => ({
      ...{ name, count },
      coresEach: oneThread.has(name) ? Math.min(1, cores, (isOfApp(name) && nodeCpu) || 1) : cores,
    }))
}

/** Returns the connections that requests share. */
export function connectionsOf(topology: Topology): number {
  const { data, processes } = topology
  const { read, write } = poolerConnections(topology)
  if (data.pooler !== 'none') return read * Math.max(1, data.replicas) + write
  return (processes.both + processes.web) * (data.readConnectionsMax + data.writeConnectionsMax)
}

/**
 * Returns what one request costs each of the parts: as measured, otherwise from experience. A measurement at another rung is carried over: one
 * process that did both counts as a web process, and the database's work is divided among the primary and its replicas, or added up.
 */
export function demandOfParts(parts: readonly Part[], measured: Measurement['demand'] = {}): Record<string, Interval> {
  const { app, web, postgres, replica } = measured
  const ofWeb = web ?? app ?? priorDemand.web!
  const ofWorker = measured.worker ?? (app ? scaled(app, 0) : priorDemand.worker!)
  const database = postgres ? (replica ? sum(postgres, replica) : postgres) : priorDemand.database!
  const isSplit = parts.some(({ name }) => name === 'replica')
  const asMeasured = isSplit === (replica !== undefined)
  const split: Record<string, Interval> =
    isSplit && !asMeasured
      ? { replica: product(database, priorReads), postgres: product(database, rest(priorReads)) }
      : { postgres: asMeasured ? (postgres ?? database) : database }
  const all: Record<string, Interval> = {
    ...priorDemand,
    ...measured,
    ...split,
    web: ofWeb,
    worker: ofWorker,
    app: app ?? sum(ofWeb, ofWorker),
  }
  return Object.fromEntries(parts.map(({ name }) => [name, all[name]!]))
}

function sum(a: Interval, b: Interval): Interval {
  return { low: a.low + b.low, likely: a.likely + b.likely, high: a.high + b.high, from: sourceOf([a, b]) }
}

function product(a: Interval, b: Interval): Interval {
  return { low: a.low * b.low, likely: a.likely * b.likely, high: a.high * b.high, from: 'prior' }
}

function rest({ low, likely, high, from }: Interval): Interval {
  return { low: 1 - high, likely: 1 - likely, high: 1 - low, from }
}

/**
 * Returns how much the costs of requests vary: between routes as measured, within a route from experience.
 * The mix of times with means m and squared coefficients of variation w has `Σ share · m² · (1 + w) / (Σ share · m)² − 1`.
 */
export function variabilityOf(routes: Measurement['routes'] = []): Interval {
  const mean = routes.reduce((all, { share, cpuMs }) => all + share * cpuMs, 0)
  if (mean === 0) return priorVariability
  const squares = routes.reduce((all, { share, cpuMs }) => all + share * cpuMs ** 2, 0) / mean ** 2
  const { low, likely, high } = priorWithin
  return {
    low: squares * (1 + low) - 1,
    likely: squares * (1 + likely) - 1,
    high: squares * (1 + high) - 1,
    from: 'measured',
  }
}

/** Builds the model of what would run, from what was measured where that is known. */
export function modelOf(
  parts: readonly Part[],
  { connections, machineCores }: Pick<Model, 'connections' | 'machineCores'>,
  measured?: Pick<Measurement, 'demand' | 'routes'>,
): Model {
  return {
    parts,
    demand: demandOfParts(parts, measured?.demand),
    variability: variabilityOf(measured?.routes),
    held: priorHeld,
    ...{ connections, machineCores, fixedMs: 0 },
  }
}

/**
 * Returns the queues of a model.
 * @param pick chooses a value of each interval: the likely one, or one at random
 */
export function stationsOf(model: Model, pick: (interval: Interval) => number): Station[] {
  const { parts, machineCores, scaling } = model
  const ms = Object.fromEntries(Object.entries(model.demand).map(([name, interval]) => [name, pick(interval)]))
  const variability = pick(model.variability)
  const heldMs = pick(model.held) * ((ms.postgres ?? 0) + (ms.replica ?? 0))
  const law = scaling && { contention: pick(scaling.law.contention), coherency: pick(scaling.law.coherency) }
  const web = parts.find(({ name }) => name === 'web')
  if (law && web) ms.web = (ms.web! * stretchOf(law, web.count)) / stretchOf(law, scaling.measuredWith)
  const station = (name: string, cores: number, servers: number, cpuMs: number, seen: Station['seen']): Station => ({
    // A server that has a part of a core is slower by as much.
    ...{ name, servers, serviceMs: (cpuMs * servers) / cores, variability, seen },
  })
  const queues = parts.map(({ name, count, coresEach }) => {
    // Where all cores are those of one machine, its queue is the one to wait in.
    const seen = name === 'worker' ? 'none' : machineCores !== undefined && !oneThread.has(name) ? 'service' : 'all'
    return station(name, count * coresEach, count * Math.max(1, Math.ceil(coresEach)), ms[name]!, seen)
  })
  const cpuMs = Object.values(ms).reduce((all, one) => all + one, 0)
  return [
    ...queues,
    station('pools', model.connections, model.connections, heldMs, 'wait'),
    ...(machineCores === undefined
      ? []
      : [station('machine', machineCores, Math.max(1, Math.ceil(machineCores)), cpuMs, 'wait')]),
  ]
}
