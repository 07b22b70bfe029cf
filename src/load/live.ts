import { bucketCount, bucketOf, createHistogram } from './histogram.ts'

/** What a load did in one second. */
export interface Second {
  /** Its end, in seconds since the start. */
  at: number
  /** Answers in a second, failures included. */
  rate: number
  /** Failures in a second. */
  failures: number
  /** Requests that had no answer yet at its end. */
  inFlight: number
  /** Latencies in ms; `NaN` without an answer. */
  p50: number
  p95: number
  p99: number
}

const [sent, answered, failed] = [0, 1, 2]
const slots = 3 + bucketCount

/** Counts in memory that all threads share. Each thread writes a part of its own, and the reader may be a request behind. */
export function countersIn(memory: SharedArrayBuffer, thread: number) {
  const part = new Int32Array(memory, 4 * slots * thread, slots)
  return {
    sent: () => void part[sent]!++,
    answered(latencyMs: number, isFailure: boolean) {
      part[answered]!++
      if (isFailure) part[failed]!++
      part[3 + bucketOf(latencyMs)]!++
    },
  }
}

export type Counters = ReturnType<typeof countersIn>

export function sharedCounters(threads: number): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * slots * threads)
}

/** Returns a function that returns what happened since its last call. */
export function createMeter(memory: SharedArrayBuffer): (at: number, seconds: number) => Second {
  const parts = Array.from(
    { length: memory.byteLength / 4 / slots },
    (_, n) => new Int32Array(memory, 4 * slots * n, slots),
  )
  let before = new Int32Array(slots)
  return (at, seconds) => {
    const now = new Int32Array(slots)
    for (const part of parts) for (let n = 0; n < slots; n += 1) now[n]! += part[n]!
    const counts: number[] = []
    for (let n = 0; n < bucketCount; n += 1) {
      const count = now[3 + n]! - before[3 + n]!
      if (count > 0) counts.push(n, count)
    }
    const latency = createHistogram({ counts, max: Number.POSITIVE_INFINITY, sum: 0 })
    const [rate, failures] = [answered, failed].map((slot) => (now[slot]! - before[slot]!) / seconds) as [
      number,
      number,
    ]
    const inFlight = Math.max(0, now[sent]! - now[answered]!)
    before = now
    return { at, rate, failures, inFlight, p50: latency.at(0.5), p95: latency.at(0.95), p99: latency.at(0.99) }
  }
}
