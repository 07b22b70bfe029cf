import { atMost, type Clock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { covers, furthest, nowhere, type Position } from '../../kernel/position.ts'
import type { Random } from '../../kernel/random.ts'
import { runInTime, Scope } from '../../kernel/scope.ts'
import { toMs } from '../../kernel/units.ts'
import type { CacheOptions, Load } from './api.ts'
import { BriefMap } from './brief.ts'
import type { ReadOutcome } from './channels.ts'
import { type Entry, type SharedEntry, store, timesOf } from './entry.ts'
import type { Filling } from './filling.ts'
import type { InheritedTags } from './inherited-tags.ts'
import type { Invalidator } from './invalidator.ts'
import { bounded, tagTexts } from './keys.ts'
import type { Memory } from './memory.ts'
import type { Ticket } from './shared.ts'
import type { SpreadCache } from './spread.ts'
import type { GroupStats } from './stats.ts'
import { positionOf, type Tag, unchanged } from './tags.ts'

/** One call of `get`. */
export interface ReadRequest {
  /** With the module's name. */
  key: string
  module: string
  options: CacheOptions
  load: Load<unknown>
  scope: Scope | undefined
  stats: GroupStats
  /** When it began to wait, in ms on the monotonic clock; `undefined` if it has not, or if nobody wants to know. */
  began: number | undefined
  /** What became of it, where a load was asked for. */
  outcome: ReadOutcome
}

/** What a load returns to its readers. */
export type Loaded = Pick<Entry, 'value' | 'position' | 'seen'> & { readonly names: readonly string[] }

/** What was known when a load began. */
interface LoadStart {
  /** On the count of invalidations of this process. */
  asOf: number
  /** The load sees at least this much of the databases. */
  position: Position
  /** `undefined` if the tags are known only from the value. */
  names: readonly string[] | undefined
  tags: readonly Tag[] | undefined
}

interface PendingLoad {
  readonly start: LoadStart
  readonly promise: Promise<Loaded>
}

export interface LoadsParts {
  memory: Memory
  invalidator: Invalidator
  shared: SpreadCache | undefined
  inherited: InheritedTags
  filling: Filling
  /** See `CacheParts`. */
  alone: boolean
  clock: Clock
  random: Random
}

/** A log is waited for at most this long. A value is then loaded without the cache, or not shared, so it is never stale. */
export const readyMsMax = 1_000
/** The same, once the log has been silent for a while. */
const silentMsMax = 100

const defaults = { absentTtlMs: 10_000, hardTimeoutMs: 30_000 }
const errorsMax = 1_000

/** Loads values: one load at a time for a key, in this process and, through the shared layer's lease, in all of them. */
export class Loads {
  readonly #parts: LoadsParts
  readonly #pending = new BriefMap<string, PendingLoad>()
  readonly #errors = new Map<string, { error: unknown; until: number }>()

  constructor(parts: LoadsParts) {
    this.#parts = parts
  }

  isPending(key: string): boolean {
    return this.#pending.has(key)
  }

  /** Returns the failure that is remembered for the key. */
  failureOf(key: string, now: number): { error: unknown } | undefined {
    const failure = this.#errors.get(key)
    if (failure === undefined || now < failure.until) return failure
    this.#errors.delete(key)
    return undefined
  }

  /** Joins the pending load if it began after everything that this reader must see; otherwise begins another one. */
  join(request: ReadRequest): Promise<Loaded> {
    const { key, module, options, scope, stats } = request
    const { tags: known } = this.#parts.memory
    const pending = this.#pending.get(key)
    if (pending) {
      const { tags, asOf } = pending.start
      const isCurrent = tags === undefined ? asOf === known.now : unchanged(tags, asOf)
      if (isCurrent && reaches(pending.start, tags === undefined || tags.length > 0, scope)) {
        stats.coalesced += 1
        request.outcome = 'coalesced'
        return pending.promise
      }
    }
    const asOf = known.now
    const own = options.tags ?? []
    const names = typeof own === 'function' || own === 'inherit' ? undefined : tagTexts(module, own)
    const tags = names && known.hold(names)
    const position = furthest(scope?.position ?? nowhere, tags ? positionOf(tags) : known.position)
    const start = { asOf, position, names, tags }
    const promise = this.#findOrLoad(request, start)
    this.#pending.set(key, { start, promise })
    return promise
  }

  async #findOrLoad(request: ReadRequest, start: LoadStart): Promise<Loaded> {
    const { key, scope, stats } = request
    const { shared, memory } = this.#parts
    const isGood = ({ names, position }: SharedEntry) => reaches({ position }, names.length > 0, scope)
    try {
      const found = shared && (await shared.find(key, start.names ?? [], isGood))
      if (found?.kind !== 'found') return await this.#loadAndKeep(request, start, found)
      stats.sharedHits += 1
      request.outcome = 'shared'
      memory.keep(key, found.found, start.asOf)
      return found.found
    } finally {
      if (start.tags) memory.tags.release(start.tags)
      if (this.#pending.get(key)?.start === start) this.#pending.delete(key)
    }
  }

  /** Keeps the value, unless it may be older than an invalidation. */
  async #loadAndKeep(request: ReadRequest, start: LoadStart, ticket: Ticket | undefined): Promise<Loaded> {
    const { key, stats, options } = request
    const { alone, shared, memory, filling, clock, random } = this.#parts
    try {
      const found = await this.#load(request, start)
      const isHeard = alone || (await this.#hear())
      const seen = alone ? undefined : furthest(found.seen, memory.tags.positionOf(found.names))
      const loaded = { ...found, seen: seen === found.position ? undefined : seen }
      const { ttl, grace = 0, absentTtl = defaults.absentTtlMs } = options
      const lifetimes = { ttlMs: toMs(ttl), graceMs: toMs(grace), absentTtlMs: toMs(absentTtl) }
      const kept = { ...loaded, ...timesOf(loaded.value, lifetimes, clock.now(), random()) }
      const isCurrent = memory.keep(key, kept, start.asOf)
      if (ticket && !(isHeard && isCurrent)) await shared!.giveUp(ticket)
      else if (ticket && !(await shared!.store(ticket, kept)) && filling.isOn) await this.#offerAgain(key, kept, start)
      return loaded
    } catch (error) {
      if (ticket) await shared!.giveUp(ticket)
      stats.failures += 1
      request.outcome = ticket?.graceful ? 'grace' : 'failed'
      if (ticket?.graceful) return ticket.graceful
      if (options.errorTtl !== undefined) this.#remember(key, error, toMs(options.errorTtl))
      throw error
    }
  }

  /**
   * A load may see a commit of which this process has not heard yet, or, on a replica or in an entry, miss one of which the shared layer has been
   * told already. So the log is read after each load: then the tags say up to where the value may have seen, and whether it is current.
   * @returns false if the log cannot be read soon enough
   */
  async #hear(): Promise<boolean> {
    const { invalidator } = this.#parts
    const waitMs = invalidator.isCurrent ? readyMsMax : silentMsMax
    let isHeard = false
    const heard = invalidator.look().then(
      () => {
        isHeard = true
      },
      () => {}, // its failure was told
    )
    await atMost(waitMs, heard)
    return isHeard
  }

  async #load(
    { key, module, options, load, stats, scope: reader }: ReadRequest,
    { position, names }: LoadStart,
  ): Promise<Loaded & { seen: Position; json: string | undefined; bytes: number }> {
    const { clock, inherited } = this.#parts
    const began = clock.ticks()
    // A scope of its own: several readers wait for the load, and it must not end with one of them.
    const scope = new Scope('task', `cache:${key}`, `cache ${stats.group}`)
    scope.position = position
    scope.traceparent = reader?.traceparent // of the reader who began it: what it does is seen there
    const collected = inherited.begin(scope)
    const limitMs = toMs(options.hardTimeout ?? defaults.hardTimeoutMs)
    const late = () =>
      new RungError(
        'CACHE_LOAD_TIMEOUT',
        `The value of "${stats.group}" of module "${stats.module}" was not loaded within ${limitMs} ms. Make the load faster, or raise its hardTimeout.`,
      )
    const context = { signal: scope.signal, inherited: () => [...collected].map((name) => `@${name}`) }
    stats.loads += 1
    try {
      const stored = store(await runInTime(scope, limitMs, late, () => load(context)))
      const { tags } = options
      const known = names ?? (typeof tags === 'function' ? tagTexts(module, tags(stored.value as never)) : undefined)
      return { ...stored, position, seen: scope.position, names: known ?? bounded([...collected]) }
    } finally {
      stats.loadMs += clock.ticks() - began
    }
  }

  /**
   * The shared layer refuses a value whose tags were known only from it and are new to the layer. By now the layer knows them, so the
   * value is offered again after a look at the log, unless one of its tags was invalidated meanwhile.
   */
  async #offerAgain(key: string, kept: SharedEntry, { asOf }: LoadStart): Promise<void> {
    const { memory, invalidator } = this.#parts
    const shared = this.#parts.shared!
    const ticket = await shared.find(key, kept.names, () => true)
    if (ticket?.kind !== 'ticket') return
    const tags = memory.tags.hold(kept.names)
    try {
      await invalidator.look()
      if (unchanged(tags, asOf)) await shared.store(ticket, kept)
      else await shared.giveUp(ticket)
    } catch {
      await shared.giveUp(ticket) // the log cannot be read; the reader has its value
    } finally {
      memory.tags.release(tags)
    }
  }

  #remember(key: string, error: unknown, forMs: number): void {
    if (this.#errors.size >= errorsMax) this.#errors.clear()
    this.#errors.set(key, { error, until: this.#parts.clock.now() + forMs })
  }
}

/** An entry without tags is judged by its position alone: a reader that has written must not get an older one. */
export function reaches({ position }: { position: Position }, isTagged: boolean, scope: Scope | undefined): boolean {
  return isTagged || scope === undefined || scope.position === nowhere || covers(position, scope.position)
}
