/** What goes back and forth between the policy and an adapter when something is looked for. */

export type Term = { text: string; kind: 'word' | 'prefix' | 'phrase' }

/** `docs`: about how many documents have it, `strong`: have it in fields of weight A and B. `doubtful`: words that few documents have get suggestions too, not only those that none has. */
export interface LookedUp {
  /** Which generation was asked; none where nothing was ever indexed. */
  generation: number | undefined
  typos: boolean
  terms: readonly { query: string; docs: number; strong: number; suggestions: readonly Suggestion[] }[]
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
  /** One of each list. */
  filters: readonly (readonly string[])[]
  facets: readonly string[]
  /** Looks at one of 2^n documents. */
  thinning: number
  /** Looks also at one of 2^n of those that have all words in fields of weight A and B. */
  thinningStrong: number | undefined
  candidatesMax: number
  limit: number
  offset: number
  highlight: readonly string[]
}

/** `highlights` are HTML: text escaped, what was found between U+0001 and U+0002. `more`: not all that match were looked at. */
export interface Found {
  hits: readonly { id: string; score: number; highlights: Readonly<Record<string, string>> }[]
  total: number
  more: boolean
  facets: readonly { mark: string; count: number }[]
}
