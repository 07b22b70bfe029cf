import { Climb } from './climb.ts'
import { Sketch } from './sketch.ts'

export interface BoundedOptions<V> {
  bytesMax: number
  /** Told once of each value that was set, when it leaves: replaced, evicted, deleted, not kept. The store is at rest then. */
  onLeave?(key: string, value: V): void
}

export interface Surveyed {
  key: string
  bytes: number
  uses: number
}

/**
 * An entry, and a link in the ring that it is in. The head of a ring is a node of its own: `newer` of it is the oldest entry,
 * `older` of it the newest.
 */
interface Node<V> {
  readonly key: string
  value: V | undefined
  /** With key and overhead. Of a head: of all entries in the ring. */
  bytes: number
  readonly hash: number
  movedAt: number
  ring: Node<V>
  older: Node<V>
  newer: Node<V>
}

/**
 * What an entry takes besides the characters of its key and its value: node, share of the map and of the sketch 140 to 177 on
 * Node 24 (heap and buffers after a collection, 65,536 and 65,537 entries, just before and after both double), head and
 * rounding of the key's text up to 23.
 */
const overheadBytes = 200
/** A larger entry would cost more others than it is worth, and must fit beside the largest window. */
const entryShareMax = 1 / 8
/** Of what is not the window. Source: as for the window's beginning of 1 %, the paper on W-TinyLFU. */
const protectedShare = 0.8
/** Gets for each entry after which the window's size is looked at. */
const getsPerEntry = 4
const periodMin = 1000

/**
 * A map in memory, bounded by bytes, that keeps what is used often. W-TinyLFU (Einziger, Friedman, Manes, "TinyLFU: A Highly
 * Efficient Cache Admission Policy", ACM Transactions on Storage 13(4), 2017):
 *
 *   set → window ──(oldest, if used more often than what it displaces)──→ probation ⇄ protected
 *            └──────────────────────────(if not)──────────────────────────→ leaves
 *
 * Each is a ring from the oldest to the newest. A use in probation leads to protected; what is too much there goes back. What
 * is read once, as in a scan, passes through the window and displaces nothing. Of entries of different sizes a candidate must
 * have been used more often than all together whose room it needs (Einziger, Eytan, Friedman, Manes, "Lightweight Robust Size
 * Aware Cache Management", ACM Transactions on Storage 18(3), 2022).
 */
export class Bounded<V> {
  readonly #nodes = new Map<string, Node<V>>()
  readonly #sketch = new Sketch()
  readonly #window = head<V>()
  readonly #probation = head<V>()
  readonly #protected = head<V>()
  readonly #climb = new Climb()
  readonly #bytesMax: number
  readonly #onLeave: BoundedOptions<V>['onLeave']
  /** Out of the store, but nobody has been told. */
  readonly #left: { readonly key: string; value: V | undefined }[] = []
  #windowMax: number
  #protectedMax: number
  #moves = 0
  #gets = 0
  #hits = 0
  #period = periodMin

  constructor({ bytesMax, onLeave }: BoundedOptions<V>) {
    this.#bytesMax = bytesMax
    this.#onLeave = onLeave
    this.#windowMax = bytesMax * this.#climb.share
    this.#protectedMax = (bytesMax - this.#windowMax) * protectedShare
  }

  get size(): number {
    return this.#nodes.size
  }

  get bytes(): number {
    return this.#window.bytes + this.#mainBytes
  }

