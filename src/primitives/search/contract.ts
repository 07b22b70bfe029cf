import type { Ride } from '../data/rides.ts'
import type { Highlight, Highlighted, LookedUp, Matches, MatchQuery, Term } from './answers.ts'

/**
 * What search asks of an adapter: documents of an index that are changed with a transaction and found by their words. What a query means
 * (quotes, minus), how many documents are looked at, and which words are near enough to a misspelt one is policy above it, in `search.ts`.
 *
 * What must hold on every adapter:
 * - a change is found when its transaction has committed, and only then. Later changes of a document win over earlier ones;
 * - `find` does not fail for any text, and its work is bounded for any number of matches;
 * - a rebuild fills a new generation beside the one that is read. Changes that commit meanwhile go into both, and win over what the rebuild
 *   puts. `finish` switches at one instant, and nothing of the old generation stays;
 * - one rebuild of an index runs at a time (`SEARCH_REBUILDING`). What a killed one leaves is removed by the next.
 */
export interface SearchStore {
  /** Returns what a transaction does for changes of any indexes, at most one for each document. */
  change(changes: readonly Change[]): Ride
  /**
   * Returns what the index knows of the words of a query. `doubtful`: words that few documents have get suggestions too, in place of only
   * those that no document has.
   */
  lookUp(index: IndexKey, terms: readonly Term[], doubtful: boolean): Promise<LookedUp>
  /** Returns `undefined` if a rebuild has ended and the generation does not exist any more. */
  find(query: MatchQuery): Promise<Matches | undefined>
  /** Returns pieces of the texts that were found, or `undefined` as `find` does. */
  highlight(index: IndexKey, of: Highlighted): Promise<readonly Highlight[] | undefined>
  rebuild(index: IndexKey): Promise<Rebuild>
}

export interface IndexKey {
  readonly module: string
  readonly name: string
  /** Name of a text search configuration of Postgres, which decides how words are told apart and stemmed. */
  readonly language: string
}

export type Change = { index: IndexKey; id: string } & ({ document: Prepared } | { document?: undefined })

export interface Prepared {
  /** In the order in which they are searched and kept. `form`: what is searched in place of the text, if it is not the same. */
  fields: readonly { name: string; weight: Weight; text: string; form?: string }[]
  /** `facet=value`. */
  marks: readonly string[]
}

export type Weight = 'A' | 'B' | 'C' | 'D'

export interface Rebuild {
  /** Does not replace documents that were changed since the rebuild began. */
  put(documents: readonly { id: string; document: Prepared }[]): Promise<void>
  finish(): Promise<void>
  abandon(): Promise<void>
}
