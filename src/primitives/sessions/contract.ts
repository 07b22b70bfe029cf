/**
 * What sessions ask of an adapter: records by the digest of a secret. Cookies, lifetimes and when to rotate are policy above it, in
 * `sessions.ts`.
 *
 * What must hold on every adapter:
 * - only digests of secrets are kept: who can read the store can sign in as nobody;
 * - what was revoked is found by nobody from the moment that `revoke` returns, in any process;
 * - a secret that was replaced is found as `previous`, the one announced as `next`, and once that has been used it is `current`;
 *   announcing the same one again changes nothing;
 * - times are by one clock, that of the store.
 */
export interface SessionStore {
  create(session: NewSession): Promise<void>
  find(digest: Uint8Array): Promise<Found | undefined>
  /** It is in use: `idleMs` begins anew. */
  seen(id: string): Promise<void>
  /** Its holder has been told a new secret, and may or may not have heard it. */
  announce(id: string, next: Uint8Array): Promise<void>
  /** The announced secret has been used: it is the current one; the one before is good for another `graceMs`. */
  promote(id: string, next: Uint8Array, graceMs: number): Promise<void>
  revoke(ids: readonly string[]): Promise<number>
  revokeAll(principal: string): Promise<number>
  list(principal: string): Promise<SessionInfo[]>
  /** Forgets up to `max` that are over, or idle for longer than this. Gives how many. */
  prune(idleMs: number, max: number): Promise<number>
}

export interface SessionInfo {
  /** Not secret: for lists and for revoking. */
  readonly id: string
  readonly principal: string
  readonly plan: string | undefined
  readonly createdAt: Date
  readonly seenAt: Date
}

export interface NewSession {
  readonly id: string
  readonly digest: Uint8Array
  readonly principal: string
  readonly plan: string | undefined
  readonly lifetimeMs: number
}

export interface Found {
  readonly session: SessionInfo
  readonly as: 'current' | 'next' | 'previous'
  /** Since it was last seen, since its secret last changed. */
  readonly idleMs: number
  readonly secretAgeMs: number
  /** Until it is over; until a `previous` secret is no longer good. */
  readonly leftMs: number
  readonly graceMs: number
}
