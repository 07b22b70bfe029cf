import { after } from '../../kernel/clock.ts'
import { furthest, nowhere } from '../../kernel/position.ts'
import { currentScope, type Scope } from '../../kernel/scope.ts'
import { toMs } from '../../kernel/units.ts'
import type { CacheOptions, Load } from './api.ts'
import { type CacheReadDone, cacheReadDone, type ReadOutcome } from './channels.ts'
import { type Entry, store } from './entry.ts'
import { groupOf, type Key, keyText, tagTexts } from './keys.ts'
import { type Loaded, Loads, type LoadsParts, type ReadRequest, reaches, readyMsMax } from './loads.ts'
import type { Groups } from './stats.ts'

export interface ReaderParts extends LoadsParts {
  groups: Groups
  /** Returns `undefined` once the log is followed, otherwise when it is. */
  started(): Promise<void> | undefined
  inTransaction(): boolean
  /** Nothing is kept: every value is loaded. */
  off: boolean
}

/**
 * Answers `get`:
 *
 *     may this session be answered from here? (else: read the log first; if that fails: load without the cache)
 *       → memory: a fresh entry, or one in its grace
 *       → `loads.ts`: a pending load, the shared layer, the load
 */
export class Reader {
  readonly #parts: ReaderParts
  readonly #loads: Loads
  /** Scopes that have waited in vain: their further reads do not wait again. */
  readonly #late = new WeakSet<Scope>()

  constructor(parts: ReaderParts) {
    this.#parts = parts
    this.#loads = new Loads(parts)
  }

  get(module: string, key: Key<unknown> | string, options: CacheOptions, load: Load<unknown>): Promise<unknown> {
    const { groups, off, inTransaction } = this.#parts
    const scope = currentScope()
    const stats = groups.of(module, groupOf(key))
    const request: ReadRequest = {
      key: keyText(module, key),
      module,
      options,
      load,
      scope,
      stats,
      began: undefined,
      outcome: 'loaded', // unless something else becomes of it
    }
    if (off || inTransaction() || (scope && this.#late.has(scope))) return this.#bypass(request)
    const waiting = this.#ready(scope)
    if (waiting === undefined) return this.#read(request) // without a turn of the event loop: most reads are hits
    this.#time(request)
    return this.#soon(waiting, scope).then((isUsable) => (isUsable ? this.#read(request) : this.#bypass(request)))
  }

  /**
   * Returns `undefined` if all that the scope has seen is applied here. Otherwise resolves when it is, to false if the log cannot be read
   * soon enough: its database may be away, and the value need not be of that database.
   */
  #ready(scope: Scope | undefined): Promise<boolean> | undefined {
    const again = () => this.#ready(scope) ?? true
    const recalled = scope?.recallPosition()
    if (recalled) return recalled.then(again)
    const behind = this.#parts.started() ?? (scope && this.#parts.invalidator.ensure(scope))
    return behind?.then(again, () => false)
  }

  async #bypass(request: ReadRequest): Promise<unknown> {
    const {
      load,
      scope,
      stats,
      module,
      options: { tags = [] },
    } = request
    this.#time(request)
    stats.bypassed += 1
    const signal = scope?.signal ?? new AbortController().signal
    const loading = Promise.resolve(load({ signal, inherited: () => [] }))
    const { value } = store(await loading.finally(() => this.#tell(request, 'bypassed')))
    // The load ran in the reader's own scope, where inherited tags were collected already.
    if (tags !== 'inherit') {
      const names = () => tagTexts(module, typeof tags === 'function' ? tags(value as never) : tags)
      this.#parts.inherited.add(scope, names)
    }
    return value
  }

  #read(request: ReadRequest): Promise<unknown> {
    const { key, scope, stats, options } = request
    const { memory, invalidator, clock } = this.#parts
    const now = clock.now()
    const found = this.#skipsMemory(key) ? undefined : memory.find(key)
    const entry = found && reaches(found, found.tags.length > 0, scope) ? found : undefined
    if (entry && now < entry.freshUntil && invalidator.isCurrent) {
      stats.hits += 1
      this.#tell(request, 'memory')
      if (now >= entry.refreshAt) this.#refresh(request)
      return Promise.resolve(this.#seen(entry, scope))
    }
    const fallback = entry && now < Math.max(entry.freshUntil, entry.staleUntil) ? entry : undefined
    const failure = this.#loads.failureOf(key, now)
    if (failure && fallback) return this.#serveGrace(request, fallback)
    if (failure) {
      this.#tell(request, 'failed')
      return Promise.reject(failure.error)
    }
    if (!fallback) return this.#load(request)
    // A fresh entry while the log cannot be read is served only if the load fails.
    const waitMs = now < fallback.freshUntil ? Number.POSITIVE_INFINITY : toMs(options.softTimeout ?? 0)
    if (waitMs > 0) return this.#loadOrGrace(request, fallback, waitMs)
    this.#refresh(request)
    return this.#serveGrace(request, fallback)
  }

  async #load(request: ReadRequest): Promise<unknown> {
    this.#time(request)
    try {
      return this.#seen(await this.#loads.join(request), request.scope)
    } finally {
      this.#tell(request, request.outcome)
    }
  }

  #skipsMemory(key: string): boolean {
    return this.#parts.filling.isOn && this.#parts.shared?.nodeOf(key).up === true
  }

