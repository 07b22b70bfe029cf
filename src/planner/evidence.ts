import { lineThrough } from '../kernel/line.ts'
import type { RungName, Topology } from '../topology/topology.ts'
import type { Figures } from './condition.ts'
import type { Span } from './cost.ts'
import type { ModuleFacts } from './extraction.ts'
import type { Forecast } from './forecast.ts'
import type { Size } from './prices.ts'
import type { DayPeak } from './trend.ts'

/** Hours of the record before it says anything about a day. */
export const hoursMin = 24

/** All that advice is given from. What is not known is left out. */
export interface Evidence {
  /** Days since 1970-01-01. */
  today: number
  topology: Topology
  /** Cores of the machine, or of each if the parts are spread. */
  cores: number
  spread: boolean
  /** The last seven days of the record. */
  window: { hours: number; requests: number }
  routes: readonly RouteUse[]
  /** Those that took the most time. */
  statements: readonly StatementUse[]
  /** Seconds of all statements, by what they did; the cores that Postgres used at most in an hour, where that was measured. */
  database: { readSeconds: number; writeSeconds: number; coresMost?: number }
  pools: readonly PoolUse[]
  processes: readonly ProcessUse[]
  services: readonly ServiceUse[]
  queues: readonly QueueUse[]
  /** Requests to the cache, by module. */
  cache: readonly { module: string; requests: number; hits: number }[]
  /** Of those that have done anything. */
  modules: readonly ModuleFacts[]
  peaks: readonly DayPeak[]
  /** Whole weeks, the oldest first; users are 0 where nobody signs in. */
  weeks: readonly { requests: number; users: number }[]
  monthlyUsers?: number
  forecast?: Forecast
  /** The p95 without any queue, if it breaks the objective by itself; the forecast leaves that wait out. */
  leastP95Ms?: number
  doctor: readonly Diagnosis[]
  prices?: Prices
}

/** What a step costs more than what runs now, dollars a month; without a price there is none. */
export interface Prices {
  larger?: { size: Size; more: Span }
  replica?: Span
  /** A server, or a service, for the database alone. */
  database?: Span
  worker?: Span
  /** The lowest rung that carries twice the rate, with so many web processes. */
  rung?: { rung: RungName; web?: number; more?: Span }
}

export interface RouteUse {
  /** `GET /articles/:slug` */
  route: string
  module: string
  requests: number
  /** Of all its requests, added up. */
  seconds: number
  p95Ms: number
}

export interface StatementUse {
  text: string
  calls: number
  seconds: number
}

export interface PoolUse {
  target: 'read' | 'write'
  /** Of one process. */
  max: number
  waits: number
  waitSeconds: number
  /** 95th percentile of waits, in ms. */
  waitMs95: number
}

/** A process in the hours in which it ran. */
export interface ProcessUse {
  node: string
  role: string
  loopMost: number
  /** Of each hour, the oldest first. */
  memoryBytes: readonly number[]
  /** Of the same hours: requests of all processes. */
  requests: readonly number[]
}

export interface ServiceUse {
  service: string
  calls: number
  seconds: number
  p95Ms: number
  failures: number
}

export interface QueueUse {
  queue: string
  /** Of each hour of the last day, the oldest first. */
  waiting: readonly number[]
  oldestSecondsMost: number
  /** Of the same day. */
  done: number
  failed: number
  seconds: number
}

/** A finding of `rung doctor`. */
export interface Diagnosis {
  kind: string
  severity: string
  what: string
  evidence: Readonly<Record<string, number | string>>
  gain: string
  sql: string
  undo: string
  statement?: string
  table?: string
  migration?: string
}

const successive = (values: readonly number[]) => values.map((y, x) => ({ x, y }))

/** Scatter of the weeks around the line through them, as a share of their mean; nothing for less than four. Pure. */
export function unsteadinessOf(weeks: readonly number[]): number | undefined {
  if (weeks.length < 4) return undefined
  const { level: mean, squares, count } = lineThrough(successive(weeks))
  return mean === 0 ? undefined : Math.sqrt(squares / (count - 2)) / mean
}

const last8 = <T>(values: readonly T[]) => values.slice(-8)

/** Returns the figures that a decision may depend on. Pure. */
export function figuresOf(evidence: Evidence): Figures {
  const { window, weeks, database, pools, routes, services, queues, forecast, today } = evidence
  const requestSeconds = routes.reduce((sum, { seconds }) => sum + seconds, 0)
  const statementSeconds = database.readSeconds + database.writeSeconds
  const waitSeconds = pools.reduce((sum, one) => sum + one.waitSeconds, 0)
  const growths = evidence.processes.map(({ memoryBytes }) => growthOf(memoryBytes)?.perHour ?? 0)
  const { date, headroom } = forecast ?? {}
  const all: Record<string, number | undefined> = {
    headroom: headroom?.free.likely,
    days_left: date && !('unknown' in date) ? date.likely - today : undefined,
    hours_recorded: window.hours,
    weeks_recorded: weeks.length,
    unsteadiness: unsteadinessOf(last8(weeks.map(({ requests }) => requests))),
    // Minutes say nothing of a day.
    requests_per_day: window.hours >= hoursMin ? (24 * window.requests) / window.hours : undefined,
    monthly_users: evidence.monthlyUsers,
    read_share: statementSeconds > 0 ? database.readSeconds / statementSeconds : undefined,
    database_share: database.coresMost === undefined ? undefined : database.coresMost / evidence.cores,
    pool_wait_share: statementSeconds > 0 ? waitSeconds / (waitSeconds + statementSeconds) : undefined,
    service_share:
      requestSeconds > 0 ? services.reduce((sum, { seconds }) => sum + seconds, 0) / requestSeconds : undefined,
    queue_oldest_seconds: queues.length > 0 ? Math.max(...queues.map((one) => one.oldestSecondsMost)) : undefined,
    memory_growth_mb_per_day: growths.length > 0 ? (24 * Math.max(...growths)) / 1024 ** 2 : undefined,
  }
  return Object.fromEntries(
    Object.entries(all).filter(
      (entry): entry is [string, number] => entry[1] !== undefined && Number.isFinite(entry[1]),
    ),
  )
}

export interface Growth {
  /** Bytes. */
  perHour: number
  /** Share of the scatter that the line explains. */
  fit: number
}

/** The line through values of successive hours; nothing for less than six. Pure. */
export function growthOf(values: readonly number[]): Growth | undefined {
  if (values.length < 6) return undefined
  const { slope, fit } = lineThrough(successive(values))
  return { perHour: slope, fit }
}
