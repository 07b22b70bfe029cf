import { type Line, lineThrough } from '../kernel/line.ts'
import { seededRandom } from '../kernel/random.ts'
import { type Interval, intervalOf, quantile } from './interval.ts'
import { normal } from './usl.ts'
import { percent } from './words.ts'

/** The highest rate of a day, in requests per second. */
export interface DayPeak {
  /** `2026-11-30` */
  day: string
  peak: number
}

/** How the weekly peaks grow. Days are counted since 1970-01-01. */
export interface Trend {
  weeks: number
  /** The share by which they grow from week to week. */
  perWeek: Interval
  /** Returns what the peak of a week that ends on this day is, in each simulation. */
  at(day: number): number[]
  /** Returns the day on which the peak reaches a rate, in each simulation with its own; infinite if it never does. */
  reaches(rates: readonly number[], today: number): number[]
}

/** Or why it is not known yet. */
export interface Unknown {
  unknown: string
}

const weeksMin = 3
/** A week with fewer days may lack the day on which most people come. */
const daysOfWeekMin = 5
const dayMs = 86_400_000
const runs = 500

export const dayOf = (text: string): number => Math.floor(Date.parse(text) / dayMs)
/** No day after 2243: what is written as a date has four digits for the year. */
export const dayText = (day: number): string => new Date(Math.min(day, 100_000) * dayMs).toISOString().slice(0, 10)

/**
 * Finds the trend of daily peaks. Days of a week differ, so a week counts with its highest day, and less than three weeks say nothing of the growth: a
 * Friday is no growth since Monday. Half of the simulations grow by a share each week, half by an amount: nobody knows yet which it is.
 *
 * Each simulation draws slope, level and scatter of a least-squares line as they may be, given the scatter of the weeks.
 * Source: Gelman and Hill, Data Analysis Using Regression, chapter 7. That weeks resemble their neighbours is not taken into account. Pure.
 */
export function trendOf(peaks: readonly DayPeak[], seed = 1): Trend | Unknown {
  const weeks = weeksOf(peaks)
  if (weeks.length < weeksMin) {
    const days = new Set(peaks.map(({ day }) => day)).size
    return {
      unknown: `there are peaks of ${days} ${days === 1 ? 'day' : 'days'}, with ${weeks.length} ${weeks.length === 1 ? 'week' : 'weeks'} of at least ${daysOfWeekMin} days; days of a week differ, so ${weeksMin} weeks are needed`,
    }
  }
  const random = seededRandom(seed)
  const [byAmount, byShare] = [false, true].map((isShare) =>
    lineThrough(weeks.map(({ end, peak }) => ({ x: end / 7, y: isShare ? Math.log(peak) : peak }))),
  ) as [Line, Line]
  const lines = Array.from({ length: runs }, (_, index) => {
    const isShare = index % 2 === 1
    const { slope, level, middle } = drawn(isShare ? byShare : byAmount, random)
    const y = (day: number) => level + slope * (day / 7 - middle)
    return {
      isShare,
      slope,
      at: (day: number) => (isShare ? Math.exp(y(day)) : Math.max(0, y(day))),
      reaches: (rate: number) =>
        slope > 0 ? 7 * (middle + ((isShare ? Math.log(rate) : rate) - level) / slope) : Number.POSITIVE_INFINITY,
    }
  })
  const shares = lines.filter(({ isShare }) => isShare).map(({ slope }) => Math.exp(slope) - 1)
  return {
    weeks: weeks.length,
    perWeek: intervalOf(shares, Math.exp(byShare.slope) - 1, 'measured'),
    at: (day) => lines.map((line) => line.at(day)),
    reaches: (rates, today) =>
      lines.map((line, index) => {
        const rate = rates[index % rates.length]!
        return line.at(today) >= rate ? today : line.reaches(rate)
      }),
  }
}

/** Returns the highest peak of the last seven days. */
export function lastPeakOf(peaks: readonly DayPeak[]): number {
  const last = Math.max(...peaks.map(({ day }) => dayOf(day)))
  return Math.max(...peaks.filter(({ day }) => dayOf(day) > last - 7).map(({ peak }) => peak))
}

/** Weeks are counted back from the last day, so that the last one is whole. */
function weeksOf(peaks: readonly DayPeak[]): { end: number; peak: number }[] {
  const last = Math.max(...peaks.map(({ day }) => dayOf(day)))
  const weeks = new Map<number, Map<number, number>>()
  for (const { day, peak } of peaks) {
    const number = dayOf(day)
    const end = last - 7 * Math.floor((last - number) / 7)
    const days = weeks.get(end) ?? new Map<number, number>()
    weeks.set(end, days.set(number, Math.max(peak, days.get(number) ?? 0)))
  }
  return [...weeks]
    .filter(([, days]) => days.size >= daysOfWeekMin)
    .map(([end, days]) => ({ end, peak: Math.max(...days.values()) }))
    .filter(({ peak }) => peak > 0)
    .sort((a, b) => a.end - b.end)
}

function drawn({ slope, level, middle, count, spread, squares }: Line, random: () => number) {
  const freedom = count - 2
  const chiSquared = Array.from({ length: freedom }, () => normal(random) ** 2).reduce((sum, one) => sum + one, 0)
  const scatter = Math.sqrt(squares / chiSquared)
  return {
    slope: slope + (scatter / Math.sqrt(spread)) * normal(random),
    level: level + (scatter / Math.sqrt(count)) * normal(random),
    middle,
  }
}

/** Days since 1970-01-01. */
export interface Days {
  low: number
  likely: number
  high: number
}

/** A date that may be so many years earlier or later helps nobody to plan. */
const spanYearsMax = 2
/** Nobody knows what grows that long. */
const yearsMax = 10

/** Returns when the ceiling is reached, or why that is not known yet. Pure. */
export function dateOf(trend: Trend | Unknown, ceilings: readonly number[], today: number): Days | Unknown {
  if ('unknown' in trend) return trend
  const days = trend.reaches(ceilings, today)
  const { low, high } = trend.perWeek
  const [first, likely, last] = [0.05, 0.5, 0.95].map((share) => quantile(days, share)) as [number, number, number]
  const growth = `the peaks of ${trend.weeks} weeks grow by ${percent(low)} to ${percent(high)} a week`
  if (first > today + 365 * yearsMax) return { unknown: `${growth}: it is not reached in ${yearsMax} years` }
  if (last === Number.POSITIVE_INFINITY) return { unknown: `${growth}, which cannot be told from no growth` }
  if (last - first > 365 * spanYearsMax)
    return { unknown: `${growth}, so it may be between ${dayText(first)} and ${dayText(last)}` }
  return { low: Math.floor(first), likely: Math.floor(likely), high: Math.floor(last) }
}
