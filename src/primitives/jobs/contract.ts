import type { Ride } from '../data/rides.ts'
import type { Sql } from '../data/sql.ts'
import type { Ask, Extended, Filter, Held, Item, Listed, NewItem, Outcome, QueueCount, Report } from './items.ts'

/**
 * What jobs and events ask of an adapter: items that wait in queues, and are taken by one worker at a time. Retries,
 * backoff, schedules, time limits and concurrency of a process are policy above it, in `worker.ts`.
 *
 * What must hold on every adapter:
 * - a pushed item exists when its transaction has committed, and only then; one that commits late is not passed over;
 * - an item that was claimed is nobody else's until its lease has ended; each claim has a higher token than the one before,
 *   and whatever comes with an older token changes nothing (a fencing token: Martin Kleppmann, "How to do distributed
 *   locking", 2016);
 * - `ordered` queues hand out the items of one key one at a time, in the order in which they were pushed;
 * - `perKeyMax` and `fleetMax` hold over all processes.
 *
 * ```
 *            push                claim                settle: done
 *   (none) ────────▶ waiting ──────────────▶ running ───────────────▶ (gone, or kept as finished)
 *                    ▲  ▲  │                 │  │ │
 *                    │  │  └── cancel        │  │ └ settle: dead ──▶ dead ── retry ──▶ waiting
 *                    │  └── settle: retry ◀──┘  │
 *                    └───── lease ended ◀───────┘
 * ```
 */
export interface Queue {
  /** Returns statements for a transaction, which add the items. `ref.id` is set by the commit. */
  push(items: readonly NewItem[]): Ride[]
  /** Returns up to `n` items of each queue, the most urgent first; each is held for `leaseMs`. */
  claim(asks: readonly Ask[], worker: string, leaseMs: number): Promise<Item[]>
  /** Holds items for another `leaseMs` and notes their progress. Returns those still held. */
  extend(held: readonly Report[], leaseMs: number): Promise<Extended[]>
  /** Ends claims. Returns the ids that were still held; other workers have the others by now. */
  settle(outcomes: readonly Outcome[]): Promise<ReadonlySet<number>>
  /** Returns a statement for a transaction: it fails unless the item is still held. With `done` it also ends the claim. */
  fence(held: Held, done: boolean): Sql
  /** Takes back what was held longer than its lease, and forgets what ended more than `keepMs` ago. Returns how many it took back. */
  reap(keepMs: number): Promise<number>
  count(): Promise<QueueCount[]>
  list(filter: Filter): Promise<Listed[]>
  /** `retry`: dead ones, and those that wait for another try, run now. `cancel`: waiting ones go, running ones are told. */
  change(ids: readonly number[], how: 'retry' | 'cancel'): Promise<number>
}

/** An item of a queue that lies in another database. */
export interface ForeignItem extends Held {
  pushedAt: string
  /** The name of the database in which its queue lies. */
  source: string
}

/**
 * What a database knows of items whose queues lie in others: the fence of their claims, and whether their effect is committed. A claim's
 * end cannot ride a commit of another database; this row does, so the effect happens once even if the process dies before the queue
 * hears of it.
 */
export interface ForeignClaims {
  /**
   * Tells the database of a claim. From then on nothing of an earlier claim is committed here.
   * @returns `done` if the item's effect was committed here; `later` if a claim with a higher token is known
   */
  begin(item: ForeignItem): Promise<'open' | 'done' | 'later'>
  /** Returns a statement for a transaction: it fails unless this claim is the last that `begin` was called with. With `done` it ends the item here. */
  fence(item: ForeignItem, done: boolean): Sql
  /** Forgets items that were last claimed longer ago than this. Returns how many. */
  prune(olderThanMs: number, max: number): Promise<number>
}
