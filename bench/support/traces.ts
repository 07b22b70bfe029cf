import { type Random, seededRandom } from '../../src/kernel/random.ts'

/** Requests for numbered keys, repeatable from a seed, in the shapes by which papers on caches compare them. */

export type Trace = Int32Array

/** Draws ranks from 0 by Zipf's law, by a search in the sums of their shares. */
function zipf(random: Random, keys: number, exponent: number): () => number {
  const sums = new Float64Array(keys)
  let sum = 0
  for (let rank = 0; rank < keys; rank += 1) {
    sum += (rank + 1) ** -exponent
    sums[rank] = sum
  }
  return () => {
    const wanted = random() * sum
    let low = 0
    let high = keys - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if (sums[middle]! > wanted) high = middle
      else low = middle + 1
    }
    return low
  }
}

/** The same keys are popular from beginning to end. */
export function stationary(keys: number, requests: number, exponent: number): Trace {
  const next = zipf(seededRandom(17), keys, exponent)
  return Int32Array.from({ length: requests }, next)
}

/** Like news: every so often a key that nobody asked for becomes the most popular one, and the others fade by a rank. */
export function drifting(keys: number, requests: number, exponent: number, every: number): Trace {
  const next = zipf(seededRandom(19), keys, exponent)
  return Int32Array.from({ length: requests }, (_, at) => (next() + requests - Math.floor(at / every)) % keys)
}

/** In the middle somebody reads everything once, as an export or a crawler does: as many keys again, in a row. */
export function scanned(keys: number, requests: number, exponent: number): Trace {
  const next = zipf(seededRandom(23), keys, exponent)
  const begin = (requests - keys) >>> 1
  return Int32Array.from({ length: requests }, (_, at) =>
    at >= begin && at < begin + keys ? keys + at - begin : next(),
  )
}

/** Nothing stays popular: a key is asked for four times within about as many requests as `span`, and never again. */
export function bursts(requests: number, span: number): Trace {
  const random = seededRandom(31)
  const trace = new Int32Array(requests).fill(-1)
  let free = 0
  for (let key = 0; free < requests; key += 1) {
    let at = free
    for (let use = 0; use < 4 && at < requests; use += 1) {
      trace[at] = key
      at += 1 + Math.floor((-Math.log(1 - random()) * span) / 3)
      while (at < requests && trace[at] !== -1) at += 1
    }
    while (free < requests && trace[free] !== -1) free += 1
  }
  return trace
}

/** Round and round. */
export function looping(length: number, requests: number): Trace {
  return Int32Array.from({ length: requests }, (_, at) => at % length)
}

/** As of a database's pages: single ones by Zipf's law, and between them runs of 20 to 200 in a row, 4 of 10 requests. */
export function mixed(keys: number, requests: number, exponent: number): Trace {
  const random = seededRandom(29)
  const next = zipf(random, keys, exponent)
  const trace = new Int32Array(requests)
  let left = 0
  let page = 0
  for (let at = 0; at < requests; at += 1) {
    if (left === 0 && random() < 0.006) {
      left = 20 + Math.floor(random() * 181)
      page = Math.floor(random() * keys)
    }
    if (left > 0) {
      trace[at] = page++ % keys
      left -= 1
    } else trace[at] = (next() * 7919) % keys // popular ones are no neighbours
  }
  return trace
}

/**
 * The share of hits that no policy exceeds: what is asked for last leaves first, and what is asked for later than all others
 * does not enter. Source: Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal
 * 5(2), 1966.
 */
export function optimum(trace: Trace, entries: number): number {
  const never = trace.length
  const nextAt = new Int32Array(trace.length)
  const seen = new Map<number, number>()
  for (let at = trace.length - 1; at >= 0; at -= 1) {
    nextAt[at] = seen.get(trace[at]!) ?? never
    seen.set(trace[at]!, at)
  }
  // A heap of the requests for what is kept, the last on top. Those of the past sink and stay: the top is never one of them.
  const heap = new Int32Array(trace.length)
  const kept = new Uint8Array(trace.length)
  let size = 0
  let count = 0
  let hits = 0
  for (let at = 0; at < trace.length; at += 1) {
    if (kept[at]) hits += 1
    else count += 1
    const next = nextAt[at]!
    if (next === never) count -= 1
    else {
      kept[next] = 1
      push(heap, size++, next)
      if (count > entries) {
        kept[heap[0]!] = 0
        pop(heap, --size)
        count -= 1
      }
    }
  }
  return hits / trace.length
}

function push(heap: Int32Array, size: number, value: number): void {
  let at = size
  while (at > 0) {
    const parent = (at - 1) >>> 1
    if (heap[parent]! >= value) break
    heap[at] = heap[parent]!
    at = parent
  }
  heap[at] = value
}

/** Takes the top away; `size` is what is left. */
function pop(heap: Int32Array, size: number): void {
  const value = heap[size]!
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= size) break
    if (child + 1 < size && heap[child + 1]! > heap[child]!) child += 1
    if (heap[child]! <= value) break
    heap[at] = heap[child]!
    at = child
  }
  heap[at] = value
}

/**
 * Modelled on Conduit's own reads: 65 % articles, where a new one becomes the most popular every 1,000 requests; 15 % profiles; 20 %
 * lists, few and hot. Of 50,000 keys.
 */
export function conduitReads(requests: number): Trace {
  const random = seededRandom(41)
  const articles = drifting(40_000, requests, 1, 1_000)
  const profiles = stationary(9_000, requests, 0.8)
  const lists = stationary(1_000, requests, 1.1)
  return Int32Array.from({ length: requests }, (_, at) => {
    const kind = random()
    if (kind < 0.65) return articles[at]!
    return kind < 0.8 ? 40_000 + profiles[at]! : 49_000 + lists[at]!
  })
}
