import type { Clock } from '../../kernel/clock.ts'
import { advance, type Lsn, nowhere, type Position } from '../../kernel/position.ts'
import type { Scope } from '../../kernel/scope.ts'
import type { Ride, Riding } from '../data/rides.ts'
import type { Signals } from '../signals/signals.ts'
import type { Invalidating } from './api.ts'
import type { Invalidation, InvalidationLog, Mark, Place } from './contract.ts'
import { Follower } from './follower.ts'
import { ownTagTexts } from './keys.ts'
import type { Memory } from './memory.ts'

export interface InvalidatorOptions {
  log: InvalidationLog
  signals: Signals
  /** The database whose log it is. */
  database: string
  memory: Memory
  /** In the order in which they must be told: a place before those that are filled from it. */
  places: readonly Place[]
  /** What else rides a commit with invalidations: for caches that can only be told later. */
  outbox: ((names: readonly string[]) => readonly Ride[]) | undefined
  /** Everything up to this mark of the log has been applied. */
  onMark(mark: Mark): void
  failed(error: unknown): void
  clock: Clock
}

/** If the log has not been read for this long, memory is used only as a fallback. */
const trustedMsMax = 1_000

/**
 * Drops what a commit has made useless, in the memory of this process and in the places that processes share.
 *
 *     own commit ──────────────────────▶ memory, then each place, then a signal: which places know
 *     log (the commits of others) ─────▶ memory, then each place that its writer has not told
 */
export class Invalidator {
  readonly #options: InvalidatorOptions
  readonly #follower: Follower
  /** The last number of purges that the edge sent along, for which the log has been read. */
  #purges: string | undefined

  constructor(options: InvalidatorOptions) {
    const { log, signals, database, clock, failed, memory, onMark } = options
    this.#options = options
    this.#follower = new Follower({
      log,
      signals,
      database,
      clock,
      failed,
      apply: (rows, position) => this.#apply(rows, position),
      lost: () => memory.tags.invalidateAll(nowhere),
      onMark,
    })
  }

  start(): Promise<void> {
    return this.#follower.start()
  }

  close(): Promise<void> {
    return this.#follower.stop()
  }

  /** Returns the `invalidate` of one transaction. */
  invalidatingIn(riding: Riding): Invalidating {
    const { log, outbox } = this.#options
    const names = new Set<string>()
    return {
      invalidate: (tags) => {
        const texts = ownTagTexts(riding.module ?? '', tags)
        if (texts.length === 0) return
        if (names.size === 0) {
          const committed = (id: number, at: Lsn | undefined) => this.#committed(id, [...names], at)
          riding.ride(() => [log.append([...names], committed), ...(outbox?.([...names]) ?? [])])
        }
        for (const text of texts) names.add(text)
      },
    }
  }

  /** Returns `undefined` if all that the scope has seen is applied here, otherwise when it will be. Rejects if the log cannot be read. */
  ensure(scope: Scope): Promise<void> | undefined {
    return this.#follower.ensure(scope)
  }

  /** Whether the log was read lately. */
  get isCurrent(): boolean {
    return this.#follower.behindMs() <= trustedMsMax
  }

  /** Resolves when all that was committed before the call is applied here. */
  look(): Promise<void> {
    return this.#follower.look()
  }

  /**
   * Resolves when all that the edge had been told when it let a request in is applied here, and to false if the log cannot be read: then
   * the edge must not keep the answer. So a client that writes and then reads through the edge sees the write on any node.
   * @param purges which the request has brought along from the edge: another text after each purge
   */
  caughtUp(purges: string): Promise<boolean> | undefined {
    if (purges === this.#purges) return undefined
    return this.#follower.look().then(
      () => {
        this.#purges = purges
        return true
      },
      () => false,
    )
  }

  /** Applies a commit of this process, before its writer is answered. */
  async #committed(id: number, names: readonly string[], at: Lsn | undefined): Promise<void> {
    const { memory, places, signals, database } = this.#options
    const position = at === undefined ? nowhere : advance(nowhere, database, at)
    memory.invalidate(names, position)
    const words: string[] = []
    let isApplied = true
    for (const place of places) {
      const knownAs = await this.#tell(place, names, position)
      if (knownAs !== undefined) words.push(knownIn(knownAs, id))
      else if (place.fillsMemory) isApplied = false
    }
    if (isApplied) this.#follower.applied(id)
    signals.send('cache', words)
  }

  /** Applies what others have committed. A writer that has not told a place may be dead, so this process tells it. */
  async #apply(rows: readonly Invalidation[], position: Position): Promise<void> {
    const { memory, places } = this.#options
    memory.invalidate(namesOf(rows), position)
    for (const place of places) {
      const { knownAs } = place
      const untold = rows.filter(({ id }) => knownAs === undefined || !this.#follower.isKnown(knownIn(knownAs, id)))
      if (untold.length > 0) await this.#tell(place, namesOf(untold), position)
    }
  }

  async #tell(place: Place, names: readonly string[], position: Position): Promise<string | undefined> {
    const { memory } = this.#options
    const knownAs = await place.invalidate(names)
    // An entry may have been taken from the place before it knew, or before it was known that it cannot be told.
    if (place.fillsMemory) memory.invalidate(names, position)
    return knownAs
  }
}

function namesOf(rows: readonly Invalidation[]): string[] {
  return [...new Set(rows.flatMap(({ tags }) => tags))]
}

/** Sent with a signal. During a failover two nodes may use two engines: what one engine was told, the other does not know. */
function knownIn(knownAs: string, id: number): string {
  return `${knownAs}:${id}`
}
