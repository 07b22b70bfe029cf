import { seededRandom } from '../kernel/random.ts'
import { type Measurement, type Model, modelOf, oneThread, partsOf, stationsOf } from './demand.ts'
import { draw, type Interval, intervalOf, type Source, sourceOf } from './interval.ts'
import { ceilingOf, holdsAt, type Objective, p95Of, rateMaxOf, type Station } from './queueing.ts'

/** What a deployment carries. Rates are requests per second. */
export interface Capacity {
  /** The highest rate at which the objective holds. */
  ceiling: Interval
  /** At the ceiling, in the likely case. */
  p95Ms: number
  stations: readonly StationCapacity[]
  /** The ceiling of each simulation. */
  ceilings: readonly number[]
}

export interface StationCapacity {
  name: string
  /** Cores, or connections of the pools. */
  has: number
  /** What one request costs it: CPU ms, or ms of a connection. */
  demandMs: Interval
  /** The rate at which it has no time left. */
  rateMax: Interval
  /** Share of the simulations in which it is the first to have no time left. */
  first: number
}

const runs = 500

const likely = (interval: Interval) => interval.likely

/** Finds the ceiling, and what sets it, with values drawn from all intervals. Repeats with the seed. Pure. */
export function capacityOf(model: Model, objective: Objective, { seed = 1 }: { seed?: number } = {}): Capacity {
  const random = seededRandom(seed)
  const found = stationsOf(model, likely)
  const drawn = Array.from({ length: runs }, () => stationsOf(model, (interval) => draw(interval, random)))
  const ceilings = drawn.map((stations) => ceilingOf(stations, objective, model.fixedMs))
  const firsts = drawn.map((stations) => firstOf(stations).name)
  const rate = ceilingOf(found, objective, model.fixedMs)
  return {
    ceiling: intervalOf(ceilings, rate, sourceOf(Object.values(model.demand))),
    p95Ms: p95Of(found, rate, model.fixedMs),
    stations: found.map((station, index) => ({
      name: station.name,
      has: coresOf(model, station),
      demandMs: intervalOf(
        drawn.map((all) => ofCore(model, all[index]!)),
        ofCore(model, station),
        sourceOfStation(model, station.name),
      ),
      rateMax: intervalOf(
        drawn.map((all) => rateMaxOf(all[index]!)),
        rateMaxOf(station),
        sourceOfStation(model, station.name),
      ),
      first: firsts.filter((name) => name === station.name).length / runs,
    })),
    ceilings,
  }
}

/** Returns the station that has the least time left at any rate. */
function firstOf(stations: readonly Station[]): Station {
  return stations.reduce((least, one) => (rateMaxOf(one) < rateMaxOf(least) ? one : least))
}

function coresOf({ parts, machineCores }: Model, { name, servers }: Station): number {
  if (name === 'machine') return machineCores!
  const part = parts.find((one) => one.name === name)
  return part ? part.count * part.coresEach : servers
}

/** A server that has half a core takes twice as long: this is the time of a whole core. */
function ofCore(model: Model, station: Station): number {
  return (station.serviceMs * coresOf(model, station)) / station.servers
}

function sourceOfStation({ demand }: Model, name: string): Source {
  if (name === 'pools') return 'prior'
  return name === 'machine' ? sourceOf(Object.values(demand)) : demand[name]!.from
}

/** How much of the capacity is free, and how much the rate may grow: 300 of 500 leave 40 % free, and 67 % to grow. */
export interface Headroom {
  free: Interval
  growth: Interval
}

export function headroomOf(rate: Interval, ceiling: Interval): Headroom {
  const from = sourceOf([rate, ceiling])
  const of = (share: (rate: number, ceiling: number) => number): Interval => ({
    ...{ low: share(rate.high, ceiling.low), likely: share(rate.likely, ceiling.likely) },
    ...{ high: share(rate.low, ceiling.high), from },
  })
  return { free: of((now, most) => 1 - now / most), growth: of((now, most) => most / now - 1) }
}

/** What one part needs for a rate. */
export interface Need {
  name: string
  /** The rate at which it has no time left, as a multiple of the present rate. */
  usedUpAt: number
  has: number
  /** Processes, replicas, cores or connections; `undefined`: there is no number that is enough. */
  needs: number | undefined
  unit: 'processes' | 'replicas' | 'cores' | 'connections'
}