  get #mainBytes(): number {
    return this.#probation.bytes + this.#protected.bytes
  }

  /** A use, also when there is nothing: what is asked for often gets in more easily. */
  get(key: string): V | undefined {
    const node = this.#nodes.get(key)
    if (++this.#gets >= this.#period) this.#resize()
    if (node === undefined) {
      this.#sketch.add(this.#sketch.hash(key))
      return undefined
    }
    this.#hits += 1
    this.#sketch.add(node.hash)
    if (node.ring === this.#probation) {
      this.#move(node, this.#protected)
      this.#demote()
    } else if (((this.#moves - node.movedAt) | 0) > this.#nodes.size >>> 3) {
      this.#move(node, node.ring) // else it is still among the newest eighth: popular ones are spared the writes
    }
    return node.value
  }

  /** No use. */
  peek(key: string): V | undefined {
    return this.#nodes.get(key)?.value
  }

  /**
   * `bytes` are the value's. It may leave at once: when it is larger than an eighth of the store, and when the window is full
   * of what is used more often. A new value takes the place of the old one, and its uses; it is none itself.
   */
  set(key: string, value: V, bytes: number): void {
    if (!(bytes >= 0)) throw new RangeError(`A value has ${bytes} bytes: give a number from 0.`)
    const all = Math.ceil(bytes) + bytesOf(key) + overheadBytes
    const known = this.#nodes.get(key)
    if (all > this.#bytesMax * entryShareMax) {
      if (known) this.#drop(known)
      if (this.#onLeave) this.#left.push({ key, value })
    } else if (known) {
      if (this.#onLeave) this.#left.push({ key, value: known.value })
      known.value = value
      known.ring.bytes += all - known.bytes
      known.bytes = all
      this.#demote()
    } else {
      const node = nodeOf(key, value, all, this.#sketch.hash(key))
      this.#nodes.set(key, node)
      this.#sketch.fit(this.#nodes.size)
      this.#link(node, this.#window)
    }
    this.#settle()
    this.#tell()
  }

  delete(key: string): boolean {
    const node = this.#nodes.get(key)
    if (node === undefined) return false
    this.#drop(node)
    this.#tell()
    return true
  }

  /** What was used often is still known: it may come back. */
  clear(): void {
    for (const node of this.#nodes.values()) this.#drop(node)
    this.#tell()
  }

  keys(): IterableIterator<string> {
    return this.#nodes.keys()
  }

  /**
   * Up to `max` entries with their size and how often they were used lately (15: that or more), those in the main part first, the
   * newest of each first. It takes from what is known for admission, so a use costs nothing more.
   */
  survey(max: number): Surveyed[] {
    const seen: Surveyed[] = []
    for (const ring of [this.#protected, this.#window, this.#probation]) {
      for (let node = ring.older; node !== ring && seen.length < max; node = node.older) {
        seen.push({ key: node.key, bytes: node.bytes, uses: this.#sketch.estimate(node.hash) })
      }
    }
    return seen
  }

  #settle(): void {
    while (this.#window.bytes > this.#windowMax) this.#contest(this.#window.newer)
    while (this.bytes > this.#bytesMax) this.#drop(this.#oldestOfMain()) // the window has grown, or a value
  }

  #oldestOfMain(): Node<V> {
    return this.#probation.newer === this.#probation ? this.#protected.newer : this.#probation.newer
  }

  /**
   * Into the main part, or out. Looks at no more than 15 entries that stay: each has been used at least once, a candidate at
   * most 15 times. Those that have not been used lately go also if the candidate fails in the end.
   */
  #contest(candidate: Node<V>): void {
    const uses = this.#sketch.estimate(candidate.hash)
    const room = this.#bytesMax - this.#windowMax - candidate.bytes
    let victim = this.#oldestOfMain()
    let victimsUses = 0
    let victimsBytes = 0
    while (this.#mainBytes - victimsBytes > room) {
      if (victim === this.#probation) victim = this.#protected.newer
      const next = victim.newer
      const its = this.#sketch.estimate(victim.hash)
      victimsUses += its
      if (victimsUses >= uses) {
        this.#drop(candidate)
        return
      }
      if (its === 0) this.#drop(victim)
      else victimsBytes += victim.bytes
      victim = next
    }
    while (this.#mainBytes > room) this.#drop(this.#oldestOfMain())
    this.#move(candidate, this.#probation)
  }

  #demote(): void {
    while (this.#protected.bytes > this.#protectedMax) this.#move(this.#protected.newer, this.#probation)
  }

  /** As much of the window as is too large now goes to the main part with the next set, and the other way round. */
  #resize(): void {
    if (this.bytes > this.#bytesMax * (1 - entryShareMax)) this.#climb.next(this.#hits, this.#gets)
    this.#windowMax = this.#bytesMax * this.#climb.share
    this.#protectedMax = (this.#bytesMax - this.#windowMax) * protectedShare
    this.#demote()
    this.#period = Math.max(periodMin, getsPerEntry * this.#nodes.size)
    this.#gets = 0
    this.#hits = 0
  }

  #link(node: Node<V>, ring: Node<V>): void {
    node.ring = ring
    node.older = ring.older
    node.newer = ring
    ring.older.newer = node
    ring.older = node
    ring.bytes += node.bytes
    this.#moves = (this.#moves + 1) | 0
    node.movedAt = this.#moves
  }

  #move(node: Node<V>, ring: Node<V>): void {
    unlink(node)
    this.#link(node, ring)
  }

  #drop(node: Node<V>): void {
    this.#nodes.delete(node.key)
    unlink(node)
    node.older = node // an old dead node must not keep the younger ones alive until a full collection
    node.newer = node
    if (this.#onLeave) this.#left.push(node)
  }

  /** At the end, and one at a time: who is told may use the store, or throw. */
  #tell(): void {
    for (let left = this.#left.pop(); left !== undefined; left = this.#left.pop())
      this.#onLeave!(left.key, left.value as V)
  }
}

function nodeOf<V>(key: string, value: V | undefined, bytes: number, hash: number): Node<V> {
  const node = { key, value, bytes, hash, movedAt: 0 } as Node<V>
  node.ring = node
  node.older = node
  node.newer = node
  return node
}

function head<V>(): Node<V> {
  return nodeOf<V>('', undefined, 0, 0)
}

function unlink<V>(node: Node<V>): void {
  node.older.newer = node.newer
  node.newer.older = node.older
  node.ring.bytes -= node.bytes
}

/** V8 keeps a text in one byte for each unit if all of it is Latin-1, else in two. */
function bytesOf(text: string): number {
  return /[^\0-\xff]/.test(text) ? 2 * text.length : text.length
}
