/** Repeatable chance: everything follows from the seed and the place where it is asked for. */
export type Random = () => number

/** mulberry32 (Tommy Ettinger, public domain): a source of numbers in [0, 1) for one thing of one kind. */
export function randomFor(seed: number, kind: string, index: number): Random {
  let state = mixed(mixed(seed ^ hashOf(kind)) + index)
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** Neighbouring seeds must not give neighbouring numbers: the finaliser of MurmurHash3 (Austin Appleby, public domain). */
function mixed(value: number): number {
  let h = value >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

function hashOf(text: string): number {
  let h = 0
  for (const letter of text) h = Math.imul(h, 31) + letter.codePointAt(0)!
  return h >>> 0
}

export function pick<T>(random: Random, from: readonly T[]): T {
  return from[Math.floor(random() * from.length)]!
}

/** 0 … n-1, small numbers more often: Zipf's law with exponent `s` below 1, by inversion of its continuous form. */
export function zipf(random: Random, n: number, s = 0.8): number {
  const rank = ((n + 1) ** (1 - s) - 1) * random() + 1
  return Math.min(n - 1, Math.floor(rank ** (1 / (1 - s))) - 1)
}

/** `count` different numbers out of 0 … n-1, small ones more often; never `except`. */
export function zipfSet(random: Random, count: number, n: number, except = -1): Set<number> {
  const found = new Set<number>()
  const wanted = Math.min(count, except >= 0 && except < n ? n - 1 : n)
  for (let tries = 0; found.size < wanted && tries < wanted * 8; tries += 1) {
    const one = zipf(random, n)
    if (one !== except) found.add(one)
  }
  // Nearly everything is asked for: the rest in turn.
  for (let one = Math.floor(random() * n); found.size < wanted; one = (one + 1) % n) if (one !== except) found.add(one)
  return found
}

/**
 * Divides `total` among `n`: most get little, few get much (Pareto with exponent 1.2, a hundred times the least at most).
 * The sum is exact unless everyone already has `most`.
 */
export function shares(total: number, n: number, most: number, random: (index: number) => Random): Int32Array {
  const weight = (index: number) => Math.min(100, (1 - random(index)()) ** (-1 / 1.2))
  let sum = 0
  for (let index = 0; index < n; index += 1) sum += weight(index)
  const result = new Int32Array(n)
  let reached = 0
  let given = 0
  for (let index = 0; index < n; index += 1) {
    reached += weight(index)
    const due = Math.round((total * reached) / sum) - given // what the cap held back passes on to the next
    result[index] = Math.min(most, due)
    given += result[index]!
  }
  for (let index = 0; index < n && given < total; index += 1) {
    const more = Math.min(most - result[index]!, total - given)
    result[index]! += more
    given += more
  }
  return result
}
