import { channel } from 'node:diagnostics_channel'
import type { Database } from '../data/contract.ts'
import type { Holding } from './contract.ts'

/** Tells what became of a request with a key: `IdempotencyDone`. */
export const idempotencyDone = channel('rung:idempotency')
/** Tells the moments of a record's life: `{ at, holding }`. For tests that end the process there. */
export const idempotencyMoment = channel('rung:idempotency-moment')

export interface IdempotencyDone {
  readonly database: Database
  /**
   * `first`: the key was new. `resumed`: an earlier try had committed steps. `lost`: another process took the record over before the answer.
   * `upkeep-failed`: for alerts.
   */
  readonly outcome: 'first' | 'resumed' | 'replayed' | 'in-flight' | 'other-payload' | 'lost' | 'upkeep-failed'
  readonly error?: unknown
}

export type Moment = 'reserved' | 'before-commit' | 'committed' | 'before-finish' | 'finished'

export function tellMoment(at: Moment, holding: Holding): void {
  if (idempotencyMoment.hasSubscribers) idempotencyMoment.publish({ at, holding })
}
