import {
  addCounts,
  addGauges,
  addHistograms,
  type Frame,
  type Gauge,
  type Histogram,
  keyOf,
  type Measured,
  type Series,
  total,
} from './frame.ts'
import { addSketches, type Sketch } from './sketch.ts'

/** What was measured under some labels, over all other ones. */
export interface Group<Value> {
  labels: Readonly<Record<string, string>>
  value: Value
}

/**
 * Returns a counter of some frames, by labels; `node` is one too. Pure.
 * @example counted(slice.frames, 'http_limited_total', ['limit'])
 */
export function counted(frames: readonly Frame[], metric: string, by: readonly string[]): Group<number>[] {
  return grouped(frames, ({ counters }) => counters, metric, by, addCounts)
}

/**
 * Returns a gauge of some frames, by labels. What several processes or series have in common is not added up: `sum / count` is the mean of one. Pure.
 */
export function gauged(frames: readonly Frame[], metric: string, by: readonly string[]): Group<Gauge>[] {
  return grouped(frames, ({ gauges }) => gauges, metric, by, addGauges)
}

/** Returns a histogram of some frames, by labels. Pure. */
export function distributed(frames: readonly Frame[], metric: string, by: readonly string[]): Group<Histogram>[] {
  return grouped(frames, ({ histograms }) => histograms, metric, by, addHistograms)
}

/** Returns a sketch of some frames, by labels: of those that any of them has seen. Pure. */
export function sketched(frames: readonly Frame[], metric: string, by: readonly string[]): Group<Sketch>[] {
  return grouped(frames, ({ sketches = {} }) => sketches, metric, by, addSketches)
}

function grouped<Value>(
  frames: readonly Frame[],
  kind: (measured: Measured) => Series<Value>,
  metric: string,
  by: readonly string[],
  add: (a: Value, b: Value) => Value,
): Group<Value>[] {
  const groups = new Map<string, Group<Value>>()
  for (const frame of frames) {
    for (const [key, value] of Object.entries(kind(frame)[metric] ?? {})) {
      const all = { ...JSON.parse(key), node: frame.node }
      const labels = Object.fromEntries(by.flatMap((name) => (all[name] === undefined ? [] : [[name, all[name]]])))
      const group = keyOf(labels)
      const known = groups.get(group)
      groups.set(group, { labels, value: known ? add(known.value, value) : value })
    }
  }
  return [...groups.values()]
}

/**
 * Returns the value below which a share of all values lies, in the unit of the bounds: even between two bounds, and the last bound for what is
 * above it. `undefined` if there are no values. Pure.
 */
export function quantile(histogram: Histogram, share: number): number | undefined {
  const buckets = Object.entries(histogram.counts).map(([bounds, count]) => {
    const [lower, upper] = bounds.split('..') as [string, string]
    return { lower: Number(lower), upper: upper === '+Inf' ? Number.POSITIVE_INFINITY : Number(upper), count }
  })
  let left = share * total(histogram)
  for (const { lower, upper, count } of buckets.sort((a, b) => a.upper - b.upper)) {
    if (count >= left) return upper === Number.POSITIVE_INFINITY ? lower : lower + ((upper - lower) * left) / count
    left -= count
  }
  return undefined
}
