import type { Cache, CallHandlers, Data } from 'rung'
import type { ArticleCalls } from '../articles/contract.ts'
import type { IdentityCalls } from '../identity/contract.ts'
import { accountTag, everyAccount } from '../identity/tags.ts'
import { articleNamed } from './article.ts'
import { addComment, commentsOn, commentsTag, deleteComment } from './comments.ts'
import type { commentCalls } from './contract.ts'
import { countOf, writtenBy } from './kept.ts'
import { present } from './shapes.ts'

/** Of an article with more commenters it is not worth knowing which of them has changed. */
const namedMax = 100

/** How comments answers what other modules ask of it. */
export function answers(
  data: Data,
  cache: Cache,
  { identity, articles }: { identity: IdentityCalls; articles: ArticleCalls },
): CallHandlers<typeof commentCalls> {
  const on = cache.cached(
    'comments',
    {
      ttl: '5m',
      grace: '1h',
      tags: (comments, articleId) => {
        const names = [...new Set(comments.map(({ author }) => accountTag(author.username)))]
        return [commentsTag(articleId), ...(names.length > namedMax ? [everyAccount] : names)]
      },
    },
    async (articleId: number) => present(identity, await commentsOn(data, articleId), null),
  )
  return {
    on: ({ articleId }) => on(articleId),
    add: async ({ viewer, slug, comment }) => {
      const { id } = await addComment(data, await articleNamed(articles, slug), viewer, comment.body)
      return { id }
    },
    remove: async ({ viewer, slug, id }) => {
      await deleteComment(data, (await articleNamed(articles, slug)).id, viewer, id)
      return null
    },
    writtenBy: (asked) => writtenBy(data, asked),
    countOf: ({ accountId }) => countOf(data, accountId),
  }
}
