import { accountTag } from '../identity/tags.ts'

/** What kept answers depend on. Slugs and usernames are what they show, so they are what they are known by. */

/** Which articles there are, in which order. */
export const everyList = 'lists'
/** Who favours what. */
export const favorites = 'favorites'
export const tagsTag = 'tags'
export const articleTag = (slug: string) => `article:${slug}`

interface Shown {
  slug: string
  author: { username: string }
}

export function tagsOfArticle({ slug, author }: Shown): string[] {
  return [articleTag(slug), accountTag(author.username)]
}

/** Of a page that was asked for by names: also of one that is empty, until the name belongs to somebody. */
export function tagsOfList(
  { query }: { query: { author?: string | undefined; favorited?: string | undefined } },
  { articles }: { articles: readonly Shown[] },
): string[] {
  const names = [query.author, query.favorited].filter((name) => name !== undefined)
  const all = [everyList, ...names.map(accountTag), ...articles.flatMap(tagsOfArticle)]
  return [...new Set(query.favorited === undefined ? all : [...all, favorites])]
}
