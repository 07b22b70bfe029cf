import type { Clock } from '../../kernel/clock.ts'
import { advance, type Lsn, nowhere, type Position } from '../../kernel/position.ts'
import type { Scope } from '../../kernel/scope.ts'
import type { Riding } from '../data/rides.ts'
import type { Signals } from '../signals/signals.ts'
import type { Invalidating } from './api.ts'
import type { Invalidation, Mark, Place } from './contract.ts'
import { Follower } from './follower.ts'
import { ownTagTexts } from './keys.ts'
import type { DatabaseLog } from './logs.ts'
import type { Memory } from './memory.ts'

export interface InvalidatorOptions {
  logs: readonly DatabaseLog[]
  signals: Signals
  memory: Memory
  /** See `CacheParts`. */
  alone: boolean
  /** In the order in which they must be told: places before those that are filled from them. */
  tiers: readonly (readonly Place[])[]
  /** Called when everything up to this mark of the database's log has been applied. */
  onMark(database: string, mark: Mark): void
  failed(error: unknown): void
  clock: Clock
}

interface FollowedLog extends DatabaseLog {
  follower: Follower
}

/** If a log has not been read for this long, memory is used only as a fallback. */
const trustedMsMax = 1_000

/**
 * Drops what a commit has made useless, in the memory of this process and in the places that processes share.
 *
 *     own commit ──────────────────────▶ memory, then each place, then a signal: which places know
 *     logs (the commits of others) ─────▶ memory, then each place that its writer has not told
 */
export class Invalidator {
  readonly #options: InvalidatorOptions
  readonly #followed: ReadonlyMap<string, FollowedLog>
  /** The same, for the way of every read. */
  readonly #followers: readonly Follower[]
  /** The last number of purges that the edge sent along, for which the log has been read. */
  #purges: string | undefined

  constructor(options: InvalidatorOptions) {
    const { logs, signals, clock, failed, memory, onMark, alone } = options
    this.#options = options
    const forget = (position: Position) => memory.tags.invalidateAll(alone ? nowhere : position)
    this.#followed = new Map(
      logs.map((one) => {
        const { database, log } = one
        const follower: Follower = new Follower({
          log,
          signals,
          database,
          clock,
          failed,
          apply: (rows, position) => this.#apply({ ...one, follower }, rows, position),
          begun: forget,
          lost: (position) => {
            forget(position)
            for (const place of options.tiers.flat()) place.distrust()
          },
          onMark: (mark) => onMark(database, mark),
        })
        return [database, { ...one, follower }]
      }),
    )
    this.#followers = [...this.#followed.values()].map(({ follower }) => follower)
  }

  async start(): Promise<void> {
    await Promise.all(this.#followers.map((one) => one.start()))
  }

  async close(): Promise<void> {
    await Promise.all(this.#followers.map((one) => one.stop()))
  }

  /** Returns the `invalidate` of one transaction of the database. */
  invalidatingIn(riding: Riding, database: string): Invalidating {
    const followed = this.#followed.get(database)!
    const { log, outbox } = followed
    const names = new Set<string>()
    return {
      invalidate: (tags) => {
        const texts = ownTagTexts(riding.module ?? '', tags)
        if (texts.length === 0) return
        if (names.size === 0) {
          const committed = (id: number, at: Lsn | undefined) => this.#committed(followed, id, [...names], at)
          riding.ride(() => [log.append([...names], committed), ...(outbox?.([...names]) ?? [])])
        }
        for (const text of texts) names.add(text)
      },
    }
  }

  /** Returns `undefined` if all that the scope has seen is applied here, otherwise when it will be. Rejects if the log cannot be read. */
  ensure(scope: Scope): Promise<void> | undefined {
    let behind: Promise<void> | undefined
    for (const one of this.#followers) {
      const reached = one.ensure(scope)
      if (reached) behind = behind ? Promise.all([behind, reached]).then(() => {}) : reached
    }
    return behind
  }

  /** Whether the position is so old that it is known everywhere, so that sessions need not carry it. */
  isSettled(position: Position): boolean {
    for (const [database, place] of position) if (!this.#followed.get(database)?.follower.isSettled(place)) return false
    return true
  }

  /** Whether all logs were read lately. */
  get isCurrent(): boolean {
    for (const one of this.#followers) if (one.behindMs() > trustedMsMax) return false
    return true
  }

  /** Resolves when all that was committed before the call is applied here. */
  async look(): Promise<void> {
    await Promise.all(this.#followers.map((one) => one.look()))
  }

  /**
   * Resolves when all that the edge had been told when it let a request in is applied here, and to false if the log cannot be read: then
   * the edge must not keep the answer. So a client that writes and then reads through the edge sees the write on any node.
   * @param purges which the request has brought along from the edge: another text after each purge
   */
  caughtUp(purges: string): Promise<boolean> | undefined {
    if (purges === this.#purges) return undefined
    return this.look().then(
      () => {
        this.#purges = purges
        return true
      },
      () => false,
    )
  }

  /** Applies a commit of this process, before its writer is answered. */
  async #committed(
    { database, follower }: FollowedLog,
    id: number,
    names: readonly string[],
    at: Lsn | undefined,
  ): Promise<void> {
    const { memory, tiers, signals } = this.#options
    const position = at === undefined ? nowhere : advance(nowhere, database, at)
    memory.invalidate(names, position)
    const words: string[] = []
    let isApplied = true
    const tell = async (place: Place) => {
      const knownAs = await this.#tell(place, names, position)
      if (knownAs !== undefined) words.push(knownIn(knownAs, database, id))
      else if (place.fillsMemory) isApplied = false
    }
    for (const places of tiers) await Promise.all(places.map(tell))
    if (isApplied && at !== undefined) follower.applied(id) // without its place, the log is to say one that covers it
    signals.send('cache', words)
  }

  /** Applies what others have committed. A writer that has not told a place may be dead, so this process tells it. */
  async #apply({ database, follower }: FollowedLog, rows: readonly Invalidation[], position: Position): Promise<void> {
    const { memory, tiers } = this.#options
    memory.invalidate(namesOf(rows), position)
    const tell = async (place: Place) => {
      const { knownAs } = place
      const untold = rows.filter(({ id }) => knownAs === undefined || !follower.isKnown(knownIn(knownAs, database, id)))
      if (untold.length > 0) await this.#tell(place, namesOf(untold), position)
    }
    for (const places of tiers) await Promise.all(places.map(tell))
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
function knownIn(knownAs: string, database: string, id: number): string {
  return `${knownAs}:${database}:${id}`
}
