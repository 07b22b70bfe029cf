import { type CallsOf, defineCalls } from 'rung'
import { Type } from 'typebox'
import { AccountId, PageAsked } from '../schemas.ts'
import { Comment, NewComment } from './shapes.ts'

const Id = Type.Integer({ minimum: 1 })
const text = Type.String()

/** What other modules may ask of the comments. */
export const commentCalls = defineCalls('comments', {
  /** The newest first, as everybody sees them. */
  on: { input: Type.Object({ articleId: Id }), output: Type.Array(Comment), read: true },
  add: { input: Type.Object({ viewer: Id, slug: text, comment: NewComment }), output: Type.Object({ id: Id }) },
  remove: { input: Type.Object({ viewer: Id, slug: text, id: Id }), output: Type.Null() },
  writtenBy: {
    input: PageAsked,
    output: Type.Array(
      Type.Object({ id: Type.Integer(), articleId: Type.Integer(), body: text, createdAt: text, updatedAt: text }),
    ),
    read: true,
  },
  countOf: { input: AccountId, output: Type.Object({ comments: Type.Integer() }), read: true },
})

export type CommentCalls = CallsOf<typeof commentCalls>
