/**
 * The service demand of each part: the CPU time that one journey costs it. By the utilisation law a part is busy for `rate · demand` of its cores,
 * so demands tell what a rate will need, and which part will be used up first.
 * Source: Lazowska et al., Quantitative System Performance, chapter 3.
 */
export interface Demands {
  /** ISO time. */
  at: string
  rung: string
  build?: string
  /** Cores of the machine. */
  cores: number
  scenario: string
  /** CPU ms of each part for one journey, by journey and part. */
  journeys: Readonly<Record<string, Demand>>
  /** The same for one request, by route. An estimate where a journey asks several routes: see `demandsOfRoutes`. */
  routes: Readonly<Record<string, Demand>>
}

/** CPU ms, by part. */
export type Demand = Readonly<Record<string, number>>

/** Journeys of one kind that were measured alone. */
export interface MeasuredJourney {
  journeys: number
  /** Of one journey. */
  demand: Demand
  /** By route: how many requests, and how long one took on average, in ms. */
  routes: Readonly<Record<string, { count: number; mean: number }>>
}

interface Used {
  seconds: number
  parts: readonly { name: string; cores: number }[]
}

/**
 * Returns the CPU ms that each part used for one journey. What the parts use without load is taken off. Processes of one kind (web-1, web-2)
 * are one part. Pure.
 */
export function demandOf(used: Used, idle: Used, journeys: number): Demand {
  const sums = new Map<string, number>()
  for (const { name, cores } of used.parts) {
    const atRest = idle.parts.find((one) => one.name === name)?.cores ?? 0
    const kind = name.replace(/-\d+$/, '')
    sums.set(kind, (sums.get(kind) ?? 0) + Math.max(0, cores - atRest) * used.seconds * 1_000)
  }
  return Object.fromEntries([...sums].map(([name, ms]) => [name, toMicroseconds(ms / Math.max(1, journeys))]))
}

/**
 * Returns the demand of one request to each route. What a journey costs is divided among its requests by how long they took, which is exact for a
 * journey with one route; where a route is asked in several journeys, their average counts. Pure.
 */
export function demandsOfRoutes(measured: readonly MeasuredJourney[]): Record<string, Demand> {
  const sums = new Map<string, { count: number; ms: Map<string, number> }>()
  for (const { journeys, demand, routes } of measured) {
    const tookMs = Object.values(routes).reduce((sum, { count, mean }) => sum + count * mean, 0)
    for (const [route, { count, mean }] of Object.entries(routes)) {
      const share = tookMs > 0 ? (count * mean) / tookMs : 0
      const sum = sums.get(route) ?? { count: 0, ms: new Map() }
      sums.set(route, { ...sum, count: sum.count + count })
      for (const [part, ms] of Object.entries(demand)) sum.ms.set(part, (sum.ms.get(part) ?? 0) + share * ms * journeys)
    }
  }
  return Object.fromEntries(
    [...sums].map(([route, { count, ms }]) => [
      route,
      Object.fromEntries([...ms].map(([part, all]) => [part, toMicroseconds(all / Math.max(1, count))])),
    ]),
  )
}

const toMicroseconds = (ms: number) => Math.round(1_000 * ms) / 1_000
