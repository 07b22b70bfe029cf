import { isOwnRoute } from '../../kernel/http-facts.ts'
import { addHistograms, type Frame, type Gauge, type Histogram, total } from './frame.ts'
import { counted, distributed, gauged, quantile } from './groups.ts'
import { unbounded } from './snapshot.ts'

/** What was recorded in a window, in total. */
export interface Summary {
  /** How much of the window some process has recorded. */
  recordedMs: number
  /** Those with the most requests first. */
  routes: RouteSummary[]
  /** Pages that readers' browsers reported on, those with the most reports first. */
  pages: PageSummary[]
  nodes: NodeSummary[]
  /** What serves the app on the machine of a process that recorded it. */
  servers: ServerSummary[]
  /** Connections that processes of the app keep to the database, by what they are for. */
  pools: PoolSummary[]
  /** As processes of the app saw them. */
  replicas: ReplicaSummary[]
}

export interface RouteSummary {
  /** `GET /articles/:slug`, or `GET (none)` for paths that no route has. */
  route: string
  requests: number
  requestsPerSecond: number
  p50Ms: number
  p95Ms: number
  p99Ms: number
  /** Answers of 500 and more. */
  errors: number
}

/** 75 of 100 readers saw these values or better, which is how web vitals are judged. `null` where nothing was reported. */
export interface PageSummary {
  /** `/article/:slug` */
  page: string
  reports: number
  lcpMs: number | null
  inpMs: number | null
  fcpMs: number | null
  ttfbMs: number | null
  /** Cumulative layout shift, without a unit. */
  cls: number | null
}

export interface NodeSummary {
  node: string
  role: string | null
  measuredMs: number
  /** Cores that it used on average. */
  cores: number
  /** Share of time in which its event loop was busy, 0 to 1. */
  loop: number
  memoryBytes: number | null
  memoryBytesMax: number | null
}

export interface ServerSummary extends Pick<NodeSummary, 'measuredMs' | 'cores' | 'memoryBytes' | 'memoryBytesMax'> {
  /** `postgres`, `edge` */
  server: string
}

export interface PoolSummary {
  database: string
  /** `read`, `write`, or `own`: Rung's statements. */
  target: string
  /** Processes that still measured at the end of the window. Sizes and use are theirs. */
  processes: number
  /** Connections that all of them may open together. */
  size: number
  /** Connections in use on average, of all of them together. */
  busy: number
  /** The most that one of them had in use. */
  busyMax: number
  /** The most statements that waited for a connection in one of them. */
  waitingMax: number
  /** 95 of 100 statements had a connection within this time; `null` without any. Of all databases together. */
  waitMs95: number | null
}

export interface ReplicaSummary {
  database: string
  server: string
  /** How old what it showed could be, on average and at most; `null` if a process did not know once. */
  lagMs: number | null
  lagMsMax: number | null
  /** Share of the looks of all processes in which it took reads, 0 to 1. */
  inRotation: number
}

export interface DayPeak {
  /** `2026-11-30`, in UTC */
  day: string
  /** Requests per second in its busiest hour. */
  peak: number
}

/** Returns the peaks of whole days from hours of the record. An hour is the finest that is still known of old days, so that days compare. Pure. */
export function dayPeaks(
  hours: readonly { from: number; coveredMs: number; requests: number }[],
  from: number,
  to: number,
): DayPeak[] {
  const days = Map.groupBy(hours, ({ from }) => new Date(from).toISOString().slice(0, 10))
  return [...days].flatMap(([day, own]) => {
    const begin = Date.parse(day)
    if (begin < from || begin + dayMs > to) return []
    const rates = own.map(({ requests, coveredMs }) => requests / (Math.max(hourMs, coveredMs) / 1_000))
    return [{ day, peak: Math.max(...rates) }]
  })
}

const hourMs = 3_600_000
const dayMs = 86_400_000

