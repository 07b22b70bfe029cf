import type { ModuleContext } from 'rung'
import type { articles } from '../articles/module.ts'
import { refuse } from '../errors.ts'

export type Articles = ModuleContext<{ articles: typeof articles }>['calls']['articles']

/** The article that is commented on. */
export async function articleNamed(articles: Articles, slug: string): Promise<{ id: number; authorId: number }> {
  const found = await articles.refOf({ slug })
  if (found === null) throw refuse('HTTP_NOT_FOUND', 'article', 'not found')
  return found
}
