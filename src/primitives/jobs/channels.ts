import { channel } from 'node:diagnostics_channel'
import type { Scope } from '../../kernel/scope.ts'
import type { Database } from '../data/contract.ts'
import type { Item, Outcome } from './items.ts'

/** A run begins: `RunBegin`. */
export const runBegin = channel('rung:run-begin')
/** A run has ended, whichever way: `RunDone`. */
export const runDone = channel('rung:run')
/** The queue could not be reached, or something is not as it should be: `Trouble`. */
export const queueTrouble = channel('rung:queue')
/**
 * A moment of a claim's life has come: `{ at, item }`. For tests that end the process there; costs nothing while nobody
 * listens.
 */
export const moment = channel('rung:job-moment')

export interface RunBegin {
  database: Database
  item: Item
  scope: Scope
}

export interface RunDone extends RunBegin {
  kind: 'job' | 'event'
  /** `lost`: its claim had ended before. */
  outcome: Outcome['kind'] | 'lost'
  durationMs: number
  error: unknown
}

export interface Trouble {
  database: Database
  /** `claim-failed`, `settle-failed`, `reaped` … */
  event: string
  error?: unknown
  count?: number
}

export type Moment = 'claimed' | 'before-run' | 'after-run' | 'before-settle' | 'after-settle'

export function tellTrouble(trouble: Trouble): void {
  if (queueTrouble.hasSubscribers) queueTrouble.publish(trouble)
}
