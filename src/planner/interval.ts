import type { Random } from '../kernel/random.ts'

/** Where a figure comes from: an app that was watched, the person who asks, or experience with other apps. */
export type Source = 'measured' | 'given' | 'prior'

/** A figure that is not known exactly. All are of the same unit, and `low ≤ likely ≤ high`. */
export interface Interval {
  low: number
  likely: number
  high: number
  from: Source
}

export const given = (value: number): Interval => ({ low: value, likely: value, high: value, from: 'given' })

export const measured = (value: number): Interval => ({ ...given(value), from: 'measured' })

export const prior = (low: number, likely: number, high: number): Interval => ({ low, likely, high, from: 'prior' })

export function scaled({ low, likely, high, from }: Interval, factor: number): Interval {
  return { low: low * factor, likely: likely * factor, high: high * factor, from }
}

/**
 * Draws a value: as often below the likely one as above it, so that what is computed from likely values is in the middle of what is computed from
 * draws. Within each half all ratios are equally likely (log-uniform), as they are for figures that may be several times too small or too large.
 */
export function draw({ low, likely, high }: Interval, random: Random): number {
  const u = 2 * random()
  if (low <= 0) return u < 1 ? low + u * (likely - low) : likely + (u - 1) * (high - likely)
  return u < 1 ? low * (likely / low) ** u : likely * (high / likely) ** (u - 1)
}

/** Returns the interval that nine in ten of the values are in, and the likely value in any case. */
export function intervalOf(values: readonly number[], likely: number, from: Source): Interval {
  return {
    low: Math.min(likely, quantile(values, 0.05)),
    likely,
    high: Math.max(likely, quantile(values, 0.95)),
    from,
  }
}

/** Returns the value below which this share of the values is. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!
}

/** Returns what a figure that follows from several comes from: it is as uncertain as the least certain of them. */
export function sourceOf(intervals: readonly Interval[]): Source {
  const has = (source: Source) => intervals.some(({ from }) => from === source)
  return has('prior') ? 'prior' : has('measured') ? 'measured' : 'given'
}
