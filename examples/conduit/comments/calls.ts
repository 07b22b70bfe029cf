import { type Cache, call, type Data } from 'rung'
import { Type } from 'typebox'
import { accountTag, everyAccount } from '../identity/tags.ts'
import { type Articles, articleNamed } from './article.ts'
import { addComment, commentsOn, commentsTag, deleteComment } from './comments.ts'
import { Comment, type Identity, NewComment, present } from './shapes.ts'

const Id = Type.Integer({ minimum: 1 })
/** Of an article with more commenters it is not worth knowing which of them has changed. */
const namedMax = 100

/** The discussion of an article, for the module that shows it. */
export function discussionCalls(
  data: Data,
  cache: Cache,
  { identity, articles }: { identity: Identity; articles: Articles },
) {
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
    /** The newest first, as everybody sees them. */
    on: call(Type.Object({ articleId: Id }), Type.Array(Comment), ({ articleId }) => on(articleId)),
    add: call(
      Type.Object({ viewer: Id, slug: Type.String(), comment: NewComment }),
      Type.Object({ id: Id }),
      async ({ viewer, slug, comment }) => {
        const { id } = await addComment(data, await articleNamed(articles, slug), viewer, comment.body)
        return { id }
      },
    ),
    remove: call(
      Type.Object({ viewer: Id, slug: Type.String(), id: Id }),
      Type.Null(),
      async ({ viewer, slug, id }) => {
        await deleteComment(data, (await articleNamed(articles, slug)).id, viewer, id)
        return null
      },
    ),
  }
}
