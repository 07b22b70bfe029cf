import type { ArticleCalls } from '../articles/contract.ts'
import { refuse } from '../errors.ts'

/** The article that is commented on. */
export async function articleNamed(articles: ArticleCalls, slug: string): Promise<{ id: number; authorId: number }> {
  const found = await articles.refOf({ slug })
  if (found === null) throw articleNotFound()
  return found
}

export const articleNotFound = () => refuse('HTTP_NOT_FOUND', 'article', 'not found')
