/**
 * Durations, counted in buckets that grow with the value: 128 to each power of two, so that a value read back is at most 0.8 % off. From 1 µs to 35
 * minutes. A sum of histograms is what one histogram of all values would be; averages of percentiles are not.
 * Source of the layout: Gil Tene, HdrHistogram.
 */
export interface Histogram {
  /** Counts a duration in ms. */
  add(ms: number): void
  merge(other: HistogramJson): void
  readonly count: number
  /** Returns the duration in ms that this share of all durations does not exceed: `at(0.99)`. `NaN` without any. */
  at(share: number): number
  /** Exact. */
  readonly max: number
  readonly mean: number
  toJson(): HistogramJson
}

/** Plain data, which may cross to another thread or be kept in a file. */
export interface HistogramJson {
  /** Buckets that are not empty: number and count, in turn. */
  counts: readonly number[]
  max: number
  sum: number
}

const bits = 7
const perOctave = 1 << bits
const valueMax = 2 ** 31 - 1
export const bucketCount = (31 - bits + 1) * perOctave

export function createHistogram(from?: HistogramJson): Histogram {
  const counts: number[] = []
  let [count, max, sum] = [0, 0, 0]
  const histogram: Histogram = {
    add(ms) {
      const bucket = bucketOf(ms)
      counts[bucket] = (counts[bucket] ?? 0) + 1
      count += 1
      sum += ms
      if (ms > max) max = ms
    },
    merge(other) {
      for (let n = 0; n < other.counts.length; n += 2) {
        const [bucket, more] = [other.counts[n]!, other.counts[n + 1]!]
        counts[bucket] = (counts[bucket] ?? 0) + more
        count += more
      }
      sum += other.sum
      max = Math.max(max, other.max)
    },
    get count() {
      return count
    },
    get max() {
      return max
    },
    get mean() {
      return sum / count
    },
    at(share) {
      const wanted = Math.max(1, Math.ceil(share * count))
      let below = 0
      for (let bucket = 0; bucket < counts.length; bucket += 1) {
        below += counts[bucket] ?? 0
        if (below >= wanted) return Math.min(max, middleOf(bucket) / 1_000)
      }
      return Number.NaN
    },
    toJson() {
      return { counts: counts.flatMap((n, bucket) => (n > 0 ? [bucket, n] : [])), max, sum }
    },
  }
  if (from) histogram.merge(from)
  return histogram
}

/** Returns the bucket of a duration in ms: below 256 µs one for each value, then 128 for each doubling. */
export function bucketOf(ms: number): number {
  const value = Math.max(0, Math.min(valueMax, Math.round(ms * 1_000)))
  const shift = Math.max(0, 31 - Math.clz32(value) - bits)
  return shift * perOctave + (value >>> shift)
}

function middleOf(bucket: number): number {
  const shift = Math.max(0, (bucket >>> bits) - 1)
  const value = bucket - shift * perOctave
  return (value + (shift === 0 ? 0 : 0.5)) * 2 ** shift
}
