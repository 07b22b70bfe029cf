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
  /** How many of each part ran, and the CPU quota in cores of each process of the app. */
  counts: Readonly<Record<string, number>>
  nodeCpu?: number
  mix: Mix
  limit: KeptLimit
  /** Limits of the same scenario that were found before, with other numbers of web processes. */
  earlier: readonly KeptLimit[]
  /** In journeys per second. */
  steps: readonly { rate: number; p95: number; failing: number; held: boolean }[]
}

/** In journeys per second, and for which objective. */
export interface KeptLimit {
  at: string
  rung: string
  build?: string
  nodeCpu?: number
  /** Processes that answer requests. */
  web: number
  rate: number
  least: number
  most: number
  isOpen: boolean
  p95Ms?: number
  failing: number
  /** Requests of one journey. */
  requests: number
  /** What was used up first; `undefined` if nothing that is measured was. */
  first?: string
}

/** The journeys together, as they came near the limit. */
export interface Mix {
  /** Requests to each route, and CPU ms of each part, for one journey. */
  requests: Readonly<Record<string, number>>
  demand: Readonly<Record<string, { low: number; likely: number; high: number }>>
  /** Cores that other programs of the machine used: the generator among them. */
  others: number
}

/** One step of a search for the limit. */
export interface Look {
  journeys: number
  used: Used & { machine: { cores: number } }
  routes: Readonly<Record<string, { count: number }>>
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

/** Processes of one kind (web-1, web-2) are one part, and so are the replicas (postgres-2, postgres-3). */
export function kindOf(name: string): string {
  return /^postgres-\d+$/.test(name) ? 'replica' : name.replace(/-\d+$/, '')
}

/** Returns how many there are of each kind. */
export function countsOfKinds(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const kind of names.map(kindOf)) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}

/**
 * Returns the CPU ms that each part used for one journey. What the parts use without load is taken off. Pure.
 */
export function demandOf(used: Used, idle: Used, journeys: number): Demand {
  const sums = new Map<string, number>()
  for (const { name, cores } of used.parts) {
    const atRest = idle.parts.find((one) => one.name === name)?.cores ?? 0
    const kind = kindOf(name)
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

/** So many steps show how much the costs vary. */
const looksMin = 5
/** Journeys that run alone, one after the other, cost less than those that come at random: 0.37 ms against 0.90 ms of Conduit at `1k`. */
const alone = { low: 0.8, high: 2.5 }

/**
 * Returns what one journey of the mix asks and costs: a tenth of the steps cost less than `low`, and a tenth more than `high`. Where there are too few, as with an
 * app that was never full, it is what the routes cost alone. Pure.
 */
export function mixOf(looks: readonly Look[], idle: Used, ofRoutes: Demands['routes'] = {}): Mix {
  const journeys = looks.reduce((sum, one) => sum + one.journeys, 0)
  const counts = new Map<string, number>()
  for (const { routes } of looks)
    for (const [route, { count }] of Object.entries(routes)) counts.set(route, (counts.get(route) ?? 0) + count)
  const demands = looks.map(({ used, journeys }) => demandOf(used, idle, journeys))
  const at = (values: readonly number[], share: number) =>
    values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))]!
  const requests = Object.fromEntries([...counts].map(([route, count]) => [route, count / Math.max(1, journeys)]))
  function demandOfPart(part: string) {
    if (looks.length >= looksMin) {
      const ms = demands.map((one) => one[part] ?? 0)
      return { low: at(ms, 0.1), likely: at(ms, 0.5), high: at(ms, 0.9) }
    }
    const likely = Object.entries(requests).reduce(
      (sum, [route, count]) => sum + count * (ofRoutes[route]?.[part] ?? 0),
      0,
    )
    return { low: alone.low * likely, likely, high: alone.high * likely }
  }
  return {
    requests,
    demand: Object.fromEntries(Object.keys(demands[0] ?? {}).map((part) => [part, demandOfPart(part)])),
    others: at(
      looks.map(({ used }) => Math.max(0, used.machine.cores - used.parts.reduce((sum, { cores }) => sum + cores, 0))),
      0.5,
    ),
  }
}

const toMicroseconds = (ms: number) => Math.round(1_000 * ms) / 1_000
