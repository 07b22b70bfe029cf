import { defineIndex, type SearchDocument } from 'rung'
import type { ArticleRow } from './articles.ts'

/** Authors by their accounts' ids: names are identity's to know, and may change. */
export const articleIndex = defineIndex('articles', {
  language: 'english',
  fields: { title: { weight: 'A' }, tagList: { weight: 'B' }, description: { weight: 'B' }, body: {} },
  facets: ['tag', 'author'],
})
/** To be counted up with each change above: the app then fills the index anew. */
export const indexVersion = 3

type Searched = 'title' | 'tagList' | 'description' | 'body' | 'tag' | 'author'

export function documentOf(
  row: Pick<ArticleRow, 'title' | 'tag_list' | 'description' | 'body' | 'author_id'>,
): SearchDocument<Searched> {
  const { title, tag_list, description, body, author_id } = row
  return { title, tagList: tag_list, description, body: withoutMarkup(body), tag: tag_list, author: String(author_id) }
}

/** Markdown as the words that people see: what is shown of an article among the results has no signs of markup in it. */
function withoutMarkup(markdown: string): string {
  return markdown
    .replace(/^ {0,3}(?:#{1,6} +|> ?|```.*$|~~~.*$)/gm, '')
    .replace(/!?\[([^[\]\n]{0,300})\]\([^()\n]{0,1000}\)/g, '$1') // bounded, so that its time stays linear
    .replace(/\*\*|__|~~|`/g, '')
    .replace(/(^|\s)[*_](?=\S)|(?<=\S)[*_](?=\s|[.,;:!?]|$)/gm, '$1')
}