/** More of these are started; the others get more cores. */
const counted: Readonly<Record<string, Need['unit']>> = {
  web: 'processes',
  worker: 'processes',
  redis: 'processes',
  replica: 'replicas',
}
/** One process with one thread: it gets neither. */
const fixed = new Set(['app', 'pooler'])
const growthsMax = 2_000

/**
 * Returns what the parts need so that the objective holds at `times` the rate, in the likely case, in the order in which they are used up. Whatever is
 * used most gets more until it holds. Pure.
 */
export function needsAt(model: Model, objective: Objective, rate: number, times: number): Need[] {
  const wanted = rate * times
  const before = stationsOf(model, likely)
  if (ceilingOf(before, objective, model.fixedMs) === 0) return []
  let grown = model
  const stuck = new Set<string>()
  for (let step = 0; step < growthsMax; step += 1) {
    const stations = stationsOf(grown, likely).filter(({ name }) => !stuck.has(name))
    if (stations.length === 0 || holdsAt(stations, wanted, objective, model.fixedMs)) break
    const growing = firstOf(stations)
    const next = fixed.has(growing.name) ? undefined : withMore(grown, growing.name)
    const after = next && stationsOf(next, likely).find(({ name }) => name === growing.name)
    // Contention and coherency: beyond the peak a further process makes it worse.
    if (!next || rateMaxOf(after!) <= rateMaxOf(growing)) stuck.add(growing.name)
    else grown = next
  }
  return before
    .map((station): Need => {
      const { name } = station
      const unit = name === 'pools' ? 'connections' : (counted[name] ?? (fixed.has(name) ? 'processes' : 'cores'))
      const size = (of: Model) => sizeOf(of, name, unit)
      const isEnough = !stuck.has(name) || rateMaxOf(station) > wanted
      return {
        name,
        usedUpAt: rateMaxOf(station) / rate,
        has: size(model),
        needs: isEnough ? size(grown) : undefined,
        unit,
      }
    })
    .filter(({ usedUpAt }) => Number.isFinite(usedUpAt))
    .sort((a, b) => a.usedUpAt - b.usedUpAt)
}

function sizeOf({ parts, machineCores, connections }: Model, name: string, unit: Need['unit']): number {
  if (unit === 'connections') return connections
  if (name === 'machine') return machineCores!
  const { count, coresEach } = parts.find((one) => one.name === name)!
  return unit === 'cores' ? count * coresEach : count
}

/** A twentieth more, and at least one. */
const more = (size: number) => size + Math.max(1, Math.floor(size / 20))

function withMore(model: Model, name: string): Model {
  if (name === 'pools') return { ...model, connections: more(model.connections) }
  if (name === 'machine') {
    const machineCores = more(model.machineCores!)
    // What runs on it with threads for all cores has them.
    const parts = model.parts.map((one) => (oneThread.has(one.name) ? one : { ...one, coresEach: machineCores }))
    return { ...model, machineCores, parts }
  }
  const parts = model.parts.map((one) => {
    if (one.name !== name) return one
    return name in counted ? { ...one, count: more(one.count) } : { ...one, coresEach: more(one.coresEach) }
  })
  return { ...model, parts }
}

/** A forecast of the load test itself, to be compared with what it found. */
export interface Check {
  predicted: Interval
  measured: Interval
}

/**
 * Returns what the model says of the deployment that was measured, and the ms that requests wait there for what no station explains: the median at
 * the rates up to half the limit, where queues are short. Pure.
 * @param others cores that other programs used, the generator among them
 */
export function checkOf(
  measured: Measurement & { limit: Interval; others: number },
  { connections, objective }: { connections: number; objective: Objective },
): { check: Check; fixedMs: number } {
  const { counts, cores, nodeCpu, steps, limit, others } = measured
  const model = modelOf(
    partsOf(counts, cores, nodeCpu),
    { connections, machineCores: Math.max(0.1, cores - others) },
    measured,
  )
  const stations = stationsOf(model, likely)
  const calm = steps
    .filter(({ rate }) => rate <= limit.likely / 2)
    .map(({ rate, p95 }) => p95 - p95Of(stations, rate))
    .filter(Number.isFinite)
    .sort((a, b) => a - b)
  const fixedMs = Math.max(0, calm[Math.floor(calm.length / 2)] ?? 0)
  return { check: { predicted: capacityOf({ ...model, fixedMs }, objective).ceiling, measured: limit }, fixedMs }
}
