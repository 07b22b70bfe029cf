import { randomBytes, randomUUID } from 'node:crypto'

/** A source of numbers in [0, 1). */
export type Random = () => number

export const systemRandom: Random = () => Math.random()

/**
 * Returns a repeatable source: mulberry32 (Tommy Ettinger, public domain), period 2^32. For seeds, schedules and tests, never for secrets.
 */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** Returns them in another order. Source: Fisher and Yates, as written down by Durstenfeld. */
export function shuffled<Item>(items: readonly Item[], random: Random): Item[] {
  const all = [...items]
  for (let last = all.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1))
    ;[all[last], all[other]] = [all[other]!, all[last]!]
  }
  return all
}

/** Returns a secret of `bytes` random bytes as url-safe text. */
export function secret(bytes = 32): string {
  return randomBytes(bytes).toString('base64url')
}

export function uuid(): string {
  return randomUUID()
}

/**
 * Returns a backoff with full jitter: uniform in [0, min(cap, base · 2^attempt)).
 * Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 */
export function backoffMs(attempt: number, baseMs: number, capMs: number, random: Random = systemRandom): number {
  return random() * Math.min(capMs, baseMs * 2 ** attempt)
}