/** Requests that were answered. Pure. */
export function requestsOf(frames: readonly Frame[]): number {
  return distributed(frames, 'http_request_duration_seconds', ['route'])
    .filter(({ labels }) => !isOwnRoute(labels.route!))
    .reduce((sum, { value }) => sum + total(value), 0)
}

/** Answers of all routes: how many, those of 500 and more, and the time within which 95 of 100 came. `undefined` without any. Pure. */
export function answersOf(frames: readonly Frame[]): { requests: number; failed: number; p95Ms: number } | undefined {
  const answers = distributed(frames, 'http_request_duration_seconds', ['route', 'status']).filter(
    ({ labels }) => !isOwnRoute(labels.route!),
  )
  if (answers.length === 0) return undefined
  const failed = answers.filter(({ labels }) => Number(labels.status) >= 500)
  const all = answers.map(({ value }) => value).reduce(addHistograms)
  return {
    requests: total(all),
    failed: failed.reduce((sum, { value }) => sum + total(value), 0),
    p95Ms: 1_000 * quantile(all, 0.95)!,
  }
}

/** Pure. */
export function summarise(frames: readonly Frame[], routePart = ''): Summary {
  const recordedMs = coveredMs(frames)
  const answers = distributed(frames, 'http_request_duration_seconds', ['method', 'route', 'status'])
  const byRoute = new Map<string, { all: Histogram; errors: number }>()
  for (const { labels, value } of answers) {
    const { method, route, status } = labels
    const name = `${method} ${route}`
    if (isOwnRoute(route!) || !name.includes(routePart)) continue
    const known = byRoute.get(name)
    const errors = Number(status) >= 500 ? total(value) : 0
    byRoute.set(name, {
      all: known ? addHistograms(known.all, value) : value,
      errors: (known?.errors ?? 0) + errors,
    })
  }
  const routes = [...byRoute].map(([route, { all, errors }]): RouteSummary => {
    const [requests, ms] = [total(all), (share: number) => 1000 * quantile(all, share)!]
    const requestsPerSecond = requests / (recordedMs / 1000)
    return { route, requests, requestsPerSecond, p50Ms: ms(0.5), p95Ms: ms(0.95), p99Ms: ms(0.99), errors }
  })
  return {
    recordedMs,
    routes: routes.sort((a, b) => b.requests - a.requests),
    pages: pagesIn(frames),
    nodes: frames.map(nodeSummary).sort((a, b) => b.measuredMs - a.measuredMs),
    servers: serversIn(frames),
    pools: poolsIn(frames),
    replicas: replicasIn(frames),
  }
}

/** A process writes each minute. One that has missed two has ended. */
const endedMs = 2 * 60_000 + 1

function poolsIn(frames: readonly Frame[]): PoolSummary[] {
  const end = Math.max(...frames.map(({ to }) => to))
  const running = frames.filter(({ to }) => end - to < endedMs)
  const found = gauged(running, 'db_pool_connections', ['database', 'target', 'state', 'node'])
  const waits = distributed(running, 'db_pool_wait_seconds', ['target'])
  const pools = Map.groupBy(found, ({ labels }) => JSON.stringify([labels.database, labels.target]))
  return [...pools.values()].map((own): PoolSummary => {
    const { database = '', target = '' } = own[0]!.labels
    const of = (state: string) => own.filter(({ labels }) => labels.state === state).map(({ value }) => value)
    const most = (state: string) => Math.max(0, ...of(state).map(({ max }) => max))
    const wait = waits.find(({ labels }) => labels.target === target)
    return {
      ...{ database, target, processes: of('max').length },
      size: of('max').reduce((sum, { max }) => sum + max, 0),
      busy: of('busy').reduce((sum, value) => sum + value.sum / value.count, 0),
      ...{ busyMax: most('busy'), waitingMax: most('waiting') },
      waitMs95: wait && total(wait.value) > 0 ? 1_000 * quantile(wait.value, 0.95)! : null,
    }
  })
}

