import { type Clock, everyAlone, systemClock } from '../../kernel/clock.ts'
import type { Lease } from './contract.ts'

/** Work that must be done now and then, by one process of the fleet. It does no harm when it is done twice at once. */
export interface UpkeepTask {
  name: string
  everyMs: number
  /** Ends soon once the signal is aborted: the process stops. */
  run(stop: AbortSignal): Promise<unknown>
}

export interface UpkeepOptions {
  lease: Lease
  /** The name of this process, unique in the fleet. */
  holder: string
  tasks: readonly UpkeepTask[]
  /** Called with the failures of a task (or of the lease, without one). It is tried again at its next time. */
  failed(error: unknown, task?: string): void
  clock?: Clock
}

/** A process that dies is replaced within this time and a tick: soon enough for jobs, whose own lease is 6 s. */
const leaseMs = 4_000
const renewBeforeMs = 2_000
const tickMs = 1_000

/** Does the tasks of one database while this process holds the lease. Returns what ends it. */
export function startUpkeep({ lease, holder, tasks, failed, clock = systemClock }: UpkeepOptions): () => Promise<void> {
  const dueAt = new Map(tasks.map(({ name, everyMs }) => [name, clock.ticks() + everyMs]))
  const running = new Map<string, Promise<void>>()
  let heldUntil = Number.NEGATIVE_INFINITY
  const stop = new AbortController()

  async function holds(): Promise<boolean> {
    const now = clock.ticks()
    if (heldUntil - now > renewBeforeMs) return true
    const isHeld = await lease.hold(holder, leaseMs)
    heldUntil = isHeld ? now + leaseMs : Number.NEGATIVE_INFINITY
    return isHeld
  }

  async function tick(): Promise<void> {
    try {
      if (!(await holds())) return
    } catch (error) {
      return failed(error)
    }
    const now = clock.ticks()
    for (const { name, everyMs, run } of tasks) {
      if (now < dueAt.get(name)! || running.has(name)) continue
      dueAt.set(name, now + everyMs)
      // Beside the others: one that takes long must not keep jobs from being handed on.
      const done = run(stop.signal)
        .then(
          () => {},
          (error) => failed(error, name),
        )
        .finally(() => running.delete(name))
      running.set(name, done)
    }
  }

  const endTicking = everyAlone(tickMs, tick)
  return async () => {
    stop.abort()
    await endTicking()
    await Promise.all(running.values())
    if (heldUntil > clock.ticks()) await lease.release(holder).catch((error) => failed(error))
  }
}
