import { after, atMost, type Clock, every, freshRun, systemClock } from '../../kernel/clock.ts'
import { advance, nowhere, type Place, type Position, reaches, startOfLog } from '../../kernel/position.ts'
import type { Scope } from '../../kernel/scope.ts'
import type { Signals } from '../signals/signals.ts'
import type { Invalidation, InvalidationLog, Mark } from './contract.ts'

export interface FollowerOptions {
  log: InvalidationLog
  signals: Signals
  /** The name under which positions of the log's database are kept. */
  database: string
  /** Applies new rows, which come in no order. The rows count as seen once it resolves. */
  apply(rows: readonly Invalidation[], position: Position): void | Promise<void>
  /** Called at the first look, which returns no rows: what was invalidated before this position is not known. */
  begun(position: Position): void
  /** Called when rows from before this position may have been missed. */
  lost(position: Position): void
  /** Called when all that the log held at this mark has been applied. */
  onMark(mark: Mark): void
  failed(error: unknown): void
  clock?: Clock
}

/** The log is read at least this often, so that a lost message does no harm for longer. */
const lookEveryMs = 200
/** The log is read at most this often because of messages. */
const lookPauseMs = 5
/** With replicas: a look waits no longer for commits that a replica has shown before the primary. */
const shownMsMax = 20
const idsMax = 10_000
/** As long as sessions carry a position: by then each process has read the log, or is no longer asked. */
const settledMs = 60_000
/** Rows are kept for this long. A process that was away for longer drops all that it has. */
export const logKeptMs = 3_600_000

/**
 * Follows the log of invalidations. `ensure` resolves when everything that a session's position covers has been applied here.
 *
 * There are two ways to know that: (1) a look at the log that began after the position was heard of has ended: what a session has been
 * told is visible to all. (2) The position is *less* than one that was read before the last look began, as the end of the database's
 * log or as another session's position: a commit that the look did not see was answered after it, with a position at least as high. Equal is not enough: a commit's record is written before the commit is visible, so a commit that is answered later may
 * be given the same position. (Where nothing else is written, each request of a session at the end of the log would cost a look until Postgres itself
 * writes something, within 15 s: LOG_SNAPSHOT_INTERVAL_MS. So a log that stands still at a place that sessions have is stirred.)
 *
 * Both hold only for what the primary shows. A session may have seen a commit on a replica that the primary does not show yet: `shows` of
 * the log waits for that.
 */
export class Follower {
  readonly #options: FollowerOptions
  readonly #clock: Clock
  #mark: Mark | undefined
  #end: Place | undefined
  /** Positions below are covered. */
  #horizon: Place = startOfLog
  /** Positions below are settled. */
  #settled: Place | undefined
  /** Will be settled in a while. */
  #settling: { end: Place; since: number } | undefined
  /** The last position for which a session had to wait. */
  #needed: Place | undefined
  /** The next look is to stir the log. */
  #isStill = false
  /** Positions that are covered for one scope, whatever others have. */
  readonly #covered = new WeakMap<Scope, Place>()
  readonly #freshLook = freshRun(() => this.#look())
  /** The look that ends last. */
  #lastLook: Promise<void> | undefined
  #lastSuccessAt = 0
  #pausing = false
  #rung = false
  #stopped = false
  #endLooking = () => {}
  readonly #own = new Set<number>()
  readonly #known = new Set<string>()