function replicasIn(frames: readonly Frame[]): ReplicaSummary[] {
  const lags = gauged(frames, 'db_server_lag_seconds', ['database', 'server'])
  return gauged(frames, 'db_server_in_rotation', ['database', 'server']).map(({ labels, value }): ReplicaSummary => {
    const { database = '', server = '' } = labels
    const lag = lags.find(({ labels }) => labels.database === database && labels.server === server)?.value
    const known = lag && lag.max < unbounded ? lag : undefined
    return {
      ...{ database, server, inRotation: value.sum / value.count },
      ...{ lagMs: known ? (1_000 * known.sum) / known.count : null, lagMsMax: known ? 1_000 * known.max : null },
    }
  })
}

function pagesIn(frames: readonly Frame[]): PageSummary[] {
  const vitals = distributed(frames, 'web_vital_seconds', ['page', 'vital'])
  const shifts = new Map(
    distributed(frames, 'web_layout_shift', ['page']).map(({ labels, value }) => [labels.page, value]),
  )
  const pages = [...Map.groupBy(vitals, ({ labels }) => labels.page!)].map(([page, own]): PageSummary => {
    const of = (vital: string) => own.find(({ labels }) => labels.vital === vital)?.value
    const ms = (vital: string) => {
      const seconds = quantile(of(vital) ?? { sum: 0, counts: {} }, 0.75)
      return seconds === undefined ? null : 1_000 * seconds
    }
    const shift = shifts.get(page)
    return {
      ...{ page, reports: Math.max(...own.map(({ value }) => total(value))) },
      ...{ lcpMs: ms('LCP'), inpMs: ms('INP'), fcpMs: ms('FCP'), ttfbMs: ms('TTFB') },
      cls: (shift && quantile(shift, 0.75)) ?? null,
    }
  })
  return pages.sort((a, b) => b.reports - a.reports)
}

function serversIn(frames: readonly Frame[]): ServerSummary[] {
  const bySeconds = (metric: string) =>
    new Map(counted(frames, metric, ['server']).map(({ labels, value }) => [labels.server!, value]))
  const [used, measured] = [bySeconds('server_cpu_seconds_total'), bySeconds('server_measured_seconds_total')]
  const memory = new Map(
    gauged(frames, 'server_memory_bytes', ['server']).map(({ labels, value }) => [labels.server!, value]),
  )
  return [...measured].map(([server, seconds]) => {
    const cores = (used.get(server) ?? 0) / seconds
    return { server, measuredMs: Math.round(1000 * seconds), cores, ...memoryFacts(memory.get(server)) }
  })
}

function memoryFacts(memory: Gauge | undefined): Pick<NodeSummary, 'memoryBytes' | 'memoryBytesMax'> {
  return { memoryBytes: memory ? Math.round(memory.sum / memory.count) : null, memoryBytesMax: memory?.max ?? null }
}

function nodeSummary(frame: Frame): NodeSummary {
  const seconds = (metric: string) => counted([frame], metric, [])[0]?.value ?? 0
  const memory = gauged([frame], 'process_resident_memory_bytes', [])[0]?.value
  const used = seconds('process_cpu_user_seconds_total') + seconds('process_cpu_system_seconds_total')
  return {
    node: frame.node,
    role: gauged([frame], 'process_info', ['role'])[0]?.labels.role ?? null,
    measuredMs: frame.ms,
    cores: used / (frame.ms / 1000),
    loop: Math.min(1, seconds('nodejs_eventloop_busy_seconds_total') / (frame.ms / 1000)),
    ...memoryFacts(memory),
  }
}

/** The time in which at least one of them measured. It is longer than the wall clock says where that was set back. */
export function coveredMs(frames: readonly Frame[]): number {
  let [covered, until] = [0, Number.NEGATIVE_INFINITY]
  for (const { from, to } of [...frames].sort((a, b) => a.from - b.from)) {
    covered += Math.max(0, to - Math.max(from, until))
    until = Math.max(until, to)
  }
  const byNode = [...Map.groupBy(frames, ({ node }) => node).values()]
  return Math.max(covered, ...byNode.map((own) => own.reduce((sum, { ms }) => sum + ms, 0)))
}
