import type { Lsn } from '../../kernel/position.ts'
import type { Ride } from '../data/rides.ts'

/**
 * What the cache asks of its adapters. Coalescing, grace and which reader may see which entry are policy above, in `reader.ts`; how an
 * invalidation reaches all places is in `invalidator.ts`.
 *
 * The log is the truth: an invalidation is a row of the transaction that made it necessary, so it is there after a commit, even if the
 * process dies in between, and not after a rollback. Every node follows the log. Signals only say that there is something new, and the
 * shared layer only saves loads; both may lose all they have.
 *
 * What must hold on every adapter of the log:
 * - a caller that goes from mark to mark gets each committed row from `since` exactly once, even if a transaction that began early
 *   commits late;
 * - what was committed before `since` was called is in its answer, or was in an earlier one;
 * - its position covers the rows that it returns;
 * - `since` returns what was committed up to a place that a session has seen on a replica only if `shows` has resolved for it before.
 */
export interface InvalidationLog {
  /** Returns a statement for a transaction. `appended` gets the row's number once the commit is certain, and its place in the database's log. */
  append(tags: readonly string[], appended: (id: number, at: Lsn | undefined) => void | Promise<void>): Ride
  /**
   * Without a mark: no rows, only where to go on.
   * @param stir also makes the end of the database's log move on soon, if nobody else does
   * @returns `isWhole`: false if the mark is of another history of the database, which was restored or failed over; then rows may be missing
   */
  since(
    mark: Mark | undefined,
    stir?: boolean,
  ): Promise<{ rows: Invalidation[]; mark: Mark; at: Lsn | undefined; isWhole: boolean }>
  /** Resolves when `since` returns everything up to this place. `undefined`: it does already. */
  shows(place: Lsn): Promise<void> | undefined
  /** Removes older rows. Returns how many. */
  trim(olderThanMs: number, max: number): Promise<number>
}

export interface Invalidation {
  id: number
  tags: readonly string[]
}

/** Which transactions a reader of the log has seen. Only the adapter that made it can read it. */
export type Mark = string

/** Where entries or answers are kept outside this process: the shared layer, the edge. */
export interface Place {
  /** Under this name processes tell each other what the place knows. `undefined` while it cannot be told. */
  readonly knownAs: string | undefined
  /** Entries are taken from it into the memory of processes. */
  readonly fillsMemory: boolean
  /**
   * Resolves when nothing with one of the tags is served any more.
   * @returns the name under which the place knows; `undefined` if it could not be told, and will be before it is used again
   */
  invalidate(tags: readonly string[]): Promise<string | undefined>
  /** Invalidations may have been missed: what the place holds is checked, or dropped. */
  distrust(): void
  close(): Promise<void>
}

/** A cache of pages in front of the app, which Rung can purge by tag. */
export interface PageEdge {
  /** Resolves when no request that begins from then on gets a page with one of these tags that was made before. `*` is all. */
  purge(tags: readonly string[]): Promise<void>
}
