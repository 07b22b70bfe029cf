import { defineEvent } from 'rung'
import { Type } from 'typebox'

const Id = Type.Integer({ minimum: 1 })

/** Keyed by the article, as the article's own events are. */
export const CommentAdded = defineEvent(
  'comments.added',
  Type.Object({ commentId: Id, articleId: Id, articleAuthorId: Id, authorId: Id }),
)
