import type { Random } from '../kernel/random.ts'

/** A stretch of time with a rate: constant, or with `to` a ramp. Several one after the other are steps. */
export interface Phase {
  seconds: number
  /** Journeys that begin in a second. */
  rate: number
  /** The rate at its end. Default: the same. */
  to?: number
}

/**
 * Yields when journeys begin, in ms since the start of the first phase. An open model: people do not wait for each other, so the times do not
 * depend on the answers.
 * @param random for arrivals that are independent of each other (a Poisson process); without it the distances are even
 */
export function* arrivals(phases: readonly Phase[], random?: Random): Generator<number> {
  /** How many have begun on average. */
  let due = random ? -Math.log(1 - random()) : 1
  let [beganMs, before] = [0, 0]
  for (const phase of phases) {
    const { seconds, rate, to = rate } = phase
    const all = (seconds * (rate + to)) / 2
    for (; due <= before + all; due += random ? -Math.log(1 - random()) : 1)
      yield beganMs + 1_000 * secondsUntil(due - before, phase)
    beganMs += 1_000 * seconds
    before += all
  }
}

/** When so many have begun in a phase: the solution of `rate · t + growth · t² / 2 = count`. */
function secondsUntil(count: number, { seconds, rate, to = rate }: Phase): number {
  const growth = (to - rate) / seconds
  if (growth === 0) return count / rate
  return Math.min(seconds, (2 * count) / (rate + Math.sqrt(Math.max(0, rate * rate + 2 * growth * count))))
}

export function secondsOf(phases: readonly Phase[]): number {
  return phases.reduce((sum, { seconds }) => sum + seconds, 0)
}
