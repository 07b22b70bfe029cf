import { type Clock, systemClock } from '../../kernel/clock.ts'
import { type Random, systemRandom } from '../../kernel/random.ts'
import type { Scope } from '../../kernel/scope.ts'
import type { Riding } from '../data/rides.ts'
import type { Signals } from '../signals/signals.ts'
import type { Cache, CachedOptions, CacheOptions, Invalidating, Load } from './api.ts'
import { batched } from './batch.ts'
import type { EntryFacts } from './bounded.ts'
import type { Place } from './contract.ts'
import type { Stored } from './entry.ts'
import { Filling } from './filling.ts'
import { InheritedTags } from './inherited-tags.ts'
import { Invalidator } from './invalidator.ts'
import { defineKey, type Key, type KeyPart } from './keys.ts'
import type { DatabaseLog } from './logs.ts'
import { Memory } from './memory.ts'
import { Reader } from './reader.ts'
import type { SpreadCache } from './spread.ts'
import { Groups, type Warmed } from './stats.ts'

export type { Cache, CachedOptions, CacheOptions, Invalidating, Load, LoadContext } from './api.ts'

export interface CacheParts {
  /** The logs of all databases of the app. */
  logs: readonly DatabaseLog[]
  /**
   * One process answers all requests, from a database whose servers show the same: then no session can have seen more elsewhere, and positions of
   * what is read cost nothing. Default false.
   */
  alone?: boolean
  /** Size of the memory layer. */
  bytesMax: number
  inTransaction(): boolean
  /** Nothing is kept: every value is loaded. */
  off?: boolean
  signals: Signals
  shared?: SpreadCache | undefined
  edge?: Place | undefined
  /** Called with failures after which the cache tries again by itself. */
  failed(error: unknown): void
  clock?: Clock
  random?: Random
}

/**
 * The cache of one process, for all its modules, in three storeys: the reader answers `get`, the invalidator drops what commits have made
 * useless, and the places (memory, shared layer, edge) keep entries.
 */
export class CacheCore {
  readonly groups = new Groups()
  /** What the last warming did. */
  warmed: Warmed | undefined
  readonly #parts: CacheParts
  readonly #memory: Memory
  readonly #invalidator: Invalidator
  readonly #reader: Reader
  readonly #filling = new Filling()
  readonly #inherited = new InheritedTags()
  #isStarted = false
  #starting: Promise<void> | undefined

  constructor(parts: CacheParts) {
    const { shared, edge, alone = false, clock = systemClock, random = systemRandom } = parts
    const memory = new Memory(parts.bytesMax)
    const invalidator = new Invalidator({
      ...parts,
      alone,
      clock,
      memory,
      tiers: [shared?.nodes ?? [], edge ? [edge] : []],
      onMark: (database, mark) => shared?.noteMark(database, mark),
    })
    this.#parts = parts
    this.#memory = memory
    this.#invalidator = invalidator
    this.#reader = new Reader({
      alone,
      memory,
      invalidator,
      shared,
      inherited: this.#inherited,
      filling: this.#filling,
      groups: this.groups,
      clock,
      random,
      started: () => (this.#isStarted ? undefined : this.#start()),
      inTransaction: () => parts.inTransaction(),
      off: parts.off ?? false,
    })
  }

  /** See `CacheParts`. */
  get alone(): boolean {
    return this.#parts.alone ?? false
  }

  get size(): { entries: number; bytes: number; bytesMax: number } {
    return { entries: this.#memory.entries, bytes: this.#memory.bytes, bytesMax: this.#parts.bytesMax }
  }

  get shared(): SpreadCache | undefined {
    return this.#parts.shared
  }

  survey(max: number): EntryFacts[] {
    return this.#memory.survey(max)
  }

  /** Runs `fn` so that what it reads is in every layer afterwards: it reads past the memory if there is a shared layer. */
  fill<T>(fn: () => Promise<T>): Promise<T> {
    return this.#filling.run(fn)
  }

  /** Collects the tags of the entries that a call of another process reads. */
  collectTags(scope: Scope): () => readonly string[] {
    const names = this.#inherited.begin(scope)
    return () => [...names]
  }

  /** Adds tags that a call has collected in another process to the load that runs in the scope, if one does. */
  inheritTags(scope: Scope | undefined, names: readonly string[]): void {
    this.#inherited.add(scope, () => names)
  }

  forModule(module: string | undefined, write: (fn: (tx: Invalidating) => void) => Promise<void>): Cache {
    const get = (key: Key<unknown> | string, options: CacheOptions, load: Load<unknown>) =>
      this.#reader.get(module ?? '', key, options, load)
    return {
      get: get as Cache['get'],
      getMany(ids, { key, tags, ...options }, load) {
        const loadOne = batched(load)
        const reads = ids.map((id) =>
          get(key(id), { ...options, ...(tags && { tags: tags(id) }) } as CacheOptions, () => loadOne(id)),
        )
        return Promise.all(reads) as never
      },
      cached<Args extends readonly KeyPart[], Value>(
        name: string,
        { tags, ...options }: CachedOptions<Args, Value>,
        fn: (...args: Args) => PromiseLike<Value> | Value,
      ) {
        const keyOf = defineKey<Value, Args>(name)
        return (...args: Args) => {
          const own = typeof tags === 'function' ? (value: Stored<Value>) => tags(value, ...args) : tags
          const withTags = { ...options, ...(own && { tags: own }) } as CacheOptions
          return get(keyOf(...args), withTags, () => fn(...args)) as Promise<Stored<Value>>
        }
      },
      invalidate: (tags) => write((tx) => tx.invalidate(tags)),
    }
  }

  /** Returns the `invalidate` of one transaction of the database. */
  invalidatingIn(riding: Riding, database: string): Invalidating {
    return this.#invalidator.invalidatingIn(riding, database)
  }

  /** See `Invalidator.caughtUp`. */
  caughtUp(purges: string): Promise<boolean> | undefined {
    return this.#isStarted ? this.#invalidator.caughtUp(purges) : undefined
  }

  /** Resolves when all that was committed before the call is applied here. */
  look(): Promise<void> {
    return this.#invalidator.look()
  }

  /** Follows the log at once if there are places that must hear of the writes of this process, even if it never reads from its cache. */
  async open(): Promise<void> {
    if (this.#parts.shared || this.#parts.edge) await this.#start().catch(this.#parts.failed)
  }

  async close(): Promise<void> {
    await this.#starting?.catch(() => {})
    await this.#invalidator.close()
    await this.#parts.shared?.close()
    await this.#parts.edge?.close()
  }

  #start(): Promise<void> {
    this.#starting ??= Promise.all([this.#invalidator.start(), this.#parts.shared?.start()])
      .then(() => {
        this.#isStarted = true
      })
      .finally(() => {
        this.#starting = undefined // after a failure the next reader tries again
      })
    return this.#starting
  }
}
