/**
 * The only access to time. Code that decides takes a `Clock`, which a test can replace. Code that waits calls `sleep`.
 */
export interface Clock {
  /** Wall clock, ms since the epoch. */
  now(): number
  /** Monotonic clock, ms. Only differences are meaningful. */
  ticks(): number
}

/** Where time comes from. Only a test replaces it (`testing/clock.ts`), together with the global `Date`. */
export interface TimeSource {
  ticks(): number
  /** Calls `fn` after `ms`, or every `ms`. The returned function ends it. */
  startTimer(ms: number, fn: () => void, options?: { repeat?: boolean; keepAlive?: boolean }): () => void
}

export const machineTime: TimeSource = {
  ticks: () => performance.now(),
  startTimer(ms, fn, { repeat = false, keepAlive = false } = {}) {
    const timer = repeat ? setInterval(fn, ms) : setTimeout(fn, ms)
    if (!keepAlive) timer.unref()
    return () => clearTimeout(timer)
  },
}

/** The machine's monotonic clock in ms, the same for all processes and threads of the machine, which `ticks` is not. */
export function machineTicks(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

let source = machineTime

export function useTimeSource(other: TimeSource): void {
  source = other
}

export const systemClock: Clock = {
  now: () => Date.now(),
  ticks: () => source.ticks(),
}

/** Waits for `ms`. Rejects with the signal's reason if that aborts first. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const onAbort = () => {
      endTimer()
      reject(signal?.reason)
    }
    const done = () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }
    const endTimer = source.startTimer(ms, done, { keepAlive: true })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** Calls `fn` once after `ms`. The returned function cancels this. The timer does not keep the process alive. */
export function after(ms: number, fn: () => void): () => void {
  return source.startTimer(ms, fn)
}

/** Waits until `work` is done or `ms` have passed. The wait does not keep the process alive. */
export async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const forget = after(ms, resolve)
  await Promise.race([work, promise]).finally(forget)
}

/** Calls `fn` every `ms`. The returned function ends this. The timer does not keep the process alive. */
export function every(ms: number, fn: () => void): () => void {
  return source.startTimer(ms, fn, { repeat: true })
}

/**
 * Returns a function that resolves with the result of a run of `work` which began after the call. Runs do not overlap: callers during
 * a run share the next one.
 */
export function freshRun<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined
  let next: Promise<T> | undefined
  function begin(): Promise<T> {
    running = work().finally(() => {
      running = undefined
    })
    return running
  }
  return () => {
    if (next) return next
    if (!running) return begin()
    next = running
      .catch(() => {})
      .then(() => {
        next = undefined
        return begin()
      })
    return next
  }
}

/**
 * Calls `work` every `ms`, but not while an earlier call still runs. `work` must not reject.
 * @returns what ends this, and waits for a call that runs
 */
export function everyAlone(ms: number, work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined
  const end = every(ms, () => {
    running ??= work().finally(() => {
      running = undefined
    })
  })
  return async () => {
    end()
    await running
  }
}
