import { placeOf } from '../../kernel/spread.ts'
import type { Mark } from './contract.ts'
import type { SharedEntry } from './entry.ts'
import type { LayerFacts } from './layer.ts'
import type { SharedCache, Ticket } from './shared.ts'

/**
 * The shared layer on one node or on several. Each node has its part of the keys, and all that it takes to judge their entries: its own epoch
 * and mark, and counts of all tags. So every node is told of every invalidation, and a node that is away takes only its part along.
 */
export class SpreadCache {
  readonly nodes: readonly SharedCache[]

  constructor(nodes: readonly SharedCache[]) {
    this.nodes = nodes
  }

  /** Returns the node of a key. */
  nodeOf(key: string): SharedCache {
    return this.nodes[placeOf(key, this.nodes.length)]!
  }

  get up(): boolean {
    return this.nodes.every(({ up }) => up)
  }

  /** Calls `emptied` whenever a node is used again and has lost what it held. */
  onEmptied(emptied: () => void): void {
    for (const node of this.nodes) node.onEmptied(emptied)
  }

  async start(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.start()))
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.close()))
  }

  noteMark(database: string, mark: Mark): void {
    for (const node of this.nodes) node.noteMark(database, mark)
  }

  find(key: string, names: readonly string[], good: (found: SharedEntry) => boolean) {
    return this.nodeOf(key).find(key, names, good)
  }

  store(ticket: Ticket, entry: SharedEntry): Promise<boolean> {
    return this.nodeOf(ticket.key).store(ticket, entry)
  }

  giveUp(ticket: Ticket): Promise<void> {
    return this.nodeOf(ticket.key).giveUp(ticket)
  }

  /** Returns the facts of the nodes that answer, added up; `undefined` if none does. */
  async facts(): Promise<LayerFacts | undefined> {
    const asked = await Promise.all(
      this.nodes.map((node) => (node.up ? node.facts().catch(() => undefined) : undefined)),
    )
    const all = asked.filter((facts) => facts !== undefined)
    const sum = (fact: 'keys' | 'bytes' | 'bytesMax' | 'evicted') =>
      all.reduce((total, facts) => total + facts[fact], 0)
    const [first] = all
    if (first === undefined || this.nodes.length === 1) return first
    return {
      engine: `${first.engine}, ${all.length} of ${this.nodes.length} nodes`,
      keys: sum('keys'),
      bytes: sum('bytes'),
      bytesMax: sum('bytesMax'),
      evicted: sum('evicted'),
    }
  }
}