  constructor(options: FollowerOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  /** Until the first look has been made, nothing must be kept. */
  async start(): Promise<void> {
    await this.look()
    this.#options.signals.listen('cache', (words) => {
      for (const word of words ?? []) this.#known.add(word)
      this.#tell()
    })
    this.#endLooking = every(lookEveryMs, () => {
      this.#isStill = this.#end !== undefined && this.#needed === this.#end
      void this.look().catch(() => {})
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#endLooking()
    await this.#lastLook?.catch(() => {})
  }

  /** Notes a row of this process that was applied at its commit, and need not be applied again. */
  applied(id: number): void {
    if (this.#own.size >= idsMax) this.#own.clear() // then they are applied again
    this.#own.add(id)
  }

  /** Returns `undefined` if all that the scope's position covers is applied, otherwise when it is. Rejects if the log cannot be read. */
  ensure(scope: Scope): Promise<void> | undefined {
    const needed = scope.position.get(this.#options.database)
    if (scope.positionUnknown && !this.#covered.has(scope)) return this.#reach(scope, needed ?? startOfLog)
    if (needed === undefined || isBefore(needed, this.#horizon)) return undefined
    const covered = this.#covered.get(scope)
    return covered !== undefined && reaches(covered, needed) ? undefined : this.#reach(scope, needed)
  }

  /** Whether the place is so old that it is known everywhere, so that sessions need not carry it. */
  isSettled(place: Place): boolean {
    return this.#settled !== undefined && isBefore(place, this.#settled)
  }

  /** How long ago the log was last read. */
  behindMs(): number {
    return this.#clock.ticks() - this.#lastSuccessAt
  }

  async #reach(scope: Scope, needed: Place): Promise<void> {
    this.#needed = needed
    const showing = this.#options.log.shows(needed)
    if (showing) await showing
    await this.look()
    this.#covered.set(scope, needed)
    // A position from beyond the end of the log is absurd: of another timeline, or of a database that was restored.
    if (this.#end !== undefined && reaches(this.#end, needed) && needed > this.#horizon) this.#horizon = needed
  }

  /** Resolves when a look has ended that began after this was called. */
  look(): Promise<void> {
    if (this.#stopped) return Promise.reject(new Error('the follower of the log has stopped'))
    this.#lastLook = this.#freshLook()
    return this.#lastLook
  }

  async #look(): Promise<void> {
    const { log, apply, begun, lost, failed, database } = this.#options
    try {
      const areGone = this.#mark !== undefined && this.behindMs() > logKeptMs / 2
      const end = await this.#shownEnd()
      const stir = this.#isStill
      this.#isStill = false
      const { rows, mark, at, isWhole } = await log.since(areGone ? undefined : this.#mark, stir)
      const position = at === undefined ? nowhere : advance(nowhere, database, at)
      if (this.#mark === undefined) begun(position)
      else if (areGone || !isWhole) lost(position)
      if (!isWhole) this.#forgetPlaces()
      const others = rows.filter(({ id }) => !this.#own.delete(id))
      if (others.length > 0) await apply(others, position)
      if (this.#known.size > idsMax) this.#known.clear()
      this.#mark = mark
      this.#options.onMark(mark)
      if (isWhole && end !== undefined && end > this.#horizon) this.#horizon = end
      this.#end = at
      this.#lastSuccessAt = this.#clock.ticks()
      this.#settle()
    } catch (error) {
      failed(error)
      throw error
    }
  }

  /** Another history of the database may give its places to other commits. */
  #forgetPlaces(): void {
    this.#horizon = startOfLog
    this.#settled = undefined
    this.#settling = undefined
  }

  #settle(): void {
    const now = this.#lastSuccessAt
    if (this.#end === undefined || (this.#settling && now - this.#settling.since < settledMs)) return
    this.#settled = this.#settling?.end
    this.#settling = { end: this.#end, since: now }
  }

  /** Returns the end of the database's log as of the last look, if by now everything before it is visible. */
  async #shownEnd(): Promise<Place | undefined> {
    const end = this.#end
    const showing = end === undefined ? undefined : this.#options.log.shows(end)
    if (!showing) return end
    let isShown = false
    const done = showing.then(
      () => {
        isShown = true
      },
      () => {},
    )
    await atMost(shownMsMax, done)
    return isShown ? end : undefined
  }

  /** Whether another process has said, by this word, that a place knows this row. Forgets the word. */
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

function isBefore(place: Place, end: Place): boolean {
  return place !== end && reaches(end, place)
}
