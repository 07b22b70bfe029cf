import type { Ride } from '../data/rides.ts'
import type { Found, Highlight, Highlighted, LookedUp, Term, Wanted } from './answers.ts'

/**
 * What search asks of an adapter: documents of an index that are changed with a transaction and found by their words.
 * What a query means (quotes, minus), how much is looked at, and which words are near enough to a misspelt one is policy
 * above it, in `search.ts`.
 *
 * What must hold on every adapter:
 * - a change is found when its transaction has committed, and only then; later changes of a document win over earlier ones;
 * - whatever text is given, `find` answers and does not fail; its work is bounded, whatever number of documents match;
 * - a rebuild fills a new generation beside the one that is read. Changes that commit meanwhile go into both, and win over
 *   what the rebuild puts; `finish` switches at one instant, and nothing of the old generation stays;
 * - one rebuild of an index at a time (`SEARCH_REBUILDING`); one that was killed is cleared away by the next.
 */
export interface SearchStore {
  /** For a transaction: changes of any indexes, at most one for each document. */
  change(changes: readonly Change[]): Ride
  /** What the words of a query are in this index. */
  lookUp(index: IndexKey, terms: readonly Term[], doubtful: boolean): Promise<LookedUp>
  /** `undefined`: a rebuild has ended, and that generation is no longer there. */
  find(wanted: Wanted): Promise<Found | undefined>
  /** Pieces of the texts that were found; `undefined` as with `find`. */
  highlight(index: IndexKey, of: Highlighted): Promise<readonly Highlight[] | undefined>
  rebuild(index: IndexKey): Promise<Rebuild>
}

export interface IndexKey {
  readonly module: string
  readonly name: string
  /** Name of a text search configuration of Postgres: how words are told apart and stemmed. */
  readonly language: string
}

export type Change = { index: IndexKey; id: string } & ({ document: Prepared } | { document?: undefined })

export interface Prepared {
  /** In the order in which they are searched and kept. `form`: what is searched, where it is not the text itself. */
  fields: readonly { name: string; weight: Weight; text: string; form?: string }[]
  /** `facet=value`. */
  marks: readonly string[]
}

export type Weight = 'A' | 'B' | 'C' | 'D'

/** `put` leaves alone what was changed since the rebuild began. */
export interface Rebuild {
  put(documents: readonly { id: string; document: Prepared }[]): Promise<void>
  finish(): Promise<void>
  abandon(): Promise<void>
}
