import { evidenceOf } from '../../../src/cli/evidence-from-record.ts'
import { seededRandom } from '../../../src/kernel/random.ts'
import { type Frame, type Histogram, keyOf, nothing } from '../../../src/observe/record/frame.ts'
import { recordedFrom } from '../../../src/observe/record/hours.ts'
import { addTo } from '../../../src/observe/record/sketch.ts'
import type { Evidence, Prices } from '../../../src/planner/evidence.ts'
import { rungs } from '../../../src/topology/catalog.ts'
import type { RungName, Topology } from '../../../src/topology/topology.ts'

/**
 * An app as it is made: what comes, and what each request costs. All figures of the record follow from it by the utilisation law (busy = rate · demand)
 * and the stretch of a queue, 1 / (1 − busy), so no figure is chosen for the answer that it leads to.
 */
export interface World {
  rung: RungName
  cores: number
  /** Each part has a machine of its own. */
  spread?: boolean
  /** Days that are recorded, until today. */
  days: number
  /** Requests per second in the busiest hour of a day; the oldest day is 0. */
  peak(day: number): number
  routes: readonly Route[]
  /** Jobs per second at any time, and their cost. */
  jobs?: { perSecond: number; cpuMs: number; waitMs: number; service?: string; concurrency: number }
  /** What the process does not give back, bytes an hour. */
  leak?: number
  /** Ids of the signed-in users of a day. */
  users?(day: number): readonly string[]
  prices?: Prices
  topology?: Partial<Topology>
  seed?: number
}

export interface Route {
  route: string
  module: string
  share: number
  /** CPU ms of one request: in the app's process, and in Postgres. */
  appMs: number
  readMs: number
  writeMs: number
  /** Waits for another service. */
  service?: { name: string; ms: number }
  /** Share of the requests that the cache answers; they cost only the app. */
  cached?: number
}

const hourMs = 3_600_000
const dayMs = 24 * hourMs
export const todayText = '2026-11-30'
const today = Date.parse(todayText)
/** Of a day, as a share of its peak: the night is quiet, the evening is not. */
const shape = [
  ...[0.2, 0.15, 0.1, 0.1, 0.1, 0.15, 0.25, 0.4, 0.6, 0.7, 0.75, 0.8],
  ...[0.8, 0.75, 0.7, 0.7, 0.75, 0.8, 0.9, 1, 1, 0.9, 0.6, 0.35],
]
/** Each day and each hour are so much more or less than expected, at most. */
const scatter = 0.05
/** What runs when nobody comes. */
const idleCores = 0.004

