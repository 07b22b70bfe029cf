import type { Topology } from '../topology/topology.ts'
import {
  type Capacity,
  type Check,
  capacityOf,
  checkOf,
  type Headroom,
  headroomOf,
  type Need,
  needsAt,
  type StationCapacity,
} from './capacity.ts'
import { connectionsOf, countsOf, type Measurement, modelOf, partsOf } from './demand.ts'
import { type Interval, intervalOf } from './interval.ts'
import type { Objective } from './queueing.ts'
import { type DayPeak, type Days, dateOf, lastPeakOf, trendOf, type Unknown } from './trend.ts'
import { type Funnel, funnelOf, questionsTo, type RecordedUsers, type Users, usersAt } from './users.ts'
import { fitScaling, type Scaling, type SizePoint } from './usl.ts'

export interface Question {
  topology: Topology
  /** Cores of the machine, or of each machine if the parts are spread. */
  cores: number
  /** Each part has a machine of its own. */
  spread: boolean
  objective: Objective
  users: Users
  /** What was recorded today. Without it the last peak is today's rate. */
  recorded?: RecordedUsers
  measured?: Measured
  /** In any order; none if nothing was recorded. */
  peaks: readonly DayPeak[]
  /** Days since 1970-01-01. */
  today: number
  /** How many times the present rate must be carried; with `event`, on that day. */
  times?: number
  event?: number
  seed?: number
}

export interface Measured extends Measurement {
  /** The limit that was found, in requests per second, and the objective for which it holds. */
  limit: Interval
  objective: Objective
  /** It held at every rate that could be sent. */
  isOpen: boolean
  /** Cores that other programs used meanwhile. */
  others: number
  /** Limits that were found with other numbers of web processes. */
  sizes: readonly SizePoint[]
}

/** The answer. Rates are requests per second, days are counted since 1970-01-01. */
export interface Forecast {
  today: number
  users: Funnel
  /** What is unusual, as sentences. */
  questions: readonly string[]
  objective: Objective
  ceiling: Interval
  p95Ms: number
  concurrentAtCeiling: number
  stations: readonly StationCapacity[]
  headroom?: Headroom
  /** Whether the model would have foreseen what was measured. */
  check?: Check
  scaling: Scaling | Unknown
  /** When the ceiling is reached, and when to begin with what replaces it. */
  date?: Days | Unknown
  begin?: Begin
  times?: { times: number; rate: number; carriedIn: number; needs: readonly Need[] }
  event?: { day: number; rate: Interval; isForecast: boolean; carriedIn: number; begin: Begin; needs: readonly Need[] }
}

export interface Begin {
  from: number
  to: number
}

/** Days that a step takes: to try it on a copy, to buy, to move, and to watch it for some weeks before it is needed. */
export const leadDays = { most: 60, least: 30 }

const beginFor = (day: number): Begin => ({ from: day - leadDays.most, to: day - leadDays.least })

/** Answers what would run, what it carries, and until when. Pure; repeats with the seed. */
export function forecastOf(question: Question): Forecast {
  const { topology, cores, spread, objective, measured, peaks, today, times, event, seed = 1 } = question
  const trend = peaks.length > 0 ? trendOf(peaks, seed) : undefined
  const users = funnelWith(question)
  const rate = users.rate
  const scaling = fitScaling(measured?.sizes ?? [], seed)
  const checked = measured && checkOf(measured, { connections: connectionsOf(topology), objective: measured.objective })
  const parts = partsOf(countsOf(topology), cores, topology.placement.cpu)
  const machineCores = spread ? undefined : cores
  const model = {
    ...modelOf(parts, { connections: connectionsOf(topology), machineCores }, measured),
    ...(!('unknown' in scaling) &&
      measured?.counts.web && { scaling: { law: scaling, measuredWith: measured.counts.web } }),
    fixedMs: checked?.fixedMs ?? 0,
  }
  const { ceiling, p95Ms, stations, ceilings } = capacityOf(model, objective, { seed })
  const date = trend && dateOf(trend, ceilings, today)
  return {
    ...{ today, users, objective, ceiling, p95Ms, scaling },
    // What costs nothing is part of another one: the worker of a measurement at 1k.
    stations: stations.filter(({ demandMs }) => demandMs.likely > 0),
    questions: questionsTo(question.users, question.recorded),
    concurrentAtCeiling: usersAt(ceiling.likely, users),
    ...(rate && { headroom: headroomOf(rate, ceiling) }),
    ...(checked && !measured.isOpen && { check: checked.check }),
    ...(date && { date }),
    ...(date && !('unknown' in date) && { begin: beginFor(date.low) }),
    ...(rate &&
      times !== undefined &&
      event === undefined && {
        times: {
          ...{ times, rate: rate.likely * times },
          carriedIn: shareOf(ceilings, (one) => one >= rate.likely * times),
          needs: needsAt(model, objective, rate.likely, times),
        },
      }),
    ...(rate && event !== undefined && { event: eventOn(event) }),
  }

  function eventOn(day: number): NonNullable<Forecast['event']> {
    const known = trend && !('unknown' in trend) ? trend : undefined
    const rates = (known?.at(day) ?? [rate!.likely]).map((one) => one * (times ?? 1))
    const then = intervalOf(rates, known ? middle(rates) : rates[0]!, known ? 'measured' : rate!.from)
    return {
      ...{ day, rate: then, isForecast: known !== undefined, begin: beginFor(day) },
      carriedIn: shareOf(ceilings, (one, index) => one >= rates[index % rates.length]!),
      needs: needsAt(model, objective, rate!.likely, then.likely / rate!.likely),
    }
  }
}

/** The rate that was recorded counts, unless one is given. */
function funnelWith({ users, recorded, peaks }: Question): Funnel {
  const funnel = funnelOf(users, recorded)
  if (recorded || users.rate !== undefined || peaks.length === 0) return funnel
  const peak = lastPeakOf(peaks)
  return { ...funnel, rate: { low: peak, likely: peak, high: peak, from: 'measured' } }
}

const middle = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

function shareOf(values: Capacity['ceilings'], test: (value: number, index: number) => boolean): number {
  return values.filter(test).length / values.length
}
