import { type Random, shuffled } from '../kernel/random.ts'
import { short } from './report.ts'

/** What must hold for an answer to count as good service. */
export interface Objective {
  /** 95 of 100 requests are answered within this time. */
  p95Ms?: number
  /** At most this share of requests fails. */
  failing: number
}

/** What one rate of arrivals led to. */
export interface Measured {
  /** Journeys that began in a second. */
  rate: number
  p95: number
  /** Share of requests that failed. */
  failing: number
  /** Share of requests that the app's rate limits refused. */
  limited: number
  /** Answers without a failure, in a second. */
  goodput: number
}

export interface Step extends Measured {
  /** The search first climbs, then repeats rates near the limit in rounds, and ends beyond it. */
  stage: 'climb' | 'round' | 'beyond'
  held: boolean
}

export interface Limit {
  /** The highest rate at which the objective holds: the median of the rounds. */
  rate: number
  /** The lowest and the highest of the rounds. */
  least: number
  most: number
  /** How likely the interval contains the median of all possible rounds. */
  confidence: number
  /** The most answers without a failure in a second, at any rate. */
  throughput: number
  /** It is the highest rate that was tried: the generator could not send more, or the search was ended. */
  isOpen: boolean
  steps: readonly Step[]
}

export interface Search {
  objective: Objective
  /** The first rate. */
  from: number
  rateMax: number
  /** How often each rate near the limit is measured. */
  rounds: number
  random: Random
  /** `undefined`: this rate cannot be generated. */
  measure(rate: number, stage: Step['stage']): Promise<Measured | undefined>
  onStep?(step: Step): void
}

const ratesOfRound = 6
/** The lowest rate of a round, as a share of the highest that held. */
const lowest = 0.85
/** Below a 32nd of the first rate nobody is served. */
const halvingsMax = 5
const beyond = [1.5, 2, 4]

/**
 * Finds the highest rate at which the objective holds. It doubles the rate until it does not, twice in a row (or halves it until it does), then measures rates around the limit in rounds,
 * each in another order, so that whatever else changes with time (caches, a noisy machine) does not look like an effect of the rate.
 *
 * The interval from the lowest to the highest of n rounds contains the median of all possible rounds with a probability of 1 − 2 · 0.5ⁿ, whatever
 * their distribution is. Source: H. A. David, Order Statistics, "distribution-free confidence intervals for quantiles".
 */
export async function findLimit(search: Search): Promise<Limit> {
  const { objective, from, rateMax, rounds, random, onStep = () => {} } = search
  const steps: Step[] = []
  async function measure(rate: number, stage: Step['stage']): Promise<Step | undefined> {
    const measured = await search.measure(rate, stage)
    if (!measured) return undefined
    const step = { ...measured, stage, held: missesOf(measured, objective).length === 0 }
    steps.push(step)
    onStep(step)
    return step
  }

  let held = 0
  let broken: number | undefined
  for (let rate = from; rate <= rateMax && rate >= from / 2 ** halvingsMax; rate *= broken === undefined ? 2 : 0.5) {
    let step = await measure(rate, 'climb')
    // A pause of the machine must not end the climb far below the limit.
    if (step && !step.held) step = await measure(rate, 'climb')
    if (!step) break
    if (step.held) held = rate
    else broken = rate
    if (held > 0 && broken !== undefined) break
  }
  const isOpen = broken === undefined
  if (isOpen) return limitOf(steps, [held], isOpen)
  const low = held > 0 ? held : broken! / 2
  const limits: number[] = []
  const rates = ratesBetween(lowest * low, broken!, ratesOfRound)
  for (let round = 0; round < rounds; round += 1) {
    const held = new Map<number, boolean>()
    for (const one of shuffled(rates, random)) held.set(one, (await measure(one, 'round'))?.held ?? false)
    limits.push(rates[heldUpTo(rates.map((one) => held.get(one)!)) - 1] ?? 0)
  }
  const limit = limitOf(steps, limits, isOpen)
  for (const times of beyond) await measure(times * Math.max(limit.rate, low), 'beyond')
  return limitOf(steps, limits, isOpen)
}

/**
 * Returns up to how many of the rates, in ascending order, the objective holds: where the fewest of them contradict it, the lowest if there are several. So one pause of
 * the machine at a low rate does not decide. Source: least-squares fit of a step, as for a change point. Pure.
 */
export function heldUpTo(held: readonly boolean[]): number {
  const contradictions = (count: number) => held.filter((one, index) => one !== index < count).length
  const counts = Array.from({ length: held.length + 1 }, (_, count) => count)
  return counts.reduce((best, count) => (contradictions(count) < contradictions(best) ? count : best))
}

function limitOf(steps: readonly Step[], rounds: readonly number[], isOpen: boolean): Limit {
  const limits = rounds.toSorted((a, b) => a - b)
  return {
    rate: limits[Math.floor((limits.length - 1) / 2)]!,
    least: limits[0]!,
    most: limits.at(-1)!,
    confidence: Math.max(0, 1 - 2 * 0.5 ** limits.length),
    throughput: Math.max(0, ...steps.map(({ goodput }) => goodput)),
    isOpen,
    steps,
  }
}

/** Returns why an objective was not held, as phrases; none if it was. */
export function missesOf({ p95, failing }: Pick<Measured, 'p95' | 'failing'>, objective: Objective): string[] {
  const { p95Ms = Number.POSITIVE_INFINITY, failing: most } = objective
  return [
    ...(p95 > p95Ms ? [`p95 is ${short(p95)} ms, and at most ${short(p95Ms)} ms are allowed`] : []),
    ...(failing > most ? [`${short(100 * failing)} % of requests failed, and at most ${short(100 * most)} % may`] : []),
  ]
}

/** Returns rates whose neighbours have the same ratio, the first and the last included. */
function ratesBetween(low: number, high: number, count: number): number[] {
  return Array.from({ length: count }, (_, n) => low * (high / low) ** (n / (count - 1)))
}