const bounds = [0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** Nine in ten take the mean or less, the others two and a half times as long. */
function histogram(count: number, meanSeconds: number): Histogram {
  const bucket = (seconds: number) => {
    const upper = bounds.findIndex((bound) => bound >= seconds)
    return `${bounds[upper - 1]}..${bounds[upper]}`
  }
  const [few, many] = [Math.round(count / 10), count - Math.round(count / 10)]
  const [short, long] = [bucket(0.83 * meanSeconds), bucket(2.5 * meanSeconds)]
  return { sum: count * meanSeconds, counts: short === long ? { [short]: count } : { [short]: many, [long]: few } }
}

const gauge = (value: number) => ({ min: value, max: value, sum: value, count: 1 })

export function topologyOfWorld({ rung, topology }: World): Topology {
  return { ...rungs[rung], ...topology }
}

/** The record of a world, hour by hour, until a day begins. */
export function* slicesOf(world: World, until = today) {
  const topology = topologyOfWorld(world)
  const roles = (['both', 'web', 'worker'] as const).filter((role) => topology.processes[role] > 0)
  const backlog = { waiting: 0 }
  const random = seededRandom(world.seed ?? 1)
  const noise = () => 1 + scatter * (2 * random() - 1)
  let day = -1
  let ofDay = 1
  for (let hour = 0; hour < 24 * world.days; hour += 1) {
    const from = until - world.days * dayMs + hour * hourMs
    if (Math.floor(hour / 24) !== day) [day, ofDay] = [Math.floor(hour / 24), noise()]
    const rate = world.peak(day) * shape[hour % 24]! * ofDay * noise()
    const frames = roles.flatMap((role) =>
      Array.from({ length: topology.processes[role] }, (_, index) =>
        frameOf(world, { topology, role, index, hour, from, rate, backlog }),
      ),
    )
    yield { from, to: from + hourMs, frames }
  }
}

interface Moment {
  topology: Topology
  role: 'both' | 'web' | 'worker'
  index: number
  hour: number
  from: number
  rate: number
  backlog: { waiting: number }
}

function frameOf(world: World, { topology, role, index, hour, from, rate, backlog }: Moment): Frame {
  const counters: Record<string, Record<string, number>> = {}
  const gauges: Record<string, Record<string, ReturnType<typeof gauge>>> = {}
  const histograms: Record<string, Record<string, Histogram>> = {}
  const count = (name: string, labels: object, value: number) => {
    counters[name] ??= {}
    counters[name][keyOf(labels as Record<string, string>)] = value
  }
  const observe = (name: string, labels: object, n: number, seconds: number) => {
    if (n === 0) return
    histograms[name] ??= {}
    histograms[name][keyOf(labels as Record<string, string>)] = histogram(n, seconds)
  }
  let busySeconds = idleCores * 3_600
  const answers = role !== 'worker'
  const processes = topology.processes[role]
  if (answers) {
    const own = world.routes.map((one) => ({ ...one, n: Math.round((rate * one.share * 3_600) / processes) }))
    busySeconds += own.reduce((sum, { n, appMs }) => sum + (n * appMs) / 1_000, 0)
    const stretch = 1 / (1 - Math.min(0.95, busySeconds / 3_600))
    const database = world.routes.reduce(
      (sum, one) => sum + rate * one.share * (1 - (one.cached ?? 0)) * (one.readMs + one.writeMs),
      0,
    )
    const slower = 1 / (1 - Math.min(0.95, database / 1_000 / world.cores))
    for (const { route, module, n, appMs, readMs, writeMs, service, cached = 0 } of own) {
      const [method, path] = route.split(' ')
      const loads = Math.round(n * (1 - cached))
      const databaseMs = (1 - cached) * (readMs + writeMs) * slower
      const seconds = (appMs * stretch + databaseMs + (service?.ms ?? 0)) / 1_000
      observe('http_request_duration_seconds', { method, route: path, status: '200', module }, n, seconds)
      if (readMs > 0)
        observe(
          'db_statement_duration_seconds',
          { module, target: 'read', command: 'select' },
          loads,
          (readMs * slower) / 1_000,
        )
      if (writeMs > 0)
        observe(
          'db_statement_duration_seconds',
          { module, target: 'write', command: 'update' },
          loads,
          (writeMs * slower) / 1_000,
        )
      if (service) observe('outgoing_duration_seconds', { service: service.name, outcome: 'ok' }, n, service.ms / 1_000)
      if (cached > 0) {
        count('cache_requests_total', { module, group: path, outcome: 'memory' }, n - loads)
        count('cache_requests_total', { module, group: path, outcome: 'loaded' }, loads)
      }
    }
    observe('db_pool_wait_seconds', { target: 'read' }, Math.round((rate * 3_600) / processes), 0.0002)
    gauges.db_pool_connections = {
      [keyOf({ database: 'main', target: 'read', state: 'max' })]: gauge(topology.data.readConnectionsMax),
    }
  }
  const { jobs } = world
  if (jobs && role !== 'web') {
    const cpuPerHour = (3_600_000 - busySeconds * 1_000) / jobs.cpuMs
    const slotsPerHour = (jobs.concurrency * 3_600_000) / (jobs.cpuMs + jobs.waitMs)
    const arrived = (jobs.perSecond * 3_600) / processes
    const done = Math.round(Math.min(arrived + backlog.waiting, cpuPerHour, slotsPerHour))
    backlog.waiting += arrived - done
    busySeconds += (done * jobs.cpuMs) / 1_000
    observe(
      'job_duration_seconds',
      { queue: 'export', name: 'export', outcome: 'done' },
      done,
      (jobs.cpuMs + jobs.waitMs) / 1_000,
    )
    if (jobs.service)
      observe('outgoing_duration_seconds', { service: jobs.service, outcome: 'ok' }, done, jobs.waitMs / 1_000)
    gauges.jobs = { [keyOf({ queue: 'export', state: 'waiting' })]: gauge(backlog.waiting) }
    gauges.job_oldest_wait_seconds = {
      [keyOf({ queue: 'export' })]: gauge((3_600 * backlog.waiting) / Math.max(1, done)),
    }
  }
  count('process_cpu_user_seconds_total', {}, busySeconds)
  count('nodejs_eventloop_busy_seconds_total', {}, busySeconds)
  gauges.process_info = { [keyOf({ role })]: gauge(1) }
  gauges.process_resident_memory_bytes = { '{}': gauge(150e6 + 20e6 * rate * 0.001 + (world.leak ?? 0) * hour) }
  if (index === 0 && answers) engines(world, topology, rate, count)
  const ids = index === 0 && answers && hour % 24 === 12 ? (world.users?.(Math.floor(hour / 24)) ?? []) : []
  const sketch: Record<string, number> = {}
  for (const id of ids) addTo(sketch, id)
  return {
    ...{ node: `${role}-${index}`, from, to: from + hourMs, ms: hourMs, ...nothing, counters, gauges, histograms },
    ...(ids.length > 0 && { sketches: { users_active: { '{}': sketch } } }),
  }
}

/** The primary does all writes; reads are spread over the replicas, if there are any, and each replica repeats the writes. */
function engines(
  world: World,
  topology: Topology,
  rate: number,
  count: (name: string, labels: object, value: number) => void,
): void {
  const perSecond = (of: (one: Route) => number) =>
    world.routes.reduce((sum, one) => sum + (rate * one.share * (1 - (one.cached ?? 0)) * of(one)) / 1_000, 0)
  const [reads, writes] = [perSecond(({ readMs }) => readMs), perSecond(({ writeMs }) => writeMs)]
  const { replicas } = topology.data
  const used: Record<string, number> = { postgres: idleCores + writes + (replicas > 0 ? 0 : reads) }
  for (let replica = 0; replica < replicas; replica += 1)
    used[`postgres-${replica + 2}`] = idleCores + writes / 2 + reads / replicas
  if (topology.edge.engine !== 'none') used.edge = idleCores + rate * 0.000_05
  if (topology.balancer.engine !== 'none') used.balancer = idleCores + rate * 0.000_05
  if (topology.data.pooler !== 'none') used.pooler = idleCores + rate * 0.000_1
  if (topology.cache.engine !== 'memory') used.redis = idleCores + rate * 0.000_03
  for (const [server, cores] of Object.entries(used)) {
    count('server_cpu_seconds_total', { server }, 3_600 * cores)
    count('server_measured_seconds_total', { server }, 3_600)
  }
}

/** What the record of this world says, by the same code that reads the record of an app. */
export async function evidenceOfWorld(world: World): Promise<Evidence> {
  const slices = [...slicesOf(world)]
  const since = slices[0]!.from
  const recorded = await recordedFrom(slices, { since, until: today })
  return evidenceOf(recorded, {
    ...{ topology: topologyOfWorld(world), cores: world.cores, spread: world.spread ?? false },
    objective: { p95Ms: 200, failing: 0.01 },
    ...(world.prices && { prices: world.prices }),
  })
}
