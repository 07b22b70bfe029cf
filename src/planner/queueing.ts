/** Something that requests queue for: the processes of a kind, the cores of a server, the connections of a pool. */
export interface Station {
  name: string
  servers: number
  /** How long a request keeps one of them busy, in ms. */
  serviceMs: number
  /** Squared coefficient of variation of that time: 0 if all requests take the same, 1 if they vary like waiting for a bus. */
  variability: number
  /**
   * What of it a request sees. `all`: waiting and service. `wait` (a pool, a machine), `service`: the other one is counted by another station.
   * `none`: no request waits for it (workers).
   */
  seen: 'all' | 'wait' | 'service' | 'none'
}

export interface Objective {
  /** 95 of 100 requests are answered within this time. */
  p95Ms?: number
  /** At most this share of requests fails. */
  failing: number
}

/**
 * Returns the probability that a request has to wait, where `load` servers of `servers` are busy on average.
 * Source: A. K. Erlang, 1917, by the recursion of his formula B; Kleinrock, Queueing Systems I, equation 3.43.
 */
export function erlangC(servers: number, load: number): number {
  if (load >= servers) return 1
  let lost = 1
  for (let count = 1; count <= servers; count += 1) lost = (load * lost) / (count + load * lost)
  return (servers * lost) / (servers - load * (1 - lost))
}

/** Returns the rate per second at which a station has no time left. Utilisation law: Lazowska et al., Quantitative System Performance, 3.3. */
export function rateMaxOf({ servers, serviceMs }: Pick<Station, 'servers' | 'serviceMs'>): number {
  return serviceMs > 0 ? (1_000 * servers) / serviceMs : Number.POSITIVE_INFINITY
}

/**
 * Returns mean and variance of the ms that a request spends at a station, with arrivals that are independent of each other.
 *
 * The wait is that of M/M/c: with probability C (Erlang) it is exponential. Its mean is stretched by (1 + variability) / 2 for service times of any kind.
 * Source: A. O. Allen, Probability, Statistics and Queueing Theory, the Allen-Cunneen approximation of M/G/c; exact for M/M/c, and for M/G/1
 * (Pollaczek-Khinchine) in its mean.
 */
function timeAt(
  { servers, serviceMs, variability, seen }: Station,
  perSecond: number,
): { mean: number; variance: number } {
  if (seen === 'none' || serviceMs === 0) return { mean: 0, variance: 0 }
  const load = (perSecond / 1_000) * serviceMs
  const waits = erlangC(servers, load)
  const waitMs = ((serviceMs / (servers - load)) * (1 + variability)) / 2
  const service = seen === 'wait' ? 0 : 1
  const waiting = seen === 'service' ? 0 : 1
  return {
    mean: service * serviceMs + waiting * waits * waitMs,
    variance: service * variability * serviceMs ** 2 + waiting * waits * (2 - waits) * waitMs ** 2,
  }
}

/** Standard normal quantile of 0.95. */
const z95 = 1.6449

/**
 * Returns the 95th percentile of the response time in ms; infinite where a station has no time left.
 *
 * The times at the stations are taken as independent, as they are in a Jackson network, so that means and variances add up. Their sum is taken as a
 * gamma distribution, which is exact for one M/M/1. Its quantile: Wilson and Hilferty, "The distribution of chi-square", 1931, 1 % off at M/M/1.
 */
export function p95Of(stations: readonly Station[], perSecond: number, fixedMs = 0): number {
  if (stations.some((one) => perSecond >= rateMaxOf(one))) return Number.POSITIVE_INFINITY
  let [mean, variance] = [0, 0]
  for (const station of stations) {
    const time = timeAt(station, perSecond)
    mean += time.mean
    variance += time.variance
  }
  if (mean === 0 || variance === 0) return fixedMs + mean
  const shape = mean ** 2 / variance
  return fixedMs + mean * Math.max(0, 1 - 1 / (9 * shape) + z95 / (3 * Math.sqrt(shape))) ** 3
}

/**
 * Returns whether the objective holds at a rate per second. What exceeds the capacity fails, so the share that may fail is the share that may exceed it, if
 * no time is asked for.
 */
export function holdsAt(
  stations: readonly Station[],
  rate: number,
  { p95Ms, failing }: Objective,
  fixedMs = 0,
): boolean {
  if (p95Ms !== undefined) return p95Of(stations, rate, fixedMs) <= p95Ms
  return rate * (1 - failing) <= capacityOfAll(stations)
}

const capacityOfAll = (stations: readonly Station[]) => Math.min(...stations.map(rateMaxOf))

/** Returns the highest rate per second at which the objective holds; 0 if it holds at none. */
export function ceilingOf(stations: readonly Station[], objective: Objective, fixedMs = 0): number {
  const capacity = capacityOfAll(stations)
  if (objective.p95Ms === undefined) return capacity / (1 - objective.failing)
  let [held, broken] = [0, capacity]
  // Halved 30 times it is exact to a billionth.
  for (let step = 0; step < 30; step += 1) {
    const rate = (held + broken) / 2
    if (holdsAt(stations, rate, objective, fixedMs)) held = rate
    else broken = rate
  }
  return held < capacity / 1e6 ? 0 : held
}
