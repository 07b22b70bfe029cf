import type { Span } from './cost.ts'

export const kinds = {
  index: 'an index',
  query: 'a query',
  route: 'a cached route',
  pool: 'the size of a pool',
  queue: 'the limits of a queue',
  processes: 'more processes',
  machine: 'a larger machine',
  database: 'a machine or a service for the database',
  replica: 'a replica',
  group: 'a group of modules',
  rung: 'a rung',
  service: 'another service',
  memory: 'a leak of memory',
  doctor: 'something else in the database',
} as const
export type Kind = keyof typeof kinds

/** As rules make it: when to look again is theirs to say only where nothing is done. */
export type Draft = Omit<Finding, 'revisitWhen'> & { revisitWhen?: string }

/** Something to do, or to leave. All texts are whole sentences. */
export interface Finding {
  kind: Kind
  verdict: 'now' | 'not yet'
  /** What to do, or what not to do yet. */
  what: string
  /** The figures, and their window. */
  seen: string
  /** Why that means what `what` says. */
  rule: string
  gain: string
  /** Dollars a month, and days of work; `null`: there is no price for it. */
  cost: { money: Span | null; days: Span }
  /** Exactly what to run or to write, and how to take it back. */
  change: string
  undo: string
  /** When to look again: a condition that `parseCondition` reads. */
  revisitWhen: string
  /** Upper bound of the share of request time or capacity that it frees, 0 to 1. */
  gainShare: number
  /** What it takes off a part, as a share of the part's work. */
  relief?: { of: 'database' | 'all'; share: number }
}
