/** Types that pass between the policy and an adapter in a search. */

/** `text` is in the form of `normal.ts`. */
export type Term = { text: string; kind: 'word' | 'prefix' | 'phrase' }

export interface LookedUp {
  /** The generation that was asked, or none if nothing was ever indexed. */
  generation: number | undefined
  typos: boolean
  terms: readonly {
    query: string
    /** A shorter query that stands for all suggestions. */
    ranking: string | undefined
    /** About how many documents have the term. */
    docs: number
    /** About how many have it in fields of weight A and B. */
    strong: number
    suggestions: readonly Suggestion[]
  }[]
  /** About how many documents there are. */
  documents: number
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
  /** A query with fewer words, by which the matches are ranked: each word costs as much again for every candidate. */
  ranking: string
  /** A document must have one mark of each list. */
  filters: readonly (readonly string[])[]
  facets: readonly string[]
  /** Only one of 2^n documents is looked at. */
  thinning: number
  /**
   * If not all matches are looked at, one of 2^n is looked at of those that have all words in fields of weight A and B, at most half as
   * many.
   */
  thinningStrong: number
  candidatesMax: number
  limit: number
  offset: number
}

export interface Matches {
  hits: readonly { id: string; score: number }[]
  total: number
  /** Whether there are matches that were not looked at. */
  more: boolean
  facets: readonly { mark: string; count: number }[]
}

export interface Highlighted {
  generation: number
  /** Has the words that are to be marked. */
  query: string
  ids: readonly string[]
  fields: readonly string[]
}

export interface Highlight {
  id: string
  field: string
  /** Escaped text with the matches between U+0001 and U+0002. */
  html: string
}
