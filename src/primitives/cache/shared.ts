import { randomUUID } from 'node:crypto'
import { after, type Clock, sleep, systemClock } from '../../kernel/clock.ts'
import { backoffMs } from '../../kernel/random.ts'
import { decode, encode } from './coding.ts'
import type { InvalidationLog, Place } from './contract.ts'
import type { SharedEntry } from './entry.ts'
import type { Epoch, Read, SharedLayer } from './layer.ts'

/** Leave to load, and to keep what comes of it if nothing was invalidated meanwhile. */
export interface Ticket {
  kind: 'ticket'
  epoch: string
  key: string
  number: number
  leaseId: string
  /** To be given out if the load fails. */
  graceful: SharedEntry | undefined
}

export interface SharedOptions {
  layer: SharedLayer
  log: InvalidationLog
  /** Told when the layer is left alone, and when it is used again. */
  changed(state: 'up' | 'down', cause: unknown): void
  clock?: Clock
}

const leaseMs = 5_000
/** How long somebody else's load is waited for. */
const waitMsMax = 2_000
const waitStepMs = { base: 10, max: 50 }
/** An engine that failed is tried again by one probe at a time, never by requests. */
const probeMs = { base: 100, max: 2_000 }
/** More news than this are not told one by one: all that the layer holds is given up. */
const newsMax = 10_000
const newsAtOnce = 500
const keptBeyondMs = 60_000
const markEveryMs = 1_000
/** The log keeps its rows twice as long. */
const markAgeMsMax = 1_800_000

/**
 * The layer that all processes share: when it is trusted, and how a load is done once for all of them.
 *
 *     down ── probe: enter the epoch, tell what is new ──▶ up
 *      ▲                                                    │
 *      └── a call failed, the connection was lost, a flush ─┘
 *
 * Down, nobody asks it and nobody waits for it. It keeps a mark: all that the log held by then it has been told. So a probe tells it
 * what came since, whoever has failed to do so, and nobody has to remember anything for it.
 */
export class SharedCache implements Place {
  readonly fillsMemory = true
  readonly #layer: SharedLayer
  readonly #options: SharedOptions
  readonly #clock: Clock
  #epoch: string | undefined
  #epochLast: string | undefined
  #emptied = () => {}
  /** Invalidations that it was not told of. */
  #missed = 0
  /** How often the engine may have become another one: what was learned of it before is worth nothing. */
  #losses = 0
  #probing: Promise<void> | undefined
  #failures = 0
  #told: 'up' | 'down' | undefined
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

  /** From now on `emptied` is told when the layer is used and has nothing of what this process knew in it. */
  onEmptied(emptied: () => void): void {
    this.#emptied = emptied
  }

  /** Once; an engine that cannot be reached is tried again in the background. */
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

  /** A good entry; else leave to load it. `undefined`: the layer is down. */
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

  /** False: not kept. */
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

  /** Gives the epoch in which the layer knows; with `undefined` it will know before it is trusted again. */
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

  /** All that the log holds up to this mark has been told. */
  stands(mark: string): void {
    const epoch = this.#epoch
    const now = this.#clock.ticks()
    if (epoch === undefined || now - this.#markedAt < markEveryMs) return
    this.#markedAt = now
    void this.#layer.setMark(epoch, mark).then(
      (set) => set === true || this.#down(new Error('its epoch has ended'), epoch), // so also an idle process hears of a flush
      (error) => this.#down(error, epoch),
    )
  }

  /** What fails late, in an epoch that has ended, says nothing of the next one. */
  #down(cause: unknown, epoch: string | undefined): undefined {
    if (this.#closed || epoch !== this.#epoch) return undefined
    this.#tell('down', cause)
    this.#epoch = undefined
    this.#later()
    return undefined
  }

  /** Once for each change, however many notice it. */
  #tell(state: 'up' | 'down', cause: unknown): void {
    if (state === this.#told) return
    this.#told = state
    this.#options.changed(state, cause)
  }

  #later(): void {
    if (this.#probing || this.#closed) return
    const waitMs = this.#failures === 0 ? 0 : probeMs.base + backoffMs(this.#failures, probeMs.base, probeMs.max)
    this.#probing = new Promise<void>((resolve) => void after(waitMs, resolve))
      .then(() => this.#probe())
      .catch(() => {})
      .finally(() => {
        this.#probing = undefined
        if (this.#epoch === undefined) this.#later()
      })
  }

  async #probe(): Promise<void> {
    const { log } = this.#options
    const losses = this.#losses
    try {
      const { mark: now } = await log.since(undefined)
      let epoch: Epoch = await this.#layer.enter({ renew: false, mark: now, markAgeMsMax })
      for (;;) {
        const missed = this.#missed
        const { rows, mark } = await log.since(epoch.mark)
        if (rows.length > newsMax) {
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
      this.#tell('up', undefined)
      if (epoch.id !== this.#epochLast) this.#emptied()
      this.#epochLast = epoch.id
    } catch (error) {
      this.#failures += 1
      this.#tell('down', error)
      this.#later()
      throw error
    }
  }
}

/** No tag was invalidated after what this number counts. One that is not known counts as invalidated. */
function isCurrent({ numbers }: Read, number: number): boolean {
  for (const one of numbers) if (one === undefined || one > number) return false
  return true
}

function sameNames(asked: readonly string[], kept: readonly string[]): boolean {
  if (asked.length !== kept.length) return false
  for (let at = 0; at < asked.length; at += 1) if (asked[at] !== kept[at]) return false
  return true
}