  /** Waits for the load so long, or until it fails; then serves the entry that there is. */
  async #loadOrGrace(request: ReadRequest, fallback: Entry, waitMs: number): Promise<unknown> {
    const { promise: late, resolve } = Promise.withResolvers<undefined>()
    this.#time(request)
    const forget = Number.isFinite(waitMs) ? after(waitMs, () => resolve(undefined)) : () => {}
    try {
      const loaded = await Promise.race([this.#loads.join(request), late])
      if (loaded) {
        this.#tell(request, request.outcome)
        return this.#seen(loaded, request.scope)
      }
    } catch {
      // The load failed, and was counted there.
    } finally {
      forget()
    }
    return this.#serveGrace(request, fallback)
  }

  #serveGrace(request: ReadRequest, entry: Entry): Promise<unknown> {
    const { stats, scope } = request
    stats.graces += 1
    this.#tell(request, 'grace')
    return Promise.resolve(this.#seen(entry, scope))
  }

  #refresh(request: ReadRequest): void {
    if (!this.#loads.isPending(request.key)) void this.#loads.join(request).catch(() => {}) // counted there
  }

  /** A read that finds its value in memory at once is not timed: most are such. */
  #time(request: ReadRequest): void {
    if (request.scope && cacheReadDone.hasSubscribers) request.began ??= this.#parts.clock.ticks()
  }

  #tell({ scope, began, stats: { module, group } }: ReadRequest, outcome: ReadOutcome): void {
    if (scope === undefined || !cacheReadDone.hasSubscribers) return
    const durationMs = began === undefined ? 0 : this.#parts.clock.ticks() - began
    const done: CacheReadDone = { scope, module, group, outcome, durationMs }
    cacheReadDone.publish(done)
  }

  /** Reading an entry advances the reader's position, unless that is of long ago, and adds the entry's tags to the enclosing load. */
  #seen(read: Loaded | Entry, scope: Scope | undefined): unknown {
    if (scope !== undefined) {
      const seen = read.seen ?? read.position
      if (seen !== nowhere && !this.#parts.invalidator.isSettled(seen)) {
        scope.position = furthest(scope.position, seen)
      }
      this.#parts.inherited.add(scope, () => ('names' in read ? read.names : read.tags.map(({ name }) => name)))
    }
    return read.value
  }

  /** Resolves as the log says, or to false when it has said nothing for too long. */
  async #soon(waiting: Promise<boolean>, scope: Scope | undefined): Promise<boolean> {
    const { promise: late, resolve } = Promise.withResolvers<false>()
    const forget = after(readyMsMax, () => {
      if (scope) this.#late.add(scope)
      resolve(false)
    })
    return Promise.race([waiting, late]).finally(forget)
  }
}
