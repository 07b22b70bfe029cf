/** What goes back and forth between the policy and an adapter when something is looked for. */

/** `text` is in the form of `normal.ts`. */
export type Term = { text: string; kind: 'word' | 'prefix' | 'phrase' }

/** `ranking`: a shorter query that stands for all suggestions. `docs`: about how many documents have it, `strong`: have it in fields of weight A and B. `doubtful`: words that few documents have get suggestions too, not only those that none has. */
export interface LookedUp {
  /** Which generation was asked; none where nothing was ever indexed. */
  generation: number | undefined
  typos: boolean
  terms: readonly {
    query: string
    ranking: string | undefined
    docs: number
    strong: number
    suggestions: readonly Suggestion[]
  }[]
  /** About as many as there are. */
  documents: number
}

export interface Suggestion {
  word: string
  query: string
  docs: number
}

export interface Wanted {
  generation: number
  /** Of the terms' `query`, put together with `&`, `|` and `!`. */
  query: string
  /** The same with fewer words, by which what is found is ranked: each costs as much again for every candidate. */
  ranking: string
  /** One of each list. */
  filters: readonly (readonly string[])[]
  facets: readonly string[]
  /** Looks at one of 2^n documents. */
  thinning: number
  /**
   * Where not all that match are looked at, those are that have all words in fields of weight A and B, or one of 2^n of them;
   * at most half as many.
   */
  thinningStrong: number
  candidatesMax: number
  limit: number
  offset: number
}

/** `more`: not all that match were looked at. */
export interface Found {
  hits: readonly { id: string; score: number }[]
  total: number
  more: boolean
  facets: readonly { mark: string; count: number }[]
}

export interface Highlighted {
  generation: number
  /** Has one of the words that are marked. */
  query: string
  ids: readonly string[]
  fields: readonly string[]
}

/** HTML: text escaped, what was found between U+0001 and U+0002. */
export interface Highlight {
  id: string
  field: string
  html: string
}
