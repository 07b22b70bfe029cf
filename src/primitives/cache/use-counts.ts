import { crc32 } from 'node:zlib'

const countMax = 15
const countersPerEntry = 16
const entriesMin = 64
/** After so many uses for each entry all counts are halved, so that the past fades. */
const usesPerEntry = 16

/**
 * How often keys were used lately, from 0 to 15, whether they are in the store or not: a count-min sketch of two counters for each key.
 * Keys share counters by their hash, so a count may be too high. 16 to 32 bytes for each entry of the store.
 */
export class UseCounts {
  #counters = new Uint8Array(countersPerEntry * entriesMin)
  #uses = 0
  #usesMax = usesPerEntry * entriesMin

  /** A checksum is enough: all that a client gains by a key with the hash of a popular one is that its key is admitted. */
  hash(key: string): number {
    return crc32(key)
  }

  add(hash: number): void {
    const counters = this.#counters
    const [one, other] = [this.#first(hash), this.#second(hash)]
    const least = Math.min(counters[one]!, counters[other]!)
    if (least < countMax) {
      if (counters[one] === least) counters[one] += 1
      if (counters[other] === least && other !== one) counters[other] += 1
    }
    this.#uses += 1
    if (this.#uses >= this.#usesMax) this.#halve()
  }

  of(hash: number): number {
    return Math.min(this.#counters[this.#first(hash)]!, this.#counters[this.#second(hash)]!)
  }

  /** Makes room for the counts of so many entries. */
  fit(entries: number): void {
    this.#usesMax = usesPerEntry * Math.max(entries, entriesMin)
    while (entries * countersPerEntry > this.#counters.length) {
      const grown = new Uint8Array(2 * this.#counters.length)
      grown.set(this.#counters)
      grown.set(this.#counters, this.#counters.length) // the new bit of a place may be 0 or 1
      this.#counters = grown
    }
  }

  #first(hash: number): number {
    return hash & (this.#counters.length - 1)
  }

  #second(hash: number): number {
    const stirred = Math.imul(hash, 0x9e3779b1)
    return (stirred ^ (stirred >>> 15)) & (this.#counters.length - 1)
  }

  #halve(): void {
    this.#counters.forEach((count, at, counters) => {
      counters[at] = count >>> 1
    })
    this.#uses >>>= 1
  }
}
