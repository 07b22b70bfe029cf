import { secret } from '../../kernel/random.ts'

const countMax = 15
const rows = 4
/** Counters of all four rows lie in one block of 16 words: a look-up touches one line of the processor's cache. */
const blockWords = 16
const entriesPerBlock = 8
/**
 * Counts are halved after this many uses for each entry that the store holds. With 10, as in the paper, a fixed Zipf gains up
 * to 0.5 points of hit ratio, and one where a key becomes the most popular every 10 requests loses 1 to 3 (bench/admission.ts).
 */
const usesPerEntry = 5
const entriesMin = 64

/**
 * How often a key was used lately, within 0 and 15, of keys that are in the store and of keys that are not: a count-min
 * sketch of 4 bits a counter with minimal increment, halved now and then so that the past fades. 8 to 16 bytes for each
 * entry of the store. Source: Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM
 * Transactions on Storage 13(4), 2017.
 */
export class Sketch {
  #words = new Int32Array(blockWords * Math.ceil(entriesMin / entriesPerBlock))
  #blockMask = entriesMin / entriesPerBlock - 1
  #uses = 0
  #usesMax = entriesMin * usesPerEntry
  readonly #key0: number
  readonly #key1: number

  constructor(key: Buffer = Buffer.from(secret(8), 'base64url')) {
    this.#key0 = key.readInt32LE(0)
    this.#key1 = key.readInt32LE(4)
  }

  /**
   * Keys come from users, and who knows the hash can make a worthless key share the counters of a popular one. Hence a
   * keyed hash: HalfSipHash-1-3 over two UTF-16 units at a time (Aumasson and Bernstein, "SipHash: a fast short-input
   * PRF", 2012; in its 32-bit form, as Linux takes it for hash tables).
   */
  hash(text: string): number {
    let v0 = this.#key0
    let v1 = this.#key1
    let v2 = v0 ^ 0x6c796765
    let v3 = v1 ^ 0x74656462
    const { length } = text
    const words = (length >>> 1) + 1
    for (let at = 0; at < words + 3; at += 1) {
      let word = 0
      if (at < words - 1) word = text.charCodeAt(2 * at) | (text.charCodeAt(2 * at + 1) << 16)
      else if (at === words - 1) word = ((length & 1) === 1 ? text.charCodeAt(length - 1) : 0) | (length << 16)
      else if (at === words) v2 ^= 0xff
      v3 ^= word
      v0 = (v0 + v1) | 0
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0
      v0 = (v0 << 16) | (v0 >>> 16)
      v2 = (v2 + v3) | 0
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2
      v0 = (v0 + v3) | 0
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0
      v2 = (v2 + v1) | 0
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2
      v2 = (v2 << 16) | (v2 >>> 16)
      v0 ^= word
    }
    return v1 ^ v3
  }

  /** Counts a use. */
  add(hash: number): void {
    const words = this.#words
    const block = (hash & this.#blockMask) * blockWords
    const places = placesOf(hash)
    const least = this.estimate(hash)
    if (least < countMax) {
      for (let row = 0; row < rows; row += 1) {
        const place = places >>> (5 * row)
        const word = block + 4 * row + ((place >>> 3) & 3)
        const shift = (place & 7) << 2
        if (((words[word]! >>> shift) & 15) === least) words[word]! += 1 << shift
      }
    }
    this.#uses += 1
    if (this.#uses >= this.#usesMax) this.#halve()
  }

  estimate(hash: number): number {
    const words = this.#words
    const block = (hash & this.#blockMask) * blockWords
    const places = placesOf(hash)
    let least = countMax
    for (let row = 0; row < rows; row += 1) {
      const place = places >>> (5 * row)
      const count = (words[block + 4 * row + ((place >>> 3) & 3)]! >>> ((place & 7) << 2)) & 15
      if (count < least) least = count
    }
    return least
  }

  /** Makes room for the counts of so many entries, and of as many that are not in the store. Counts are kept. */
  fit(entries: number): void {
    this.#usesMax = usesPerEntry * Math.max(entries, entriesMin)
    while (entries > (this.#blockMask + 1) * entriesPerBlock) {
      const old = this.#words
      this.#words = new Int32Array(2 * old.length)
      this.#words.set(old)
      this.#words.set(old, old.length) // the new bit of the block's number may be 0 or 1
      this.#blockMask = 2 * this.#blockMask + 1
    }
  }

  #halve(): void {
    const words = this.#words
    for (let at = 0; at < words.length; at += 1) words[at] = (words[at]! >>> 1) & 0x77777777
    this.#uses >>>= 1
  }
}

/** Five bits for each row: which of its 32 counters. The block's number is the hash's lowest bits, so stir. */
function placesOf(hash: number): number {
  const stirred = Math.imul(hash ^ (hash >>> 16), 0x9e3779b1)
  return (stirred ^ (stirred >>> 15)) >>> 4
}
