import { randomUUID } from 'node:crypto'
import { after, type Clock, sleep, systemClock } from '../../kernel/clock.ts'
import { backoffMs } from '../../kernel/random.ts'
import { decode, encode } from './coding.ts'
import type { Mark, Place } from './contract.ts'
import type { SharedEntry } from './entry.ts'
import type { Epoch, Read, SharedLayer } from './layer.ts'
import { type DatabaseLog, joinMarks, readLogs } from './logs.ts'

/** Permission to load a value, and to store it if none of its tags was invalidated meanwhile. */
export interface Ticket {
  kind: 'ticket'
  epoch: string
  key: string
  number: number
  leaseId: string
  /** Served if the load fails. */
  graceful: SharedEntry | undefined
}

export interface SharedOptions {
  layer: SharedLayer
  /** The logs of all databases of the app. */
  logs: readonly DatabaseLog[]
  /** Called when the layer is no longer used, and when it is used again. */
  changed(state: 'up' | 'down', cause: unknown): void
  clock?: Clock
}

const leaseMs = 5_000
/** How long a process waits for a load of another one. */
const waitMsMax = 2_000
const waitStepMs = { base: 10, max: 50 }
/** Waits between probes. An engine that failed is tried by one probe at a time, never by requests. */
const probeMs = { base: 100, max: 2_000 }
/** If the layer has missed more rows than this, a new epoch begins instead of telling it each. */
const newsMax = 10_000
const newsAtOnce = 500
const keptBeyondMs = 60_000
const markEveryMs = 1_000
/** Half of the time for which the log keeps its rows. */
const markAgeMsMax = 1_800_000

/**
 * The layer that all processes share: when it is trusted, and how a load is done once for all of them.
 *
 *     down ── probe: enter the epoch, tell what is new ──▶ up
 *      ▲                                                    │
 *      └── a call failed, the connection was lost, a flush ─┘
 *
 * While it is down, no request uses it or waits for it. The layer keeps a mark: it has been told all that the log held by then. A probe
 * tells it what came since, so no process has to remember what it could not tell.
 */
export class SharedCache implements Place {
  readonly fillsMemory = true
  readonly #layer: SharedLayer
  readonly #options: SharedOptions
  readonly #clock: Clock
  #epoch: string | undefined
  #epochLast: string | undefined
  #emptied = () => {}
  /** How many invalidations the layer was not told. */
  #missed = 0
  /** How often the engine may have become another one. What was learned of it before no longer holds. */
  #losses = 0
  #probing: Promise<void> | undefined
  #failures = 0
  #reported: 'up' | 'down' | undefined
  readonly #marks = new Map<string, Mark>()
  #markedAt = Number.NEGATIVE_INFINITY
  #closed = false

