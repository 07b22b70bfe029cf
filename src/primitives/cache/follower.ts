import { after, type Clock, every, systemClock } from '../../kernel/clock.ts'
import { advance, type Lsn, nowhere, type Position } from '../../kernel/position.ts'
import type { Scope } from '../../kernel/scope.ts'
import type { Bus, Invalidation, InvalidationLog, Mark } from './contract.ts'

export interface FollowerOptions {
  log: InvalidationLog
  bus: Bus
  /** The name under which positions of the log's database are kept. */
  database: string
  /** New rows, in no order. What it gives is waited for before the follower says that it has seen them. */
  apply(rows: readonly Invalidation[], position: Position): void | Promise<void>
  /** Rows may have been missed. */
  lost(): void
  /** All that the log held at this mark has been applied. */
  stands(mark: Mark): void
  failed(error: unknown): void
  clock?: Clock
}

/** So often it looks without being told to: a lost message is made good for by then. */
const lookEveryMs = 200
/** However often it is told, not more often than this. */
const lookPauseMs = 5
const trimEveryMs = 60_000
const idsMax = 10_000
/** Rows live this long; who was away for longer starts anew. */
export const logKeptMs = 3_600_000

/**
 * Follows the log of invalidations. What a session wrote may be anywhere in it; `ensure` says when all that its position
 * covers has been applied here.
 *
 * Two ways to know that: (1) a look that began after the position was heard of has ended: what a session has been told is
 * visible to everybody. (2) the position is *less* than one that was read before the last look began, as an end of the database's
 * log or as another session's: a commit that the look did not see was answered after it, with a position at least as
 * high. Equal is not enough: a commit's record is written before the commit is visible, so a commit that is answered later may
 * be given the same position. (On a database where nothing else is written that costs a look for each request of who has just
 * written, until Postgres itself writes to its log, which it does within 15 s: LOG_SNAPSHOT_INTERVAL_MS.)
 */
export class Follower {
  readonly #options: FollowerOptions
  readonly #clock: Clock
  #mark: Mark | undefined
  #end: Lsn | undefined
  /** Positions below are covered. */
  #horizon: Lsn = 0n
  /** Positions that are covered for one scope, whatever others have. */
  readonly #covered = new WeakMap<Scope, Lsn>()
  #looking: Promise<void> | undefined
  /** A look that begins after the one under way. */
  #next: Promise<void> | undefined
  #lastSuccessAt = 0
  #pausing = false
  #rung = false
  #stopped = false
  #ends: (() => void)[] = []
  readonly #own = new Set<number>()
  readonly #known = new Set<string>()

  constructor(options: FollowerOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  /** Until the first look has been made, nothing must be kept. */
  async start(): Promise<void> {
    await this.look()
    this.#options.bus.listen((words) => {
      for (const word of words) this.#known.add(word)
      this.#tell()
    })
    this.#ends = [
      every(lookEveryMs, () => void this.look().catch(() => {})),
      every(trimEveryMs, () => void this.#options.log.trim(logKeptMs).catch(this.#options.failed)),
    ]
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const end of this.#ends) end()
    await this.#looking?.catch(() => {})
    await this.#next?.catch(() => {})
  }

  /** Its own rows are applied at their commit and need not be applied again. */
  applied(id: number): void {
    if (this.#own.size >= idsMax) this.#own.clear() // then they are applied again
    this.#own.add(id)
  }

  /** `undefined`: all that the scope's position covers is applied. Else when it will be; fails where the log cannot be read. */
  ensure(scope: Scope): Promise<void> | undefined {
    const needed = scope.position.get(this.#options.database)
    if (scope.positionUnknown && !this.#covered.has(scope)) return this.#reach(scope, needed ?? 0n)
    if (needed === undefined || needed < this.#horizon) return undefined
    const covered = this.#covered.get(scope)
    return covered !== undefined && needed <= covered ? undefined : this.#reach(scope, needed)
  }

  /** Whether others' invalidations have been heard of lately. */
  behindMs(): number {
    return this.#clock.ticks() - this.#lastSuccessAt
  }

  async #reach(scope: Scope, needed: Lsn): Promise<void> {
    await this.look()
    this.#covered.set(scope, needed)
    // A position from beyond the end of the log is absurd: of another timeline, or of a database that was restored.
    if (this.#end !== undefined && needed <= this.#end && needed > this.#horizon) this.#horizon = needed
  }

  /** Resolves when a look has ended that began after this was called. */
  look(): Promise<void> {
    if (this.#stopped) return Promise.reject(new Error('the follower of the log has stopped'))
    if (this.#next) return this.#next
    if (!this.#looking) return this.#begin()
    this.#next = this.#looking
      .catch(() => {})
      .then(() => {
        this.#next = undefined
        return this.#begin()
      })
    return this.#next
  }

  #begin(): Promise<void> {
    this.#looking = this.#look().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async #look(): Promise<void> {
    const { log, apply, lost, failed, database } = this.#options
    try {
      // Rows are gone by then.
      if (this.#mark !== undefined && this.behindMs() > logKeptMs / 2) {
        this.#mark = undefined
        lost()
      }
      const { rows, mark, at } = await log.since(this.#mark)
      const position = at === undefined ? nowhere : advance(nowhere, database, at)
      const others = rows.filter(({ id }) => !this.#own.delete(id))
      if (others.length > 0) await apply(others, position)
      if (this.#known.size > idsMax) this.#known.clear()
      this.#mark = mark
      this.#options.stands(mark)
      if (this.#end !== undefined && this.#end > this.#horizon) this.#horizon = this.#end
      this.#end = at
      this.#lastSuccessAt = this.#clock.ticks()
    } catch (error) {
      failed(error)
      throw error
    }
  }

  /** Whether somebody said that this row, called by this word, need not be told to the shared layer. Once. */
  isKnown(word: string): boolean {
    return this.#known.delete(word)
  }

  #tell(): void {
    this.#rung = true
    if (this.#pausing) return
    this.#pausing = true
    this.#rung = false
    void this.look().catch(() => {})
    after(lookPauseMs, () => {
      this.#pausing = false
      if (this.#rung && !this.#stopped) this.#tell()
    })
  }
}
