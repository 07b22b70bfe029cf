import { type Clock, sleep, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { uuid } from '../../kernel/random.ts'
import { runInTime, Scope } from '../../kernel/scope.ts'
import type { CacheCore } from './cache.ts'
import type { Warmed } from './stats.ts'

/** What is hot, the hottest first. */
export type HotList<Item> = readonly Item[] | (() => PromiseLike<readonly Item[]> | readonly Item[])

/** What a module wants in the cache before the first request. Made by `warm`; does nothing by itself. */
export interface Warm {
  readonly name: string
  readonly list: HotList<unknown>
  /** If it is left out, the list is one of paths. */
  readonly load: ((item: never) => unknown) | undefined
}

/** Warms paths of routes that keep their answers. `name` appears in the log. */
export function warm(name: string, paths: HotList<string>): Warm
/** Warms things: `load` asks the cache for one item of the list, as the module itself does. */
export function warm<Item>(name: string, list: HotList<Item>, load: (item: Item) => unknown): Warm
export function warm(name: string, list: HotList<unknown>, load?: (item: never) => unknown): Warm {
  return { name, list, load }
}

/** With the module that says so. */
export interface DeclaredWarm {
  module: string
  warm: Warm
}

export interface WarmingOptions {
  core: CacheCore
  warms: readonly DeclaredWarm[]
  /** Requests a path of this process. */
  visit(path: string): Promise<unknown>
  /** Called with the first failure of each list. */
  failed(name: string, error: unknown): void
  ended(warmed: Warmed): void
  /** How many items load at once, and how many begin in a second. The rest of the database's capacity is left to requests. */
  concurrency?: number
  perSecond?: number
  clock?: Clock
}

const defaults = { concurrency: 4, perSecond: 250 }
/** As long as a load of the cache may take. */
const itemMsMax = 30_000

/** Fills the cache with what the modules list: one run at a time, and one more if it is asked for meanwhile. */
export class Warming {
  readonly #options: WarmingOptions & typeof defaults
  readonly #clock: Clock
  readonly #stopped = new AbortController()
  #running: Promise<void> | undefined
  #again = false

  constructor(options: WarmingOptions) {
    this.#options = { ...defaults, ...options }
    this.#clock = options.clock ?? systemClock
  }

  /** Resolves when everything is as warm as it can be made; never fails. */
  run(): Promise<void> {
    this.#again = true
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  /** Starts no more items. Resolves when none is running. */
  async stop(): Promise<void> {
    this.#stopped.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { core, warms, ended } = this.#options
    while (this.#again && warms.length > 0 && !this.#stopped.signal.aborted) {
      this.#again = false
      const began = this.#clock.ticks()
      const counts = { items: 0, failed: 0 }
      await core.fill(async () => {
        for (const one of warms) await this.#warm(one, counts)
      })
      if (this.#stopped.signal.aborted) return
      core.warmed = { ...counts, ms: Math.round(this.#clock.ticks() - began) }
      ended(core.warmed)
    }
  }

  /** One list, several items at a time. */
  async #warm({ module, warm: { name, list, load } }: DeclaredWarm, counts: Omit<Warmed, 'ms'>): Promise<void> {
    const { concurrency, perSecond, visit, failed } = this.#options
    const label = `${module}/${name}`
    const before = counts.failed
    const began = this.#clock.ticks()
    let begun = 0
    const tried = async <T>(fn: () => PromiseLike<T> | T): Promise<T | undefined> => {
      try {
        return await inTime(label, fn)
      } catch (error) {
        if (counts.failed === before) failed(label, error)
        counts.failed += 1
        return undefined
      }
    }
    const found = await tried(async () => {
      const items: unknown = typeof list === 'function' ? await list() : list
      if (Array.isArray(items)) return [...items]
      throw new RungError('APP_INVALID', `The list of "${label}" is no array. Return the items to warm as one.`)
    })
    const left = (found ?? []).values()
    const workOff = async () => {
      for (const item of left) {
        await this.#until(began + (1_000 * begun++) / perSecond)
        if (this.#stopped.signal.aborted) return
        counts.items += 1
        await tried(() => (load ? load(item as never) : visit(String(item))))
      }
    }
    await Promise.all(Array.from({ length: concurrency }, workOff))
  }

  async #until(due: number): Promise<void> {
    const waitMs = due - this.#clock.ticks()
    if (waitMs > 0) await sleep(waitMs, this.#stopped.signal).catch(() => {})
  }
}

/** Runs in a scope of its own, and no longer than a load may take: an item that hangs must not hold up the rest. */
function inTime<T>(label: string, fn: () => PromiseLike<T> | T): Promise<T> {
  const scope = new Scope('task', `warm:${label}:${uuid()}`, `warm ${label}`)
  const late = () =>
    new RungError(
      'CACHE_LOAD_TIMEOUT',
      `Warming "${label}" took longer than ${itemMsMax} ms for one of its list. Make the load faster, or take it off the list.`,
    )
  return runInTime(scope, itemMsMax, late, fn)
}