  constructor(options: SharedOptions) {
    this.#options = options
    this.#layer = options.layer
    this.#clock = options.clock ?? systemClock
    this.#layer.watch(() => {
      this.#losses += 1
      this.#down(new Error('the connection was lost'), this.#epoch)
    })
  }

  get up(): boolean {
    return this.#epoch !== undefined
  }

  /** The current epoch: what was told in another one is not known in this one. */
  get knownAs(): string | undefined {
    return this.#epoch
  }

  /** Calls `emptied` whenever the layer is used again and has lost what it held. */
  onEmptied(emptied: () => void): void {
    this.#emptied = emptied
  }

  /** Probes once. An engine that cannot be reached is tried again in the background. */
  async start(): Promise<void> {
    await this.#probe().catch(() => {})
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#epoch = undefined
    await this.#layer.close()
    await this.#probing?.catch(() => {})
  }

  facts() {
    return this.#layer.facts()
  }

  /** A probe finds out whether the layer's mark is of the history that the databases have now. */
  distrust(): void {
    this.#down(new Error('invalidations may have been missed'), this.#epoch)
  }

  /** Returns an entry that is good, or a ticket to load it, or `undefined` if the layer is down. */
  async find(
    key: string,
    names: readonly string[],
    good: (found: SharedEntry) => boolean,
  ): Promise<{ kind: 'found'; found: SharedEntry } | Ticket | undefined> {
    let leaseId: string | undefined
    const until = this.#clock.ticks() + waitMsMax
    for (let attempt = 0; ; attempt += 1) {
      const epoch = this.#epoch
      if (epoch === undefined) return undefined
      try {
        const read = await this.#layer.read(epoch, key, names)
        const seen = read !== 'stale' && read.entry ? decode(read.entry) : undefined
        // What it depends on may have been known only from the value: then it says itself which tags are asked for.
        const isAsAsked = !seen || sameNames(names, seen.entry.names)
        const counts = isAsAsked ? read : await this.#layer.read(epoch, key, seen.entry.names)
        if (read === 'stale' || counts === 'stale') return this.#down(new Error('its epoch has ended'), epoch)
        const isSame = isAsAsked || counts.entry?.equals(read.entry!) // else there is another one by now
        const found = seen && isSame && isCurrent(counts, seen.number) ? seen.entry : undefined
        const usable = found && good(found) ? found : undefined
        const now = this.#clock.now()
        if (usable && now < usable.refreshAt) return { kind: 'found', found: usable }
        const graceful = usable && now < usable.staleUntil ? usable : undefined
        leaseId ??= randomUUID()
        const opened = await this.#layer.open(epoch, key, names, { id: leaseId, ms: leaseMs }, read.entry)
        if (opened === 'stale') return this.#down(new Error('its epoch has ended'), epoch)
        if (opened.changed) continue // loaded by somebody between the two questions
        if (opened.leased || this.#clock.ticks() >= until) {
          return { kind: 'ticket', epoch, key, number: opened.number, leaseId, graceful }
        }
        if (graceful) return { kind: 'found', found: graceful } // somebody loads it
      } catch (error) {
        return this.#down(error, epoch)
      }
      await sleep(waitStepMs.base + backoffMs(attempt, waitStepMs.base, waitStepMs.max))
    }
  }

  /** Returns whether the entry was stored. */
  async store({ epoch, key, number, leaseId }: Ticket, entry: SharedEntry): Promise<boolean> {
    if (this.#epoch !== epoch) return false
    const ttlMs = Math.ceil(entry.staleUntil - this.#clock.now()) + keptBeyondMs
    try {
      const stored = await this.#layer.store(
        epoch,
        key,
        { bytes: encode(entry, number), number, tags: entry.names, ttlMs },
        leaseId,
      )
      if (stored === 'stale') this.#down(new Error('its epoch has ended'), epoch)
      return stored === true
    } catch (error) {
      this.#down(error, epoch)
      return false
    }
  }

  async giveUp({ epoch, key, leaseId }: Ticket): Promise<void> {
    if (this.#epoch !== epoch) return
    await this.#layer.release(epoch, key, leaseId).catch((error) => this.#down(error, epoch))
  }

  /** Returns the epoch in which the layer knows, or `undefined` if it will be told before it is used again. */
  async invalidate(names: readonly string[]): Promise<string | undefined> {
    for (let epoch = this.#epoch; epoch !== undefined; epoch = this.#epoch) {
      try {
        const told = await this.#layer.invalidate(epoch, names)
        if (told === true) return epoch
        this.#down(new Error('its epoch has ended'), epoch)
      } catch (error) {
        this.#down(error, epoch)
      }
    }
    this.#missed += 1
    return undefined
  }

  /** Notes in the layer, from time to time, that it has been told everything up to this mark of the database's log. */
  noteMark(database: string, mark: Mark): void {
    this.#marks.set(database, mark)
    if (this.#marks.size < this.#options.logs.length) return
    const epoch = this.#epoch
    const now = this.#clock.ticks()
    if (epoch === undefined || now - this.#markedAt < markEveryMs) return
    this.#markedAt = now
    void this.#layer.setMark(epoch, joinMarks(this.#marks)).then(
      (set) => set === true || this.#down(new Error('its epoch has ended'), epoch), // so also an idle process hears of a flush
      (error) => this.#down(error, epoch),
    )
  }

  /** A late failure in an epoch that has ended says nothing about the next one. */
  #down(cause: unknown, epoch: string | undefined): undefined {
    if (this.#closed || epoch !== this.#epoch) return undefined
    this.#report('down', cause)
    this.#epoch = undefined
    this.#probeLater()
    return undefined
  }

  /** Reports each change once, however many calls notice it. */
  #report(state: 'up' | 'down', cause: unknown): void {
    if (state === this.#reported) return
    this.#reported = state
    this.#options.changed(state, cause)
  }

  #probeLater(): void {
    if (this.#probing || this.#closed) return
    const waitMs = this.#failures === 0 ? 0 : probeMs.base + backoffMs(this.#failures, probeMs.base, probeMs.max)
    this.#probing = new Promise<void>((resolve) => void after(waitMs, resolve))
      .then(() => this.#probe())
      .catch(() => {})
      .finally(() => {
        this.#probing = undefined
        if (this.#epoch === undefined) this.#probeLater()
      })
  }

  async #probe(): Promise<void> {
    const { logs } = this.#options
    const losses = this.#losses
    try {
      const { mark: now } = await readLogs(logs, undefined)
      let epoch: Epoch = await this.#layer.enter({ renew: false, mark: now, markAgeMsMax })
      for (;;) {
        const missed = this.#missed
        const { rows, mark, isWhole } = await readLogs(logs, epoch.mark)
        if (rows.length > newsMax || !isWhole) {
          epoch = await this.#layer.enter({ renew: true, mark: now, markAgeMsMax })
          continue
        }
        for (let at = 0; at < rows.length; at += newsAtOnce) {
          const names = rows.slice(at, at + newsAtOnce).flatMap(({ tags }) => tags)
          if ((await this.#layer.invalidate(epoch.id, names)) !== true) throw new Error('its epoch has ended')
        }
        // An engine that is full fails here: it could not be told of invalidations.
        if ((await this.#layer.setMark(epoch.id, mark)) !== true) throw new Error('its epoch has ended')
        if (missed === this.#missed) break // else one was committed meanwhile, perhaps after the look
      }
      if (this.#closed) return
      if (losses !== this.#losses) throw new Error('the connection was lost') // perhaps it is another one now, with the same epoch
      this.#epoch = epoch.id
      this.#failures = 0
      this.#report('up', undefined)
      if (epoch.id !== this.#epochLast) this.#emptied()
      this.#epochLast = epoch.id
    } catch (error) {
      this.#failures += 1
      this.#report('down', error)
      this.#probeLater()
      throw error
    }
  }
}

/** Whether no tag was invalidated after this number. A tag that is not known counts as invalidated. */
function isCurrent({ numbers }: Read, number: number): boolean {
  for (const one of numbers) if (one === undefined || one > number) return false
  return true
}

function sameNames(asked: readonly string[], kept: readonly string[]): boolean {
  if (asked.length !== kept.length) return false
  for (let at = 0; at < asked.length; at += 1) if (asked[at] !== kept[at]) return false
  return true
}
