import type { Duration } from '../../kernel/units.ts'
import type { Stored } from './entry.ts'
import type { Key, KeyPart } from './keys.ts'

export interface CacheOptions<Value = unknown> {
  /** How long a value is fresh. Up to a tenth less, at random, so that values that were loaded together do not expire together. */
  ttl: Duration
  /** How much longer the value may be served while it is loaded again or cannot be loaded. Default 0. Never after an invalidation. */
  grace?: Duration
  /**
   * What the value depends on: a list, or a function of the value. Whatever changes one of them calls `tx.invalidate`. `'inherit'`
   * takes the tags of all entries that the load reads from the cache.
   */
  tags?: readonly string[] | ((value: Stored<Value>) => readonly string[]) | 'inherit'
  /** Used instead of `ttl` if the load returns `null` or `undefined`. Default 10 s. */
  absentTtl?: Duration
  /** How long this process remembers that the load failed. Default 0. */
  errorTtl?: Duration
  /** How long a reader waits for a load before it takes a value in its grace. Default 0. */
  softTimeout?: Duration
  /** How long a load may take. Default 30 s. */
  hardTimeout?: Duration
}

export interface CachedOptions<Args extends readonly KeyPart[], Value> extends Omit<CacheOptions<Value>, 'tags'> {
  tags?: readonly string[] | ((value: Stored<Value>, ...args: Args) => readonly string[]) | 'inherit'
}

export interface LoadContext {
  /** Aborts when the load has taken too long. */
  signal: AbortSignal
  /** Returns the tags of the entries that the load has read from the cache so far, in the form that any module may use. */
  inherited(): string[]
}

export type Load<Value> = (context: LoadContext) => PromiseLike<Value> | Value

/** The cache of one module. Values are plain JSON (a date becomes text), frozen, and shared by all readers. */
export interface Cache {
  /**
   * Returns the value of the key. If there is none, it is loaded once for all readers. Inside a transaction it is always loaded and
   * never kept. No reader gets a value that is older than the reader's own writes.
   * @throws what `load` throws; CACHE_LOAD_TIMEOUT; CACHE_INVALID for a key, a tag or options that cannot be used
   */
  get<Value>(key: Key<Value> | string, options: CacheOptions<Value>, load: Load<Value>): Promise<Stored<Value>>
  /** Like `get` for several keys: `load` gets the missing ids together, and returns their values in the same order. */
  getMany<Id, Value>(
    ids: readonly Id[],
    options: Omit<CacheOptions<Value>, 'tags'> & {
      key: (id: Id) => Key<Value> | string
      tags?: (id: Id) => readonly string[]
    },
    load: (missing: readonly Id[]) => PromiseLike<readonly Value[]>,
  ): Promise<Stored<Value>[]>
  /** Returns `fn` with its results kept by its arguments. `name` is the name of the keys, as in `defineKey`. */
  cached<Args extends readonly KeyPart[], Value>(
    name: string,
    options: CachedOptions<Args, Value>,
    fn: (...args: Args) => PromiseLike<Value> | Value,
  ): (...args: Args) => Promise<Stored<Value>>
  /** Drops every entry with one of the tags, everywhere, before it resolves. Inside a transaction: when it commits. */
  invalidate(tags: readonly string[]): Promise<void>
}

/** Part of a transaction's handle. */
export interface Invalidating {
  /** Drops every entry with one of the tags when this transaction commits. */
  invalidate(tags: readonly string[]): void
}
