import { defineEvent } from 'rung'
import { Type } from 'typebox'

/** What articles tells. The key is the article, so that nobody hears of its end before its beginning. */

const Id = Type.Integer({ minimum: 1 })
/** All that a search or a feed elsewhere needs: nobody has to ask back for what may be gone by then. */
const Whole = Type.Object({
  articleId: Id,
  authorId: Id,
  slug: Type.String(),
  title: Type.String(),
  description: Type.String(),
  body: Type.String(),
  tagList: Type.Array(Type.String()),
  createdAt: Type.String(),
})

export const ArticlePublished = defineEvent('articles.published', Whole)
/** As it is now. */
export const ArticleChanged = defineEvent('articles.changed', Whole)
export const ArticleDeleted = defineEvent(
  'articles.deleted',
  Type.Object({ articleId: Id, authorId: Id, slug: Type.String() }),
)
export const ArticleFavorited = defineEvent(
  'articles.favorited',
  Type.Object({ articleId: Id, authorId: Id, accountId: Id }),
)
/** Many views in one: pairs of an article and a number, all of one day (UTC). Without a key: sums know no order. */
export const ArticlesViewed = defineEvent(
  'articles.viewed',
  Type.Object({ day: Type.String(), views: Type.Array(Type.Tuple([Id, Type.Integer({ minimum: 1 })])) }),
)

export const articleKey = (articleId: number) => `article:${articleId}`
