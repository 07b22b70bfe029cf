import type { Found } from './contract.ts'

/**
 * Copies of what the store said, in one place for all processes; it may lose all it has at any moment. They are kept under an
 * edition: with another one nothing of the old is found. When copies are believed is policy above it, in `copied.ts`.
 *
 * What must hold on every adapter:
 * - what was forgotten is found no more, until it is kept again;
 * - `keep` keeps nothing where something was forgotten for good after the ticket had been given;
 * - an engine that was started again, from whatever it had stored, has nothing;
 * - each call ends within a bound, also where the engine does not answer, and then fails.
 */
export interface SessionCopies {
  /** The one server at the other end, by its own name for this run of it; `undefined` while that is not known. */
  readonly engine: string | undefined
  find(edition: string, digest: Uint8Array): Promise<{ copy: Copy } | { ticket: Ticket }>
  /** For so long. The ticket was given before the store was asked. */
  keep(edition: string, digest: Uint8Array, found: Found, ticket: Ticket, ms: number): Promise<void>
  /** `forGood`: it is different now, and what was read before must not be kept. */
  forget(edition: string, who: { ids: readonly string[] } | { principal: string }, forGood: boolean): Promise<void>
}

export interface Copy {
  readonly found: Found
  /** Since its ticket was given. */
  readonly ageMs: number
}

/** Of one engine, and one moment. */
export interface Ticket {
  readonly engine: string
  readonly number: string
  readonly at: number
}

/** Kept where the sessions are: which copies count. */
export interface Edition {
  readonly number: string
  /** Copies of any other engine do not. */
  readonly engine: string | undefined
}

export interface SessionEditions {
  current(): Promise<Edition>
  /** Begins another one: copies of the old are somewhere and cannot be reached. */
  renew(engine: string | undefined): Promise<void>
}
