/** Copying a map costs nothing beside so many deletions. */
const renewEvery = 1_000

/**
 * A map whose entries are there for a short time. To make room V8 moves a `Map` to another table, and lets the old one lead to the new
 * one. An old one that the garbage collector takes for long-lived keeps all that follow, with what was in them, until the next full
 * collection: for reads of the shared layer that was a fifth of all CPU. A new map from time to time ends the chain.
 */
export class BriefMap<Key, Value> {
  #map = new Map<Key, Value>()
  #deleted = 0

  get size(): number {
    return this.#map.size
  }

  get(key: Key): Value | undefined {
    return this.#map.get(key)
  }

  has(key: Key): boolean {
    return this.#map.has(key)
  }

  set(key: Key, value: Value): void {
    this.#map.set(key, value)
  }

  /** A key that is set again later is the last one then, as in any map. */
  delete(key: Key): void {
    this.#map.delete(key)
    this.#deleted += 1
    if (this.#deleted < Math.max(renewEvery, this.#map.size)) return
    this.#deleted = 0
    this.#map = new Map(this.#map)
  }

  /** In the order in which they were set. */
  entries(): Iterable<[Key, Value]> {
    return this.#map
  }
}
