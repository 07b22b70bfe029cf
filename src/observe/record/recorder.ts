import { type Clock, systemClock } from '../../kernel/clock.ts'
import type { Database } from '../../primitives/data/contract.ts'
import type { Lease } from '../../primitives/upkeep/contract.ts'
import { combine, growth, type Measured, nothing, pack, type Snapshot } from './frame.ts'
import { addFrame, mergeOld, type Row } from './table.ts'

export interface RecorderParts {
  /** The name of this start of this process. */
  node: string
  database: Database
  /** For what one process of the fleet does: it looks at what all share, and merges. */
  lease: Lease
  /** @param shared whether what is the same for every process is read too */
  read(shared: boolean): Promise<Snapshot>
  /** Looks at what processes share. */
  look(): Promise<Measured>
  /** Returns what was seen since the last call. */
  take(): Measured
  /** Told of the first of several failures, and with nothing once all works again. */
  trouble(error?: unknown): void
  clock?: Clock
}

export interface Recorder {
  /** Records what was measured since the last call. Never rejects. */
  record(): Promise<void>
  /** Records the rest. */
  end(): Promise<void>
}

const lookEveryMs = 600_000
/** Longer than from one minute to the next with one failure in between. */
const leaseMs = 150_000
/** Frames of six hours wait while the database cannot be written, some KB each. Of more, the oldest are lost. */
const waitingMax = 360

/** The wall clock is slewed by less than this in a minute: by 500 ppm (adjtimex(2)), 30 ms. */
const steppedMs = 1_000

/** Made when the counters of the process begin. */
export function createRecorder(parts: RecorderParts): Recorder {
  const { node, database, lease, read, look, take, trouble, clock = systemClock } = parts
  let before: Snapshot = nothing
  let [from, began] = [clock.now(), clock.ticks()]
  let lookAt = Number.NEGATIVE_INFINITY
  let isHolder = false
  const failing = new Set<unknown>()
  const waiting: Row[] = []

  async function attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      const result = await work()
      if (failing.delete(work) && failing.size === 0) trouble()
      return result
    } catch (error) {
      if (failing.size === 0) trouble(error)
      failing.add(work)
      return undefined
    }
  }
  const hold = () => lease.hold(node, leaseMs)
  const tidy = () => mergeOld(database, clock.now())

  async function measure(): Promise<void> {
    const wasSetBack = clock.now() < lookAt - lookEveryMs
    const isDue = isHolder && (clock.now() >= lookAt || wasSetBack)
    const shared = isDue ? await attempt(look) : undefined
    if (isDue) lookAt = (Math.floor(clock.now() / lookEveryMs) + 1) * lookEveryMs
    const [to, ticks] = [clock.now(), clock.ticks()]
    const now = await read(isHolder)
    const grown = growth(before, now)
    const ms = Math.round(ticks - began)
    // Where the wall clock was set, forward or back, or the machine slept, the frame is as long as it was measured.
    if (Math.abs(to - from - ms) > steppedMs) from = to - ms
    if (to <= from) return // not a millisecond: this belongs to the next frame
    const content = pack([{ from, to, ms, ...combine([grown, take(), ...(shared ? [shared] : [])]) }])
    waiting.push({ node, from, to, content })
    if (waiting.length > waitingMax) waiting.shift()
    before = now
    ;[from, began] = [to, ticks]
  }

  async function write(): Promise<void> {
    for (; waiting.length > 0; waiting.shift()) await addFrame(database, waiting[0]!)
  }

  async function record(): Promise<void> {
    isHolder = (await attempt(hold)) ?? false
    await attempt(measure)
    await attempt(write)
    if (isHolder && waiting.length === 0) await attempt(tidy)
  }

  return {
    record,
    async end() {
      const held = isHolder
      isHolder = false
      await attempt(measure)
      await attempt(write)
      if (held && failing.size === 0) await attempt(() => lease.release(node))
    },
  }
}
