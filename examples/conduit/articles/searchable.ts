import { defineIndex, type SearchDocument } from 'rung'
import type { ArticleRow } from './articles.ts'

/** Authors by their accounts' ids: names are identity's to know, and may change. */
export const articleIndex = defineIndex('articles', {
  language: 'english',
  fields: { title: { weight: 'A' }, tagList: { weight: 'B' }, description: { weight: 'B' }, body: {} },
  facets: ['tag', 'author'],
})
/** To be counted up with each change above: the app then fills the index anew. */
export const indexVersion = 1

type Searched = 'title' | 'tagList' | 'description' | 'body' | 'tag' | 'author'

export function documentOf(
  row: Pick<ArticleRow, 'title' | 'tag_list' | 'description' | 'body' | 'author_id'>,
): SearchDocument<Searched> {
  const { title, tag_list, description, body, author_id } = row
  return { title, tagList: tag_list, description, body, tag: tag_list, author: String(author_id) }
}
