import type { Data, Search, SearchResult } from 'rung'
import { articlesOf, type ListedRow } from './lists.ts'
import { articleIndex } from './searchable.ts'

/** Among so many of the best the index tells which come first. */
export const offsetMax = 500

const shown = ['title', 'description', 'body'] as const
type Result = SearchResult<(typeof shown)[number], 'tag' | 'author'>

export interface SearchAsked {
  text: string
  tag?: string | undefined
  /** An account; the name was looked up before. */
  author?: number | undefined
  prefix: boolean
  limit: number
  offset: number
  viewer: number | null
}

export interface FoundArticle {
  row: ListedRow
  /** HTML, with `<mark>` around what was found. */
  highlights: Result['hits'][number]['highlights']
}

/** The best first. One that was deleted since the index was asked is left out. */
export async function searchArticles(
  data: Data,
  search: Search,
  { text, tag, author, prefix, limit, offset, viewer }: SearchAsked,
): Promise<{ found: FoundArticle[]; result: Result }> {
  const result: Result = await search.find(articleIndex, {
    text,
    filters: { ...(tag !== undefined && { tag: [tag] }), ...(author !== undefined && { author: [String(author)] }) },
    facets: ['tag', 'author'],
    highlight: shown,
    prefix,
    limit,
    offset,
  })
  const ids = result.hits.map(({ id }) => Number(id))
  const rows = await articlesOf(data, ids, viewer)
  const found = result.hits.flatMap(({ highlights }, at) => {
    const row = rows.get(ids[at]!)
    return row ? [{ row, highlights }] : []
  })
  return { found, result }
}
