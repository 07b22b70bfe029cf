import { AsyncLocalStorage } from 'node:async_hooks'
import { after, type Clock, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { advance, covers, furthest, type Lsn, nowhere, type Position } from '../../kernel/position.ts'
import { type Random, systemRandom } from '../../kernel/random.ts'
import { currentScope, runInTime, Scope } from '../../kernel/scope.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import type { Ride, Riding } from '../data/rides.ts'
import { BoundedMap, type EntryFacts } from './bounded.ts'
import { BriefMap } from './brief.ts'
import type { Bus, Invalidation, InvalidationLog } from './contract.ts'
import type { EdgeCache } from './edge.ts'
import { type Entry, type Lifetimes, type SharedEntry, type Stored, store, timesOf } from './entry.ts'
import { Follower } from './follower.ts'
import { bounded, defineKey, groupOf, type Key, type KeyPart, keyText, ownTagTexts, tagTexts } from './keys.ts'
import type { SharedCache, Ticket } from './shared.ts'
import { type GroupStats, Groups, type Warmed } from './stats.ts'
import { positionOf, type Tag, Tags, unchanged } from './tags.ts'

export interface CacheOptions<Value = unknown> {
  /** How long a value is fresh. A tenth less at random, so that what was loaded together does not expire together. */
  ttl: Duration
  /** How much longer it may be given out while it is loaded anew, or cannot be. Default 0. Never after an invalidation. */
  grace?: Duration
  /**
   * What it depends on, known before or from the value; who changes one of them says `tx.invalidate`. `'inherit'`: on what the
   * entries depend on that the load took from the cache.
   */
  tags?: readonly string[] | ((value: Stored<Value>) => readonly string[]) | 'inherit'
  /** Instead of `ttl`, where the load gave nothing (`null`, `undefined`). Default 10 s. */
  absentTtl?: Duration
  /** How long a failure is remembered, by this process. Default: not at all. */
  errorTtl?: Duration
  /** How long a reader waits for a load before it takes a value in its grace. Default: not at all. */
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
  /** Tags of the entries that it has taken from the cache so far, as any module may write them. */
  inherited(): string[]
}

export type Load<Value> = (context: LoadContext) => PromiseLike<Value> | Value

/** The cache as a module sees it. Values are plain JSON (dates become text), frozen, and shared by all who read them. */
export interface Cache {
  /**
   * The value of the key; where there is none it is loaded, once for all who ask. Inside a transaction it is always loaded, and
   * not kept. Nobody gets a value that is older than what he wrote himself.
   * @throws what `load` throws; CACHE_LOAD_TIMEOUT; CACHE_INVALID for a key, a tag or options that mean nothing
   */
  get<Value>(key: Key<Value> | string, options: CacheOptions<Value>, load: Load<Value>): Promise<Stored<Value>>
  /** The same for several: `load` gets those that are missing, together, and gives their values in order. */
  getMany<Id, Value>(
    ids: readonly Id[],
    options: Omit<CacheOptions<Value>, 'tags'> & {
      key: (id: Id) => Key<Value> | string
      tags?: (id: Id) => readonly string[]
    },
    load: (missing: readonly Id[]) => PromiseLike<readonly Value[]>,
  ): Promise<Stored<Value>[]>
  /** `fn`, with what it gives kept by its arguments. `name` is that of the keys, as in `defineKey`. */
  cached<Args extends readonly KeyPart[], Value>(
    name: string,
    options: CachedOptions<Args, Value>,
    fn: (...args: Args) => PromiseLike<Value> | Value,
  ): (...args: Args) => Promise<Stored<Value>>
  /** Makes every entry with one of the tags useless, everywhere, before it resolves. Inside a transaction: when it commits. */
  invalidate(tags: readonly string[]): Promise<void>
}

/** Part of a transaction's handle. */
export interface Invalidating {
  /** Makes every entry of the cache with one of the tags useless when this transaction commits. */
  invalidate(tags: readonly string[]): void
}

export interface CacheParts {
  log: InvalidationLog
  /** The database whose log it is. */
  database: string
  /** Of the memory layer. */
  bytesMax: number
  inTransaction(): boolean
  /** Nothing is kept: every value is loaded. */
  off?: boolean
  bus: Bus
  shared?: SharedCache | undefined
  edge?: EdgeCache | undefined
  /** What else rides a commit with invalidations: for caches that can only be told later. */
  outbox?: ((names: readonly string[]) => readonly Ride[]) | undefined
  /** Something went wrong that the next try may mend. */
  failed(error: unknown): void
  clock?: Clock
  random?: Random
}

/** A load that is under way. Who comes while nothing has changed shares it. */
interface Flight {
  readonly begun: Begun
  readonly promise: Promise<Landed>
}

type Landed = Pick<Entry, 'value' | 'position'> & { readonly names: readonly string[] }

/** One question, with what it is about in the forms in which it is needed. */
interface Asked {
  text: string
  module: string
  options: CacheOptions
  load: Load<unknown>
  scope: Scope | undefined
  stats: GroupStats
}

const defaults = { absentTtlMs: 10_000, hardTimeoutMs: 30_000 }
/** Without news of the log for so long, what is in memory is only better than nothing. */
const trustedMsMax = 1_000
const errorsMax = 1_000

/** What is cached for all modules, by one process. */
export class CacheCore {
  readonly groups = new Groups()
  /** What the last warming did. */
  warmed: Warmed | undefined
  readonly #tags = new Tags()
  readonly #parts: CacheParts
  readonly #clock: Clock
  readonly #random: Random
  readonly #entries: BoundedMap<Entry>
  readonly #flights = new BriefMap<string, Flight>()
  readonly #errors = new Map<string, { error: unknown; until: number }>()
  /** Tags of what a load takes from the cache, by the load's scope. */
  readonly #gathered = new WeakMap<Scope, Set<string>>()
  readonly #follower: Follower
  #started = false
  #purges: string | undefined
  #starting: Promise<void> | undefined
  readonly #filling = new AsyncLocalStorage<true>()
  #fillings = 0

  constructor(parts: CacheParts) {
    this.#parts = parts
    this.#clock = parts.clock ?? systemClock
    this.#random = parts.random ?? systemRandom
    this.#entries = new BoundedMap({ bytesMax: parts.bytesMax, onLeave: (_key, { tags }) => this.#tags.release(tags) })
    this.#follower = new Follower({
      log: parts.log,
      bus: parts.bus,
      database: parts.database,
      clock: this.#clock,
      apply: (rows, position) => this.#apply(rows, position),
      lost: () => this.#tags.invalidateAll(nowhere),
      stands: (mark) => parts.shared?.stands(mark),
      failed: parts.failed,
    })
  }

  get size(): { entries: number; bytes: number; bytesMax: number } {
    return { entries: this.#entries.size, bytes: this.#entries.bytes, bytesMax: this.#parts.bytesMax }
  }

  get shared(): SharedCache | undefined {
    return this.#parts.shared
  }

  /** What `fn` takes is in every layer then, also what only the memory had: where a shared layer is, that is asked instead. */
  async fill<T>(fn: () => Promise<T>): Promise<T> {
    this.#fillings += 1
    try {
      return await this.#filling.run(true, fn)
    } finally {
      this.#fillings -= 1
    }
  }

  survey(max: number): EntryFacts[] {
    return this.#entries.survey(max)
  }

  forModule(module: string | undefined, write: (fn: (tx: Invalidating) => void) => Promise<void>): Cache {
    const owner = module ?? ''
    const ask = (key: Key<unknown> | string, options: CacheOptions, load: Load<unknown>) =>
      this.#get(owner, key, options, load)
    return {
      get: ask as Cache['get'],
      getMany(ids, { key, tags, ...options }, load) {
        const together = collect(load)
        return Promise.all(
          ids.map((id) =>
            ask(key(id), { ...options, ...(tags && { tags: tags(id) }) } as CacheOptions, () => together(id)),
          ),
        ) as never
      },
      cached<Args extends readonly KeyPart[], Value>(
        name: string,
        { tags, ...options }: CachedOptions<Args, Value>,
        fn: (...args: Args) => PromiseLike<Value> | Value,
      ) {
        const keyOf = defineKey<Value, Args>(name)
        return (...args: Args) => {
          const own = typeof tags === 'function' ? (value: Stored<Value>) => tags(value, ...args) : tags
          const asked = { ...options, ...(own && { tags: own }) } as CacheOptions
          return ask(keyOf(...args), asked, () => fn(...args)) as Promise<Stored<Value>>
        }
      },
      invalidate: (tags) => write((tx) => tx.invalidate(tags)),
    }
  }

  /** `invalidate` of one transaction. */
  invalidatingIn(riding: Riding): Invalidating {
    const names = new Set<string>()
    return {
      invalidate: (tags) => {
        const texts = ownTagTexts(riding.module ?? '', tags)
        if (texts.length === 0) return
        if (names.size === 0) {
          const committed = (id: number, at: Lsn | undefined) => this.#committed(id, [...names], at)
          const { log, outbox } = this.#parts
          riding.ride(() => [log.append([...names], committed), ...(outbox?.([...names]) ?? [])])
        }
        for (const text of texts) names.add(text)
      },
    }
  }

  /**
   * What the edge was told is known here when this resolves. `purges` is what a request has brought along from there, another
   * text after each purge. So who writes through the edge, and reads through it, sees that on any node, whoever he is.
   * False where the log cannot be read: then the edge must not keep what is answered.
   */
  caughtUp(purges: string): Promise<boolean> | undefined {
    if (purges === this.#purges || !this.#started) return undefined
    return this.#follower.look().then(
      () => {
        this.#purges = purges
        return true
      },
      () => false,
    )
  }

  /** Resolves when all that was committed before is known here. */
  look(): Promise<void> {
    return this.#follower.look()
  }

  async close(): Promise<void> {
    await this.#starting?.catch(() => {})
    await this.#follower.stop()
    await this.#parts.bus.close()
    await this.#parts.shared?.close()
    await this.#parts.edge?.close()
  }

  /** It has happened: nobody here is to see what was before, and nobody elsewhere who hears of this one's answer. */
  async #committed(id: number, names: readonly string[], at: Lsn | undefined): Promise<void> {
    const { shared, edge, bus, database } = this.#parts
    const position = at === undefined ? nowhere : advance(nowhere, database, at)
    this.#tags.invalidate(names, position)
    const told = await this.#tellShared(names, position)
    const purged = await edge?.invalidate(names)
    if (told !== undefined || !shared) this.#follower.applied(id)
    bus.ring([...(told === undefined ? [] : [knownIn(told, id)]), ...(purged ? [knownIn('edge', id)] : [])])
  }

  /** What others have committed. Where the writer has not told the shared layer, it may be dead: then that is told here. */
  async #apply(rows: readonly Invalidation[], position: Position): Promise<void> {
    const { shared, edge } = this.#parts
    const namesOf = (some: readonly Invalidation[]) => [...new Set(some.flatMap(({ tags }) => tags))]
    const names = namesOf(rows)
    this.#tags.invalidate(names, position)
    const epoch = shared?.epoch
    const untold = rows.filter(({ id }) => epoch === undefined || !this.#follower.isKnown(knownIn(epoch, id)))
    if (untold.length > 0) await this.#tellShared(namesOf(untold), position)
    const unpurged = rows.filter(({ id }) => edge && !this.#follower.isKnown(knownIn('edge', id)))
    if (unpurged.length > 0) await edge?.invalidate(namesOf(unpurged))
  }

  /** Gives the epoch in which the layer that all processes share knows it; `undefined` also where there is none. */
  async #tellShared(names: readonly string[], position: Position): Promise<string | undefined> {
    const { shared } = this.#parts
    const told = await shared?.invalidate(names)
    // What was taken from there before it knew, or before it was known that it cannot be told.
    if (shared) this.#tags.invalidate(names, position)
    return told
  }

  #get(module: string, key: Key<unknown> | string, options: CacheOptions, load: Load<unknown>): Promise<unknown> {
    const stats = this.groups.of(module, groupOf(key))
    const scope = currentScope()
    const asked: Asked = { text: keyText(module, key), module, options, load, scope, stats }
    if (this.#parts.off || this.#parts.inTransaction()) return this.#straight(asked)
    if (scope?.recall) return recalled(scope).then(() => this.#get(module, key, options, load))
    const behind = this.#started ? scope && this.#follower.ensure(scope) : this.#start()
    if (behind === undefined) return this.#look(asked)
    return behind.then(
      () => this.#get(module, key, options, load),
      () => this.#straight(asked),
    )
  }

  /** Where there is a layer outside of this process: it must hear of what this process writes, also if it never reads. */
  async open(): Promise<void> {
    if (this.#parts.shared || this.#parts.edge) await this.#start().catch(this.#parts.failed)
  }

  #start(): Promise<void> {
    this.#starting ??= Promise.all([this.#follower.start(), this.#parts.shared?.start()])
      .then(() => {
        this.#started = true
      })
      .finally(() => {
        this.#starting = undefined // after a failure the next reader tries again
      })
    return this.#starting
  }

  /** Without the cache: it must not be asked, or cannot say what it would have to. */
  async #straight({ load, scope, stats, module, options: { tags = [] } }: Asked): Promise<unknown> {
    stats.bypassed += 1
    const signal = scope?.signal ?? new AbortController().signal
    const { value } = store(await load({ signal, inherited: () => [] }))
    // What this load took from the cache was noted in the same scope.
    if (tags !== 'inherit') {
      this.#gather(scope, () => tagTexts(module, typeof tags === 'function' ? tags(value as never) : tags))
    }
    return value
  }

  /** Who has seen this has seen its position, and depends on its tags. */
  #taken(landed: Landed | Entry, scope: Scope | undefined): unknown {
    if (scope !== undefined) {
      if (landed.position !== nowhere) scope.position = furthest(scope.position, landed.position)
      this.#gather(scope, () => ('names' in landed ? landed.names : landed.tags.map(({ name }) => name)))
    }
    return landed.value
  }

  #gather(scope: Scope | undefined, names: () => readonly string[]): void {
    if (scope?.kind !== 'task') return
    const gathered = this.#gathered.get(scope)
    if (gathered) for (const name of names()) gathered.add(name)
  }

  #look(asked: Asked): Promise<unknown> {
    const { text, scope, stats, options } = asked
    const now = this.#clock.now()
    const entry = this.#parts.shared?.up && this.#isFilling() ? undefined : this.#entries.get(text)
    let graceful: Entry | undefined
    if (entry !== undefined) {
      if (!unchanged(entry.tags, entry.asOf)) this.#entries.delete(text)
      else if (reaches(entry, entry.tags.length > 0, scope)) {
        if (now < entry.freshUntil && this.#follower.behindMs() <= trustedMsMax) {
          stats.hits += 1
          if (now >= entry.refreshAt) this.#refresh(asked)
          return Promise.resolve(this.#taken(entry, scope))
        }
        if (now < entry.staleUntil || now < entry.freshUntil) graceful = entry
      }
    }
    const remembered = this.#errors.get(text)
    if (remembered !== undefined) {
      if (now < remembered.until) return graceful ? this.#gracefully(asked, graceful) : Promise.reject(remembered.error)
      this.#errors.delete(text)
    }
    if (!graceful) return this.#join(asked).then((landed) => this.#taken(landed, scope))
    // In its time, but without news of the log: only where there is nothing better.
    const waitMs = now < graceful.freshUntil ? Number.POSITIVE_INFINITY : ms(options.softTimeout ?? 0)
    if (waitMs > 0) return this.#waitThenGrace(asked, graceful, waitMs)
    this.#refresh(asked)
    return this.#gracefully(asked, graceful)
  }

  #isFilling(): boolean {
    return this.#fillings > 0 && this.#filling.getStore() === true
  }

  #gracefully({ stats, scope }: Asked, graceful: Entry): Promise<unknown> {
    stats.graces += 1
    return Promise.resolve(this.#taken(graceful, scope))
  }

  async #waitThenGrace(asked: Asked, graceful: Entry, waitMs: number): Promise<unknown> {
    const { promise: late, resolve } = Promise.withResolvers<undefined>()
    const forget = Number.isFinite(waitMs) ? after(waitMs, () => resolve(undefined)) : () => {}
    try {
      const landed = await Promise.race([this.#join(asked), late])
      if (landed) return this.#taken(landed, asked.scope)
    } catch {
      // The load failed: what there is, is better.
    } finally {
      forget()
    }
    return this.#gracefully(asked, graceful)
  }

  #refresh(asked: Asked): void {
    if (!this.#flights.has(asked.text)) void this.#join(asked).catch(() => {}) // counted there
  }

  /** The load that is under way, where it began after everything that this reader must see; else one of its own. */
  #join(asked: Asked): Promise<Landed> {
    const { text, module, options, scope, stats } = asked
    const flight = this.#flights.get(text)
    if (flight) {
      const { tags, asOf } = flight.begun
      const current = tags === undefined ? asOf === this.#tags.now : unchanged(tags, asOf)
      if (current && reaches(flight.begun, tags === undefined || tags.length > 0, scope)) {
        stats.coalesced += 1
        return flight.promise
      }
    }
    const asOf = this.#tags.now
    const known = options.tags ?? []
    const names = typeof known === 'function' || known === 'inherit' ? undefined : tagTexts(module, known)
    const tags = names && this.#tags.hold(names)
    const position = furthest(scope?.position ?? nowhere, tags ? positionOf(tags) : this.#tags.position)
    const begun = { asOf, position, names, tags }
    const promise = this.#fly(asked, begun)
    this.#flights.set(text, { begun, promise })
    return promise
  }

  async #fly(asked: Asked, begun: Begun): Promise<Landed> {
    const { text, scope, stats } = asked
    const { shared } = this.#parts
    try {
      const lease = shared && (await shared.find(text, begun.names ?? [], good))
      if (lease?.kind !== 'found') return await this.#loadAndKeep(asked, begun, lease)
      stats.sharedHits += 1
      this.#keep(text, lease.found, begun)
      return lease.found
    } finally {
      if (begun.tags) this.#tags.release(begun.tags)
      if (this.#flights.get(text)?.begun === begun) this.#flights.delete(text)
    }

    function good({ names, position }: SharedEntry): boolean {
      return names.length > 0 || reaches({ position }, false, scope)
    }
  }

  /** Begins now, and sees everything up to `position`. What comes of it is kept, unless it may be older than an invalidation. */
  async #loadAndKeep(asked: Asked, begun: Begun, lease: Ticket | undefined): Promise<Landed> {
    const { text, stats, options } = asked
    const { shared } = this.#parts
    try {
      const landed = await this.#load(asked, begun)
      const { ttl, grace = 0, absentTtl = defaults.absentTtlMs } = options
      const lifetimes: Lifetimes = { ttlMs: ms(ttl), graceMs: ms(grace), absentTtlMs: ms(absentTtl) }
      const times = timesOf(landed.value, lifetimes, this.#clock.now(), this.#random())
      const kept = { ...landed, ...times }
      this.#keep(text, kept, begun)
      if (lease && !(await shared!.store(lease, kept)) && this.#isFilling()) await this.#offer(text, kept, begun)
      return landed
    } catch (error) {
      if (lease) await shared!.giveUp(lease)
      stats.failures += 1
      if (lease?.graceful) return lease.graceful
      if (options.errorTtl !== undefined) this.#remember(text, error, ms(options.errorTtl))
      throw error
    }
  }

  async #load(
    { text, module, options, load, stats }: Asked,
    { position, names }: Begun,
  ): Promise<Landed & { json: string | undefined; bytes: number }> {
    const began = this.#clock.ticks()
    const scope = new Scope('task', `cache:${text}`, `cache ${stats.group}`)
    // Several wait for it: it is nobody's own, and does not end with any of them.
    scope.position = position
    // What it takes from the cache must be as new as what the shared layer had been told before the load began.
    scope.positionUnknown = this.#parts.shared?.up ?? false
    const gathered = new Set<string>()
    this.#gathered.set(scope, gathered)
    const limitMs = ms(options.hardTimeout ?? defaults.hardTimeoutMs)
    const late = () =>
      new RungError(
        'CACHE_LOAD_TIMEOUT',
        `What "${stats.group}" of module "${stats.module}" keeps was not loaded within ${limitMs} ms. Make the load faster, or give it a longer hardTimeout.`,
      )
    const inherited = () => [...gathered].map((name) => `@${name}`)
    stats.loads += 1
    try {
      const stored = store(await runInTime(scope, limitMs, late, () => load({ signal: scope.signal, inherited })))
      return { ...stored, position, names: names ?? namesFrom(options.tags, stored.value) }
    } finally {
      stats.loadMs += this.#clock.ticks() - began
    }

    function namesFrom(tags: CacheOptions['tags'], value: unknown): string[] {
      if (typeof tags === 'function') return tagTexts(module, tags(value as never))
      return bounded([...gathered])
    }
  }

  /**
   * The shared layer has refused what it may take all the same: tags that are known only from the value were new to it. By now it
   * knows them, and counts; what this process keeps after a look that began later was not invalidated before.
   */
  async #offer(text: string, kept: SharedEntry, { asOf }: Begun): Promise<void> {
    const shared = this.#parts.shared!
    const ticket = await shared.find(text, kept.names, () => true)
    if (ticket?.kind !== 'ticket') return
    const tags = this.#tags.hold(kept.names)
    try {
      await this.#follower.look()
      if (unchanged(tags, asOf)) await shared.store(ticket, kept)
      else await shared.giveUp(ticket)
    } catch {
      await shared.giveUp(ticket) // the log cannot be read; who asked has his value
    } finally {
      this.#tags.release(tags)
    }
  }

  #keep(text: string, kept: SharedEntry, { asOf }: Begun): void {
    const { value, position, names, refreshAt, freshUntil, staleUntil, bytes } = kept
    const tags = this.#tags.hold(names)
    if (unchanged(tags, asOf)) {
      this.#entries.set(text, { value, position, tags, asOf, refreshAt, freshUntil, staleUntil }, bytes)
    } else this.#tags.release(tags)
  }

  #remember(text: string, error: unknown, forMs: number): void {
    if (this.#errors.size >= errorsMax) this.#errors.clear()
    this.#errors.set(text, { error, until: this.#clock.now() + forMs })
  }
}

