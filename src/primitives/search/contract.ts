import type { Ride } from '../data/rides.ts'

/**
 * What search asks of an adapter: documents of an index change with a transaction and are found by their words. The policy above it
 * (`search.ts`) decides what a query means, how many documents are read, and which words may be meant by a misspelt one.
 *
 * What must hold on every adapter:
 * - a change is found when its transaction has committed, and only then. Later changes of a document win over earlier ones;
 * - `find` does not fail for any text, and its work is bounded for any number of matches;
 * - a rebuild fills a new generation beside the one that is read. Changes that commit meanwhile go into both and win over the documents
 *   that the rebuild puts. `finish` switches at one instant and leaves nothing of the old generation;
 * - one rebuild of an index runs at a time (`SEARCH_REBUILDING`). The next rebuild removes the remains of a killed one.
 */
export interface SearchStore {
  /** Returns the rider that makes changes of any indexes, at most one for each document. */
  change(changes: readonly Change[]): Ride
  /** Returns what the index knows of the words of a query. Words that no document has get suggestions. */
  lookUp(index: IndexKey, terms: readonly Term[]): Promise<LookedUp>
  /** @throws GenerationDropped */
  find(query: MatchQuery): Promise<Matches>
  /** @throws GenerationDropped */
  highlight(index: IndexKey, request: HighlightRequest): Promise<readonly Highlight[]>
  rebuild(index: IndexKey): Promise<Rebuild>
}

/** A rebuild has ended since the look-up, and has dropped the generation. The search starts again. */
export class GenerationDropped extends Error {}

export interface IndexKey {
  readonly module: string
  readonly name: string
  /** Name of a text search configuration of Postgres. It decides how words are separated and stemmed. */
  readonly language: string
}

export type Change = { index: IndexKey; id: string } & ({ document: Prepared } | { document?: undefined })

export interface Prepared {
  /** In the order in which they are searched and kept. `form` is searched in place of `text`, if it differs. */
  fields: readonly { name: string; weight: Weight; text: string; form?: string }[]
  /** `facet=value`. */
  marks: readonly string[]
}

export type Weight = 'A' | 'B' | 'C' | 'D'

/** `text` is in the form of `form.ts`. */
export type Term = { text: string; kind: 'word' | 'prefix' | 'phrase' }

export interface LookedUp {
  /** The generation that is read, or `undefined` if nothing was ever indexed. */
  generation: number | undefined
  typos: boolean
  /** Estimated number of documents. */
  documents: number
  terms: readonly {
    query: string
    /** A shorter query to rank by, which stands for all suggestions. */
    ranking: string | undefined
    /** Estimated number of documents that have the term. */
    docs: number
    /** The same, in fields of weight A and B. */
    strong: number
    suggestions: readonly Suggestion[]
  }[]
}

export interface Suggestion {
  word: string
  query: string
  docs: number
}

export interface MatchQuery {
  generation: number
  /** The terms' queries, combined with `&`, `|` and `!`. */
  query: string
  /** The query by which matches are ranked. It has fewer words, because ranking costs the same again for each word of each candidate. */
  ranking: string
  /** A document must have one mark of each list. */
  filters: readonly (readonly string[])[]
  facets: readonly string[]
  /** Only one of 2^n documents is read. */
  thinning: number
  /**
   * If not all matches are read, one of 2^n is read of those that have all words in fields of weight A and B, at most half as many.
   */
  thinningStrong: number
  candidatesMax: number
  limit: number
  offset: number
}

export interface Matches {
  hits: readonly { id: string; score: number }[]
  total: number
  /** Whether there are matches that were not read. */
  more: boolean
  facets: readonly { mark: string; count: number }[]
}

export interface HighlightRequest {
  generation: number
  /** The words to mark. */
  query: string
  ids: readonly string[]
  fields: readonly string[]
}

export interface Highlight {
  id: string
  field: string
  html: string
}

export interface Rebuild {
  /** Does not replace documents that have changed since the rebuild began. */
  put(documents: readonly { id: string; document: Prepared }[]): Promise<void>
  finish(): Promise<void>
  abandon(): Promise<void>
}
