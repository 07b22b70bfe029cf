import type { Position } from '../../kernel/position.ts'
import { BoundedMap, type EntryFacts } from './bounded.ts'
import type { Entry, SharedEntry } from './entry.ts'
import { Tags, unchanged } from './tags.ts'

/** The entries in the memory of this process, and what it knows of their tags. */
export class Memory {
  readonly tags = new Tags()
  readonly #entries: BoundedMap<Entry>

  constructor(bytesMax: number) {
    this.#entries = new BoundedMap({ bytesMax, onLeave: (_key, { tags }) => this.tags.release(tags) })
  }

  get entries(): number {
    return this.#entries.size
  }

  get bytes(): number {
    return this.#entries.bytes
  }

  /** Returns the entry, fresh or not, unless one of its tags was invalidated. */
  find(key: string): Entry | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined || unchanged(entry.tags, entry.asOf)) return entry
    this.#entries.delete(key)
    return undefined
  }

  /**
   * Keeps the entry, unless one of its tags was invalidated since its load began at `asOf`.
   * @returns whether the entry may be kept
   */
  keep(key: string, entry: SharedEntry, asOf: number): boolean {
    const { value, position, seen, names, refreshAt, freshUntil, staleUntil, bytes } = entry
    const tags = this.tags.hold(names)
    const isCurrent = unchanged(tags, asOf)
    if (isCurrent)
      this.#entries.set(key, { value, position, seen, tags, asOf, refreshAt, freshUntil, staleUntil }, bytes)
    else this.tags.release(tags)
    return isCurrent
  }

  invalidate(names: readonly string[], position: Position): void {
    this.tags.invalidate(names, position)
  }

  survey(max: number): EntryFacts[] {
    return this.#entries.survey(max)
  }
}
