import { machineTime, systemClock, type TimeSource, useTimeSource } from '../kernel/clock.ts'
import { ownText } from '../kernel/own-text.ts'
import { type Duration, toMs } from '../kernel/units.ts'

export const clockSchema = ownText(import.meta.url, './clock.sql')
/** The first schema is where unqualified names are created. */
export const clockSearchPath = 'public, rung_clock, pg_catalog'

interface Timer {
  dueAt: number
  repeatMs: number | undefined
  keepAlive: boolean
  fn: () => void
  endMachineTimer: () => void
}

/** How far the time of this process is ahead of the machine's. It never goes back: timers and the app could not bear it. */
let aheadMs = 0
let isMovable = false
const timers = new Set<Timer>()

const movableTime: TimeSource = {
  ticks: () => machineTime.ticks() + aheadMs,
  startTimer(ms, fn, { repeat = false, keepAlive = false } = {}) {
    const timer: Timer = {
      dueAt: movableTime.ticks() + ms,
      repeatMs: repeat ? ms : undefined,
      keepAlive,
      fn,
      endMachineTimer: () => {},
    }
    timers.add(timer)
    arm(timer)
    return () => {
      timers.delete(timer)
      timer.endMachineTimer()
    }
  },
}

function arm(timer: Timer): void {
  timer.endMachineTimer()
  const waitMs = Math.max(0, timer.dueAt - movableTime.ticks())
  timer.endMachineTimer = machineTime.startTimer(waitMs, () => fire(timer), { keepAlive: timer.keepAlive })
}

function fire(timer: Timer): void {
  if (timer.repeatMs === undefined) {
    timers.delete(timer)
    timer.endMachineTimer()
  } else {
    timer.dueAt = movableTime.ticks() + timer.repeatMs
    arm(timer)
  }
  timer.fn()
}

/** From here on Rung's own timers, its monotonic time and the global `Date` of this process can be moved. */
export function makeTimeMovable(): void {
  if (isMovable) return
  isMovable = true
  useTimeSource(movableTime)
  const RealDate = globalThis.Date
  globalThis.Date = new Proxy(RealDate, {
    construct(target, args, newTarget) {
      return Reflect.construct(target, args.length === 0 ? [target.now() + aheadMs] : args, newTarget)
    },
    apply: (target) => new target(target.now() + aheadMs).toString(),
    get(target, name, receiver) {
      if (name === 'now') return () => target.now() + aheadMs
      return Reflect.get(target, name, receiver)
    },
  })
  RealDate.prototype.constructor = globalThis.Date
}

/** Timers that have become due fire at once, each once, in their order. */
function moveTime(ms: number): void {
  aheadMs += ms
  const now = movableTime.ticks()
  const pending = [...timers].sort((a, b) => a.dueAt - b.dueAt)
  for (const timer of pending) {
    if (!timers.has(timer)) continue // one that fired before it has ended it
    if (timer.dueAt <= now) fire(timer)
    else arm(timer)
  }
}

/** A running app that follows the clock of its process. */
export interface Follower {
  /** Sets the clock of its database. */
  setAhead(ms: number): Promise<void>
  /** After the time has moved. */
  moved(): Promise<void>
}

const followers = new Set<Follower>()

export async function follow(follower: Follower): Promise<() => void> {
  if (aheadMs > 0) await follower.setAhead(aheadMs)
  followers.add(follower)
  return () => followers.delete(follower)
}

/** The clock of a test. All apps that run in its process share it. */
export interface TestClock {
  now(): Date
  /**
   * Moves the time forward, in the process and in the databases of its apps, and fires the timers and crons that have become due.
   * A cron fires once, however often it was missed, as after a pause of the app. Jobs that are due wait for `jobs.drain()`.
   */
  advance(duration: Duration): Promise<void>
}

/** Resolves when the time does not move any more. */
let settled: Promise<unknown> = Promise.resolve()

export const testClock: TestClock = {
  now: () => new Date(systemClock.now()),
  async advance(duration) {
    const ms = toMs(duration)
    // One after the other: each begins where the one before it has ended.
    const advanced = settled.then(() => advance(ms))
    settled = advanced.catch(() => {})
    await advanced
  },
}

async function advance(ms: number): Promise<void> {
  await Promise.all([...followers].map((one) => one.setAhead(aheadMs + ms)))
  moveTime(ms)
  await Promise.all([...followers].map((one) => one.moved()))
}
