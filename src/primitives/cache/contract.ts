import type { Lsn } from '../../kernel/position.ts'
import type { Ride } from '../data/rides.ts'

/**
 * What the cache asks of its adapters. Layers, coalescing, grace and who may see which entry are policy above, in `cache.ts`.
 *
 * The log is the truth: an invalidation is a row of the transaction that made it necessary, so it is there after a commit,
 * also when the process dies in between, and not after a rollback. Every node follows the log. The bus only says that there is
 * something new, the shared layer only saves loads; both may lose all they have.
 *
 * What must hold on every adapter of the log:
 * - `since` gives each committed row exactly once to who goes from mark to mark, also where a transaction that began early
 *   commits late;
 * - what was committed before `since` was asked is in its answer, or was in an earlier one;
 * - its position covers the rows that it gives.
 */
export interface InvalidationLog {
  /** For a transaction. `appended` is told the row's number once the commit is certain, and where in the log of the database it was. */
  append(tags: readonly string[], appended: (id: number, at: Lsn | undefined) => void | Promise<void>): Ride
  /** Without a mark: no rows, only where to go on. */
  since(mark: Mark | undefined): Promise<{ rows: Invalidation[]; mark: Mark; at: Lsn | undefined }>
  /** Removes rows that are older; gives how many. */
  trim(olderThanMs: number): Promise<number>
}

export interface Invalidation {
  id: number
  tags: readonly string[]
}

/** Which transactions a reader of the log has seen: a snapshot, in Postgres' own text. */
export type Mark = string

/** Tells other processes that the log has grown. Coalesced; may lose a message. */
export interface Bus {
  /** The words say what the shared layer knows of already; they have no spaces. */
  ring(words: readonly string[]): void
  /** Calls `heard` for what others ring; with nothing when it may have missed something. */
  listen(heard: (words: readonly string[]) => void): void
  close(): Promise<void>
}