/** Of a load: the count of invalidations and the position when it began, and its tags where they are known before: else only from the value. */
interface Begun {
  asOf: number
  position: Position
  names: readonly string[] | undefined
  tags: readonly Tag[] | undefined
}

/** Said on the bus by who has told a place of a row. During a failover two nodes may use two engines: what one of them was told, the other does not know. */
function knownIn(place: string, id: number): string {
  return `${place}:${id}`
}

/** Without tags nothing but its position says whether it can be shown to a reader who has written. */
function reaches({ position }: { position: Position }, tagged: boolean, scope: Scope | undefined): boolean {
  return tagged || scope === undefined || scope.position === nowhere || covers(position, scope.position)
}

/** Several may ask at once: all wait for the one answer. */
function recalled(scope: Scope): Promise<void> {
  const recall = scope.recall!
  const { promise: once, resolve } = Promise.withResolvers<void>()
  scope.recall = () => once // before it begins, since finding out who asks sets it aside
  const asked = recall().finally(() => {
    scope.recall = undefined
  })
  resolve(asked)
  return once
}

const parsed = new Map<string, number>()

/** Options are written where they are used: the same few texts again and again. */
function ms(duration: Duration): number {
  if (typeof duration === 'number') return duration
  let known = parsed.get(duration)
  if (known === undefined) {
    known = toMs(duration)
    if (parsed.size < 1_000) parsed.set(duration, known)
  }
  return known
}

/** What is asked for in one turn of the event loop is loaded at once. */
function collect<Id, Value>(load: (ids: readonly Id[]) => PromiseLike<readonly Value[]>): (id: Id) => Promise<Value> {
  let waiting: { id: Id; resolve(value: Value): void; reject(error: unknown): void }[] = []
  async function flush(): Promise<void> {
    const all = waiting
    waiting = []
    try {
      const values = await load(all.map(({ id }) => id))
      for (const [index, one] of all.entries()) one.resolve(values[index]!)
    } catch (error) {
      for (const one of all) one.reject(error)
    }
  }
  return (id) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(() => void flush())
      waiting.push({ id, resolve, reject })
    })
}
