import { channel } from 'node:diagnostics_channel'
import type { Database } from '../data/contract.ts'
import type { Held } from './contract.ts'

/** What became of a request with a key: `IdempotencyDone`. */
export const idempotencyDone = channel('rung:idempotency')
/** A moment of a record's life has come: `{ at, held }`. For tests that end the process there. */
export const idempotencyMoment = channel('rung:idempotency-moment')

export interface IdempotencyDone {
  readonly database: Database
  /** `first`: nobody had this key. `resumed`: a try before it had committed steps. `lost`: taken over before the answer. `upkeep-failed`: for alerts. */
  readonly outcome: 'first' | 'resumed' | 'replayed' | 'in-flight' | 'other-payload' | 'lost' | 'upkeep-failed'
  readonly error?: unknown
}

export type Moment = 'reserved' | 'before-commit' | 'committed' | 'before-finish' | 'finished'

export function tellMoment(at: Moment, held: Held): void {
  if (idempotencyMoment.hasSubscribers) idempotencyMoment.publish({ at, held })
}
