import { furthest, nowhere, type Position } from '../../kernel/position.ts'
import { BriefMap } from './brief.ts'

/** What this process knows of a tag. Entries point to their tags, so that whether an entry is current is a comparison of numbers. */
export interface Tag {
  readonly name: string
  /** When it was last invalidated, on this process' own count of invalidations; 0 if never. */
  at: number
  /** A load of something with this tag must see at least this much of the databases. */
  position: Position
  /** How many entries and loads point to it. */
  held: number
}

/** Above this, tags that nothing points to are forgotten, those that were invalidated first before others. */
const tagsMax = 20_000

/**
 * The tags of this process. Numbers come from one counter, so "invalidated since this load began" is one comparison, whatever
 * the order in which transactions and messages arrive.
 */
export class Tags {
  #count = 0
  readonly #byName = new BriefMap<string, Tag>()
  /** The latest invalidation of a forgotten tag: a tag that is not known may have been invalidated then, and at that position. */
  #forgottenAt = 0
  #forgottenPosition: Position = nowhere

  /** The time on this counter. */
  get now(): number {
    return this.#count
  }

  /** The position of the last invalidation of any tag. */
  position: Position = nowhere

  /** Returns the position of the last invalidation of these tags. */
  positionOf(names: readonly string[]): Position {
    const last = (name: string) => this.#byName.get(name)?.position ?? this.#forgottenPosition
    return names.reduce((seen, name) => furthest(seen, last(name)), nowhere)
  }

  /** Returns the tags, and keeps them until `release`. */
  hold(names: readonly string[]): Tag[] {
    return names.map((name) => {
      const tag = this.#tag(name)
      tag.held += 1
      return tag
    })
  }

  release(tags: readonly Tag[]): void {
    for (const tag of tags) {
      tag.held -= 1
      // It was never invalidated, so forgetting it loses nothing.
      if (tag.held === 0 && tag.at <= this.#forgottenAt) this.#byName.delete(tag.name)
    }
  }

  invalidate(names: readonly string[], position: Position): void {
    this.#count += 1
    this.position = furthest(this.position, position)
    for (const name of names) {
      const tag = this.#tag(name)
      tag.at = this.#count
      tag.position = furthest(tag.position, position)
      this.#byName.delete(name) // to the end: the map is in the order of invalidations
      this.#byName.set(name, tag)
    }
    if (this.#byName.size > tagsMax) this.#forget()
  }

  /** Invalidates everything that was loaded before: the process may have missed something. */
  invalidateAll(position: Position): void {
    this.#count += 1
    this.position = furthest(this.position, position)
    this.#forgottenAt = this.#count
    this.#forgottenPosition = furthest(this.#forgottenPosition, position)
    for (const [, tag] of this.#byName.entries()) {
      tag.at = this.#count
      tag.position = furthest(tag.position, position)
    }
  }

  #tag(name: string): Tag {
    let tag = this.#byName.get(name)
    if (!tag) {
      tag = { name, at: this.#forgottenAt, position: this.#forgottenPosition, held: 0 }
      this.#byName.set(name, tag)
    }
    return tag
  }

  #forget(): void {
    let surplus = this.#byName.size - tagsMax * 0.9
    for (const [name, tag] of this.#byName.entries()) {
      if (surplus <= 0) break
      surplus -= 1
      if (tag.held > 0) continue
      this.#byName.delete(name)
      this.#forgottenAt = Math.max(this.#forgottenAt, tag.at)
      this.#forgottenPosition = furthest(this.#forgottenPosition, tag.position)
    }
  }
}

/** Whether none of the tags was invalidated since. */
export function unchanged(tags: readonly Tag[], since: number): boolean {
  for (let index = 0; index < tags.length; index += 1) if (tags[index]!.at > since) return false
  return true
}

export function positionOf(tags: readonly Tag[]): Position {
  return tags.reduce((seen, tag) => furthest(seen, tag.position), nowhere)
}
