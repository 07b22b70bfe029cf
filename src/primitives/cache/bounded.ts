import { LRUCache } from 'lru-cache'
import { UseCounts } from './use-counts.ts'

export interface BoundedOptions<V> {
  bytesMax: number
  /** Called once for each value that was set, when it is replaced, evicted, deleted or not admitted. */
  onLeave?(key: string, value: V): void
}

/** What people are shown of an entry. */
export interface EntryFacts {
  key: string
  bytes: number
  /** How often it was used lately. */
  uses: number
}

interface Held<V> {
  readonly value: V
  /** Sum of key, value and overhead. */
  readonly bytes: number
  readonly hash: number
}

/**
 * Memory for an entry besides the characters of its key and its value: the wrapper, its slots in `lru-cache` and in the counters.
 * Measured: 157 to 189 on Node 24, with 40,000 and 65,536 entries.
 */
const overheadBytes = 220
/** A larger entry would displace more others than it is worth. It must be smaller than the window. */
const entryShareMax = 1 / 12
/**
 * The part of the memory for new entries. A larger one serves reads whose favourites change, a smaller one those whose favourites stay;
 * this one loses little on either (ADR 18).
 */
const windowShare = 0.4

/**
 * A map in memory, bounded by bytes, that keeps what is used often (TinyLFU: Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient
 * Cache Admission Policy", ACM Transactions on Storage 13(4), 2017). Both parts evict what was used least recently:
 *
 *     set → window ──(evicted, and used more often than what it displaces)──→ main
 *                └──(evicted, and not)──→ leaves
 *
 * Keys that are read once, as by a crawler, pass through the window and displace nothing in the main part.
 */
export class BoundedMap<V> {
  readonly #window: LRUCache<string, Held<V>>
  readonly #main: LRUCache<string, Held<V>>
  readonly #uses = new UseCounts()
  readonly #entryBytesMax: number
  readonly #onLeave: (key: string, value: V) => void

  constructor({ bytesMax, onLeave = () => {} }: BoundedOptions<V>) {
    const part = (share: number) => ({
      maxSize: Math.max(1, Math.floor(bytesMax * share)),
      sizeCalculation: (held: Held<V>) => held.bytes,
    })
    this.#entryBytesMax = bytesMax * entryShareMax
    this.#main = new LRUCache({ ...part(1 - windowShare), disposeAfter: (held, key) => onLeave(key, held.value) })
    this.#window = new LRUCache({
      ...part(windowShare),
      disposeAfter: (held, key, reason) => {
        if (reason !== 'evict' || !this.#admit(key, held)) onLeave(key, held.value)
      },
    })
    this.#onLeave = onLeave
  }

  get size(): number {
    return this.#window.size + this.#main.size
  }

  get bytes(): number {
    return this.#window.calculatedSize + this.#main.calculatedSize
  }

  /** Counts a use, also of a key that is not here: a key that is asked for often is admitted sooner. */
  get(key: string): V | undefined {
    const held = this.#main.get(key) ?? this.#window.get(key)
    this.#uses.add(held?.hash ?? this.#uses.hash(key))
    return held?.value
  }

  /**
   * Replaces the value of a key that is here, and counts no use. The value leaves at once if it is larger than a twelfth of the map.
   * @param bytes of the value
   */
  set(key: string, value: V, bytes: number): void {
    if (!(bytes >= 0)) throw new RangeError(`A value has ${bytes} bytes. Pass a number from 0.`)
    const held = { value, bytes: Math.ceil(bytes) + bytesOf(key) + overheadBytes, hash: this.#uses.hash(key) }
    if (held.bytes > this.#entryBytesMax) {
      this.delete(key)
      this.#onLeave(key, value)
    } else {
      const part = this.#main.has(key) ? this.#main : this.#window
      part.set(key, held)
      this.#uses.fit(this.size)
    }
  }

  delete(key: string): boolean {
    return this.#main.delete(key) || this.#window.delete(key)
  }

  /** Up to `max` entries, those of the main part first, and of each part the one that was used last first. */
  survey(max: number): EntryFacts[] {
    const facts: EntryFacts[] = []
    for (const part of [this.#main, this.#window]) {
      for (const [key, { bytes, hash }] of part.entries()) {
        if (facts.length >= max) return facts
        facts.push({ key, bytes, uses: this.#uses.of(hash) })
      }
    }
    return facts
  }

  /** Moves an entry into the main part, if it was used more often than all the entries together that make room for it. */
  #admit(key: string, held: Held<V>): boolean {
    const main = this.#main
    let uses = this.#uses.of(held.hash)
    while (main.calculatedSize + held.bytes > main.maxSize) {
      const oldest = main.rkeys().next().value!
      uses -= this.#uses.of(main.peek(oldest)!.hash)
      if (uses <= 0) return false
      main.delete(oldest)
    }
    main.set(key, held)
    return true
  }
}

/** V8 stores a string in one byte for each character if all of them are Latin-1, otherwise in two. */
function bytesOf(text: string): number {
  return /[^\0-\xff]/.test(text) ? 2 * text.length : text.length
}
