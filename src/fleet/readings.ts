import { ownRouteLabel } from '../kernel/http-facts.ts'
import { requestsIn } from './figures.ts'

/** What `/metrics` of a process of the app says, as far as the autoscaler needs it. */
export interface Reading {
  /** Requests answered since its start. */
  readonly requests: number
  readonly inFlight: number
  /** Share of time since the last reading in which the event loop was busy. */
  readonly loop: number | undefined
  /** How long the oldest job that could run has waited; of the whole fleet. */
  readonly oldestJobMs: number | undefined
  readonly durations: Histogram
  readonly poolWaits: Histogram
}

/** Values up to each bound, in ms, since the start: cumulative, as Prometheus counts them. */
export type Histogram = ReadonlyMap<number, number>

/** Pure. */
export function readingIn(metrics: string): Reading {
  const waits = [...metrics.matchAll(/^job_oldest_wait_seconds\{.*\} (\S+)$/gm)].map(([, seconds]) => Number(seconds))
  const hasJobs = /^# TYPE job_oldest_wait_seconds /m.test(metrics)
  return {
    requests: requestsIn(metrics),
    inFlight: numberOf(metrics, 'http_requests_in_flight') ?? 0,
    loop: numberOf(metrics, 'nodejs_eventloop_utilization'),
    oldestJobMs: hasJobs ? Math.max(0, ...waits) * 1000 : undefined,
    durations: histogramIn(metrics, 'http_request_duration_seconds', ownRouteLabel),
    poolWaits: histogramIn(metrics, 'db_pool_wait_seconds', /target="(own|reports)"/),
  }
}

function numberOf(metrics: string, name: string): number | undefined {
  const [, value] = new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics) ?? []
  return value === undefined ? undefined : Number(value)
}

function histogramIn(metrics: string, name: string, without: RegExp): Histogram {
  const sums = new Map<number, number>()
  for (const [, labels, count] of metrics.matchAll(new RegExp(`^${name}_bucket\\{(.*)\\} (\\S+)$`, 'gm'))) {
    if (without.test(labels!)) continue
    const bound = /le="([^"]+)"/.exec(labels!)![1]!
    const ms = bound === '+Inf' ? Number.POSITIVE_INFINITY : Number(bound) * 1000
    sums.set(ms, (sums.get(ms) ?? 0) + Number(count))
  }
  return sums
}

/** Returns what was counted between two readings, over several processes. Pure. */
export function countedBetween(pairs: readonly (readonly [before: Histogram, now: Histogram])[]): Histogram {
  const sums = new Map<number, number>()
  for (const [before, now] of pairs) {
    for (const [ms, count] of now) sums.set(ms, (sums.get(ms) ?? 0) + Math.max(0, count - (before.get(ms) ?? 0)))
  }
  return sums
}

/** As Prometheus' `histogram_quantile`: even between two bounds, the last bound for what is above it. Pure. */
export function quantileMs(histogram: Histogram, quantile: number): number | undefined {
  const bounds = [...histogram].sort(([a], [b]) => a - b)
  const total = bounds.at(-1)?.[1] ?? 0
  if (total === 0) return undefined
  let [lower, below] = [0, 0]
  for (const [upper, count] of bounds) {
    if (count >= quantile * total) {
      if (upper === Number.POSITIVE_INFINITY) return lower
      return lower + (upper - lower) * ((quantile * total - below) / (count - below))
    }
    ;[lower, below] = [upper, count]
  }
  return lower
}
