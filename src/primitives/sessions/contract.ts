/**
 * What sessions ask of an adapter: records that are found by the digest of a secret. Cookies, lifetimes and the time of a rotation are
 * policy above it, in `sessions.ts`.
 *
 * What must hold on every adapter:
 * - only digests of secrets are kept, so nobody can sign in with what the store holds;
 * - when `revoke` has returned, no process finds the session any more. The exceptions are a process that remembers sessions for itself,
 *   and a process or a revocation that cannot reach the store's shared copies: these find it for one more second at most;
 * - a secret that was replaced is found as `previous`, an announced one as `next`, and once it has been used as `current`. To announce
 *   the same secret twice changes nothing;
 * - times are measured by one clock, that of the store.
 */
export interface SessionStore {
  create(session: NewSession): Promise<void>
  find(digest: Uint8Array): Promise<FoundSession | undefined>
  /** Notes that the session is in use: `idleMs` begins anew. */
  touch(id: string): Promise<readonly ChangedSession[]>
  /** Notes a new secret that the holder was told, and may or may not have received. */
  announce(id: string, next: Uint8Array): Promise<void>
  /** Makes the announced secret the current one, since it was used. The one before is good for another `graceMs`. */
  promote(id: string, next: Uint8Array, graceMs: number): Promise<readonly ChangedSession[]>
  /** Returns the sessions that there were. */
  revoke(ids: readonly string[]): Promise<readonly ChangedSession[]>
  revokeAll(principal: string): Promise<readonly ChangedSession[]>
  list(principal: string): Promise<SessionInfo[]>
  /** Deletes up to `max` sessions that are over, or idle for longer than this. Returns how many. */
  prune(idleMs: number, max: number): Promise<number>
}

/** What was known of these digests before the change does not hold any more. */
export interface ChangedSession {
  readonly id: string
  readonly digests: readonly Uint8Array[]
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

export interface FoundSession {
  readonly session: SessionInfo
  readonly as: 'current' | 'next' | 'previous'
  /** Time since its last use. */
  readonly idleMs: number
  /** Time since its secret last changed. */
  readonly secretAgeMs: number
  /** Time until the session is over. */
  readonly leftMs: number
  /** Time until a `previous` secret is no longer good. */
  readonly graceMs: number
}

/** What was read of a session is used for this long. A revocation that cannot be told to others has reached them after it. */
export const copyMs = 900
