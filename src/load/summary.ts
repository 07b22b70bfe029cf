import type { Histogram } from './histogram.ts'
import type { Second } from './live.ts'
import type { LoadResult, RouteResult } from './run.ts'

/** The figures of a load as plain data, for `--json`, reports and programs. Times in ms, rates per second. */
export interface Summary {
  journeys: number
  seconds: number
  /** All requests together, and what failed in journeys beside them. */
  all: Figures
  routes: Readonly<Record<string, Figures>>
  byJourney: Readonly<Record<string, Figures>>
  timeline: readonly Second[]
  generator: { late99Ms: number; tooLate: number; waited: number; busy: number }
}

export interface Figures {
  count: number
  /** Answers in a second, failures included. */
  rate: number
  /** Share of requests that failed. */
  failing: number
  failures: Readonly<Record<string, number>>
  mean: number
  p50: number
  p95: number
  p99: number
  max: number
}

export function summaryOf(result: LoadResult): Summary {
  const { journeys, seconds, routes, byJourney, all, timeline, generator } = result
  const figures = (one: RouteResult) => figuresOf(one, seconds)
  const each = (results: ReadonlyMap<string, RouteResult>) =>
    Object.fromEntries(
      [...results].map(([name, one]) => [name, figures(one)] as const).sort(([a], [b]) => (a < b ? -1 : 1)),
    )
  const { late, tooLate, waited, busy } = generator
  return {
    ...{ journeys, seconds, all: figures(all), routes: each(routes), byJourney: each(byJourney), timeline },
    generator: { late99Ms: late.at(0.99), tooLate, waited, busy },
  }
}

function figuresOf({ latency, failures }: RouteResult, seconds: number): Figures {
  const failed = Object.values(failures).reduce((sum, one) => sum + one, 0)
  return {
    count: latency.count,
    rate: latency.count / seconds,
    failing: latency.count === 0 ? 0 : failed / latency.count,
    failures,
    ...quantiles(latency),
  }
}

function quantiles(latency: Histogram): Pick<Figures, 'mean' | 'p50' | 'p95' | 'p99' | 'max'> {
  if (latency.count === 0) return { mean: 0, p50: 0, p95: 0, p99: 0, max: 0 }
  return { mean: latency.mean, p50: latency.at(0.5), p95: latency.at(0.95), p99: latency.at(0.99), max: latency.max }
}
