import type { Sql } from '../data/sql.ts'

/**
 * What idempotency asks of an adapter: a record for each key, which one process holds at a time. What a key is, which answers are kept
 * and how a handler is repeated is policy above it, in `idempotency.ts` and `steps.ts`.
 *
 * What must hold on every adapter:
 * - of any number of processes that reserve one key, one holds it; the others get its state;
 * - each reservation has a token that no other reservation ever had, even if the record was deleted in between. A change with another
 *   token has no effect, and fails the transaction it rides (a fencing token);
 * - a step is kept when its transaction has committed, and only then. A process that takes a record over gets all steps that have
 *   committed, and the holder before it can add none after that;
 * - an answer is final, and returned to everyone until it expires.
 *
 * A request that writes in further databases has a record in each of them. Who holds it is decided by the main database alone: its token
 * is also the token there, and a higher one takes the record over at once.
 *
 * ```
 *           reserve               finish
 *   (none) ─────────▶ held ─────────────────▶ answered ── expires ──▶ (none)
 *      ▲               │ ▲
 *      └── release ────┤ └── reserve, by another process
 *(no steps, no others) │        │
 *                      └──▶ left: released with steps, or the lease has ended
 * ```
 */
export interface Records {
  reserve(reservation: Reservation): Promise<Reserved>
  /** Notes that the holder is about to write in another database. Returns whether the record was still held. */
  note(holding: Holding, database: string): Promise<boolean>
  /**
   * For a further database: reserves a record under the token that its request has in the main database, whatever lease another holder has.
   * Returns the steps that have committed here, or `undefined` if a higher token has the record.
   */
  reserveUnder(holding: Holding, reservation: Omit<Reservation, 'key'>): Promise<readonly Uint8Array[] | undefined>
  /** Returns a statement for a transaction: it keeps the transaction's value, and fails it unless the record is still held. */
  step(holding: Holding, value: Uint8Array): Sql
  /** Returns whether the record was still held. */
  finish(holding: Holding, answer: Answer): Promise<boolean>
  /** The next reservation gets the record at once. A record without steps is deleted, unless another database may have some. */
  release(holding: Holding): Promise<void>
  extend(holdings: readonly Holding[], leaseMs: number): Promise<void>
  /** Deletes up to `max` records that have expired. Returns how many. */
  prune(max: number): Promise<number>
}

export interface Reservation {
  /** A digest of principal, route and key. */
  readonly key: Uint8Array
  /** A digest of the payload. */
  readonly fingerprint: Uint8Array
  readonly leaseMs: number
  readonly keepMs: number
}

export interface Holding {
  readonly key: Uint8Array
  readonly token: number
}

export type Reserved =
  | {
      state: 'held'
      token: number
      /** Changes when the key begins anew: its record was deleted or has expired. */
      life: string
      steps: readonly Uint8Array[]
      /** The databases that were noted. */
      databases: readonly string[]
    }
  | { state: 'in-flight'; waitMs: number }
  | { state: 'other-payload' }
  | { state: 'answered'; answer: Answer }

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[]>>
  /** `null` for an answer without a body. */
  readonly body: Uint8Array | null
}
