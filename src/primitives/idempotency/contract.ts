import type { Sql } from '../data/sql.ts'

/**
 * What idempotency asks of an adapter: a record for each key, which one process holds at a time. What a key is, which
 * answers are kept and how a handler is repeated is policy above it, in `idempotency.ts` and `steps.ts`.
 *
 * What must hold on every adapter:
 * - of any number of processes that reserve one key, one gets it; the others get what there is;
 * - each reservation has a token that no other reservation ever had, also after the record was gone in between; whatever
 *   comes with another token changes nothing, and fails the transaction it rides (a fencing token);
 * - a step is kept when its transaction has committed, and only then. Whoever takes a record over gets all steps that have
 *   committed, and after that none is added by the one before;
 * - an answer is final, and given to everyone until it expires.
 *
 * ```
 *           reserve               finish
 *   (none) ─────────▶ held ─────────────────▶ answered ── expires ──▶ (none)
 *      ▲               │ ▲
 *      └── release ────┤ └── reserve, by another process
 *       (no steps)     │        │
 *                      └──▶ left: released with steps, or the lease has ended
 * ```
 */
export interface Records {
  reserve(ask: Ask): Promise<Reserved>
  /** For a transaction: keeps what it returned, and fails it unless the record is still held. */
  step(held: Held, value: Uint8Array): Sql
  /** Gives whether the record was still held. */
  finish(held: Held, answer: Answer): Promise<boolean>
  /** Whoever asks next gets the record at once; without steps there is none any more. */
  release(held: Held): Promise<void>
  extend(held: readonly Held[], leaseMs: number): Promise<void>
  /** Forgets up to `max` records that have expired. Gives how many. */
  prune(max: number): Promise<number>
}

export interface Ask {
  /** A digest of principal, route and key. */
  readonly key: Uint8Array
  /** A digest of the payload. */
  readonly fingerprint: Uint8Array
  readonly leaseMs: number
  readonly keepMs: number
}

export interface Held {
  readonly key: Uint8Array
  readonly token: number
}

export type Reserved =
  | { state: 'held'; token: number; steps: readonly Uint8Array[] }
  | { state: 'in-flight'; waitMs: number }
  | { state: 'other-payload' }
  | { state: 'answered'; answer: Answer }

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[]>>
  /** `null`: without one. */
  readonly body: Uint8Array | null
}
