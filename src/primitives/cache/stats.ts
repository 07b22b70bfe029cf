/** What happened to the keys of one kind, since the process started. */
export interface GroupStats {
  module: string
  group: string
  /** Taken from memory. */
  hits: number
  /** Taken from the shared layer. */
  sharedHits: number
  /** Taken although due: while a load ran, or because it failed. */
  graces: number
  /** Loads that began. */
  loads: number
  /** Readers who shared somebody else's load. */
  coalesced: number
  failures: number
  /** Loaded without the cache: the log could not be read. */
  bypassed: number
  /** Sum over all loads. */
  loadMs: number
}

/** What a warming did. */
export interface Warmed {
  items: number
  failed: number
  ms: number
}

/** Above so many kinds of keys the rest is counted together: a key that is made of text has a kind for each. */
const groupsMax = 200

export class Groups {
  readonly #groups = new Map<string, GroupStats>()

  of(module: string, group: string): GroupStats {
    const name = `${module}/${group}`
    return this.#groups.get(name) ?? this.#add(name, module, group)
  }

  all(): GroupStats[] {
    return [...this.#groups.values()]
  }

  #add(name: string, module: string, group: string): GroupStats {
    if (this.#groups.size >= groupsMax && group !== 'other') return this.of(module, 'other')
    const counts = { hits: 0, sharedHits: 0, graces: 0, loads: 0, coalesced: 0, failures: 0, bypassed: 0, loadMs: 0 }
    const added = { module, group, ...counts }
    this.#groups.set(name, added)
    return added
  }
}
