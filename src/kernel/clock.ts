/**
 * The only door to time. Code that decides takes a `Clock`, so that a test can stand in for it; code that waits uses
 * `sleep`, which ends early when its signal aborts.
 */
export interface Clock {
  /** Wall clock, ms since the epoch. */
  now(): number
  /** Monotonic, ms; only differences mean something. */
  ticks(): number
}

export const systemClock: Clock = {
  now: () => Date.now(),
  ticks: () => performance.now(),
}

/** Waits `ms`; rejects with the signal's reason when it aborts first. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const onAbort = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** Calls `fn` once after `ms`; the returned function cancels. The timer alone does not keep the process alive. */
export function after(ms: number, fn: () => void): () => void {
  const timer = setTimeout(fn, ms)
  timer.unref()
  return () => clearTimeout(timer)
}

/** Until `work` is done, or `ms` have passed; the wait alone does not keep the process alive. */
export async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const forget = after(ms, resolve)
  await Promise.race([work, promise]).finally(forget)
}

/** Calls `fn` every `ms`; the returned function ends it. The timer alone does not keep the process alive. */
export function every(ms: number, fn: () => void): () => void {
  const timer = setInterval(fn, ms)
  timer.unref()
  return () => clearInterval(timer)
}
