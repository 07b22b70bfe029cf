import { lineThrough } from '../kernel/line.ts'
import type { Measured } from './forecast.ts'
import type { Interval } from './interval.ts'

/** One hour of production: cores in use by part, and the rate. */
export interface Sample {
  rate: number
  p95Ms: number
  cores: Readonly<Record<string, number>>
}

/** Fewer requests an hour say nothing of what one of them costs: what runs anyway counts for more. */
const rateMin = 0.05
const samplesMin = 6

/**
 * Returns what one request costs each part, from hours of production. By the utilisation law a part's cores are `idle + rate · demand`: the slope of the
 * line through the hours is the demand, where their rates differ enough to show one. Otherwise it is the ratio in the busiest hours, which also has what
 * the part uses when nobody comes, so it is the upper end in any case. Pure.
 * Source: Lazowska et al., Quantitative System Performance, chapter 3.
 * @returns nothing where too few hours have requests
 */
export function demandFrom(samples: readonly Omit<Sample, 'p95Ms'>[]): Record<string, Interval> | undefined {
  const busy = samples.filter(({ rate }) => rate >= rateMin).sort((a, b) => b.rate - a.rate)
  if (busy.length < samplesMin) return undefined
  const top = busy.slice(0, Math.max(samplesMin, Math.floor(busy.length / 10)))
  const parts = new Set(busy.flatMap(({ cores }) => Object.keys(cores)))
  return Object.fromEntries(
    [...parts].map((part) => {
      const points = busy.map(({ rate, cores }) => ({ x: rate, y: cores[part] ?? 0 }))
      const ratio = (1_000 * sum(top.map(({ cores }) => cores[part] ?? 0))) / sum(top.map(({ rate }) => rate))
      const { slope, fit } = lineThrough(points)
      const isClear = fit >= clearFit && slope > 0
      const likely = isClear ? Math.min(ratio, 1_000 * slope) : ratio
      const isIdle = Math.max(...top.map(({ cores }) => cores[part] ?? 0)) < idleCores
      return [
        part,
        {
          low: Math.min(likely, ratio) * (isIdle ? idleLow : 0.9),
          likely,
          high: Math.max(likely, ratio) * 1.1,
          from: 'measured',
        },
      ]
    }),
  )
}

/**
 * A part that is mostly idle pays more for a request than one that is busy: its code is cold, and what it does for many at once it does for one.
 * Source: Conduit at 1k with 0.15 cores took 1.46 ms of the app's process for a request below a tenth of its limit, and 0.60 ms near the limit.
 */
const idleCores = 0.2
const idleLow = 0.4

/** Share of the scatter that the line explains. */
const clearFit = 0.8

const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0)

/** Returns the calibration in the form that a forecast asks for. Nothing was searched for, so it has no limit of its own. Pure. */
export function calibrated(
  samples: readonly Sample[],
  { counts, cores, nodeCpu, routes }: Pick<Measured, 'counts' | 'cores' | 'routes'> & { nodeCpu?: number },
): Measured | undefined {
  const demand = demandFrom(samples)
  if (!demand) return undefined
  const most = Math.max(...samples.map(({ rate }) => rate))
  return {
    ...{ counts, cores, routes, demand, ...(nodeCpu !== undefined && { nodeCpu }) },
    ...{ sizes: [], others: 0, isOpen: true },
    steps: samples.filter(({ rate }) => rate >= rateMin).map(({ rate, p95Ms }) => ({ rate, p95: p95Ms })),
    limit: { low: most, likely: most, high: most, from: 'measured' },
    objective: { failing: 0.01 },
  }
}
