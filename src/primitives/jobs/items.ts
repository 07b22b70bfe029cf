import type { PositionJson } from '../../kernel/position.ts'
export interface NewItem {
  queue: string
  name: string
  /** JSON. */
  payload: string
  key?: string | undefined
  /** 0 goes first, 2 last. */
  priority: Priority
  delayMs: number
  /** Tries, all in all. */
  attemptsMax: number
  /** No second item of the queue with the same one while the first has not ended. */
  unique?: string | undefined
  /** Keep it for a time after it has ended. */
  keep: boolean
  context: Context
  ref?: Ref | undefined
}

export type Priority = 0 | 1 | 2

/** What comes along from whoever pushed it. */
export interface Context {
  traceparent?: string | undefined
  /** Positions by database: the consumer reads at least what the producer had seen. */
  position?: PositionJson | undefined
}

/** As JSON; nothing for an item that brings nothing along. */
export function contextOf({ context }: { context: Context }): string | null {
  return context.traceparent === undefined && context.position === undefined ? null : JSON.stringify(context)
}

export interface Ref {
  /** Set by the commit. Of the item that was there before, where `unique` found one. */
  id?: number
}

export interface Ask {
  queue: string
  n: number
  /** Items of one key go one at a time, in order. */
  ordered: boolean
  /** Items of one key that may run at once, over all processes. */
  perKeyMax?: number | undefined
  /** Items of the queue that may run at once, over all processes. */
  fleetMax?: number | undefined
}

/** Whether the items of a queue have to do with each other, so that one cannot be claimed without a look at the others. */
export function isGoverned({ ordered, perKeyMax, fleetMax }: Pick<Ask, 'ordered' | 'perKeyMax' | 'fleetMax'>): boolean {
  return ordered || perKeyMax !== undefined || fleetMax !== undefined
}

export interface Held {
  id: number
  token: number
}

export interface Item extends Held {
  queue: string
  name: string
  payload: unknown
  key: string | null
  /** Failed tries before this one. */
  failures: number
  attemptsMax: number
  context: Context | null
  /** How long it could have run already, ms. */
  waitedMs: number
  /** A position that covers the commit which pushed it. */
  place: string
  /** When it was pushed, as the database writes it. */
  pushedAt: string
}

export interface Progress {
  /** 0 … 1. */
  share: number
  note?: string | undefined
}

export interface Report extends Held {
  progress?: Progress | undefined
}

export interface Extended {
  id: number
  /** Somebody asked for its end. */
  cancelled: boolean
}

export type Outcome = Held &
  (
    | { kind: 'done'; progress?: Progress | undefined }
    | { kind: 'cancelled' }
    | { kind: 'retry'; delayMs: number; error: string }
    | { kind: 'dead'; error: string }
    /** Not begun, or not to the end through no fault of its own: back in line, not counted as a try. */
    | { kind: 'release'; delayMs: number; error?: string }
  )

export interface QueueCount {
  queue: string
  waiting: number
  /** Waiting for a later moment. */
  delayed: number
  running: number
  dead: number
  /** Of those that could run now, ms. */
  oldestWaitMs: number
}

export type ItemState = 'waiting' | 'delayed' | 'running' | 'dead' | 'done' | 'cancelled'

export interface Filter {
  ids?: readonly number[] | undefined
  queues?: readonly string[] | undefined
  /** Only deliveries of events, or only jobs. */
  ofEvents?: boolean | undefined
  state?: ItemState | undefined
  limit: number
}

export interface Listed {
  id: number
  queue: string
  name: string
  state: ItemState
  key: string | null
  payload: unknown
  failures: number
  attempts_max: number
  error: string | null
  progress: Progress | null
  worker: string | null
  created_at: Date
  run_at: Date | null
  ended_at: Date | null
}
