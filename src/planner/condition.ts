import { nearestOf } from '../kernel/typos.ts'

/** What a decision depends on, by name: `headroom`, `weeks_recorded` … What is not known is not there. */
export type Figures = Readonly<Record<string, number>>

/** The figures that a condition may name, and what they are. */
export const figureNames = {
  headroom: 'share of the capacity that is free in the busiest hour of the last week, 0 to 1',
  days_left: 'days until the ceiling is reached, by the trend',
  hours_recorded: 'hours of the last week in which something was recorded',
  weeks_recorded: 'whole weeks in the record',
  unsteadiness: 'scatter of the weeks around their trend, as a share',
  requests_per_day: 'requests on an average day of the last week',
  monthly_users: 'signed-in users of the last 30 days',
  read_share: 'share of reads in the time of all statements',
  database_share: 'cores that Postgres uses in the busiest hour, as a share of those it may use',
  pool_wait_share: 'share of the time of statements that is spent waiting for a connection',
  service_share: 'share of the time of requests that is spent waiting for other services',
  queue_oldest_seconds: 'longest wait of a job in the last day',
  memory_growth_mb_per_day: 'growth of the memory of the process that grows most',
} as const
export type FigureName = keyof typeof figureNames

interface Comparison {
  figure: FigureName | 'day'
  sign: '<' | '<=' | '>' | '>='
  value: number
}

/**
 * Reads a condition such as `headroom < 0.3 or day >= 2027-03-01`: comparisons with `<`, `<=`, `>` or `>=`, any of which must hold. Pure.
 * @returns nothing if it is none
 */
export function parseCondition(text: string): Comparison[] | undefined {
  const parts = partsOf(text)
  return parts.every((part) => typeof part !== 'string') ? parts : undefined
}

/** Says what of a condition cannot be read, and nothing if all of it can. Pure. */
export function problemIn(text: string): string | undefined {
  return partsOf(text).find((part) => typeof part === 'string')
}

const partsOf = (text: string) => text.split(/\s+or\s+/).map((part) => comparisonIn(part.trim()))

/** @returns the comparison, or why it is none */
function comparisonIn(part: string): Comparison | string {
  const [, figure, sign, value] = /^([a-z_]+)\s*(<=?|>=?)\s*(\S+)$/.exec(part) ?? []
  if (figure === undefined || value === undefined) return `"${part}" is no comparison such as headroom < 0.3`
  if (figure !== 'day' && !Object.hasOwn(figureNames, figure)) {
    const meant = nearestOf(figure, Object.keys(figureNames))
    return `there is no figure ${figure}${meant === undefined ? '' : `; is it ${meant}?`}`
  }
  const number = figure === 'day' ? daysIn(value) : /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN
  if (!Number.isFinite(number))
    return `"${value}" is no ${figure === 'day' ? 'day such as 2027-03-01' : 'number such as 0.3'}`
  return { figure: figure as Comparison['figure'], sign: sign as Comparison['sign'], value: number }
}

/** Days since 1970-01-01; NaN if there is no such day. `Date.parse` alone also reads "5", as a month of 2001. */
function daysIn(value: string): number {
  const ms = /^\d{4}-\d\d-\d\d$/.test(value) ? Date.parse(value) : Number.NaN
  return new Date(ms || 0).toISOString().startsWith(value) ? ms / 86_400_000 : Number.NaN
}

const holds: Readonly<Record<Comparison['sign'], (now: number, value: number) => boolean>> = {
  '<': (now, value) => now < value,
  '<=': (now, value) => now <= value,
  '>': (now, value) => now > value,
  '>=': (now, value) => now >= value,
}

export interface Check {
  /** Whether one of them holds. */
  isTrue: boolean
  /** What each comparison is now, as words: `headroom is 0.71`. */
  now: string[]
}

/** Checks a condition against figures of today; a figure that is not known holds nothing. Pure. @param today days since 1970-01-01 */
export function checkCondition(condition: readonly Comparison[], figures: Figures, today: number): Check {
  const values = condition.map(({ figure, sign, value }) => {
    const now = figure === 'day' ? today : figures[figure]
    const isTrue = now !== undefined && holds[sign](now, value)
    const words = figure === 'day' ? new Date(today * 86_400_000).toISOString().slice(0, 10) : rounded(now)
    return { isTrue, words: `${figure} is ${words}` }
  })
  return { isTrue: values.some(({ isTrue }) => isTrue), now: values.map(({ words }) => words) }
}

function rounded(value: number | undefined): string {
  return value === undefined ? 'not known' : String(Number(value.toPrecision(3)))
}
