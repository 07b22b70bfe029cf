import { defineModule, on } from 'rung'
import { Type } from 'typebox'
import { articleCalls } from '../articles/contract.ts'
import { ArticleDeleted } from '../articles/events.ts'
import { identityCalls } from '../identity/contract.ts'
import { Envelope, Errors, failures } from '../schemas.ts'
import { onlySignedIn, signedIn, viewerOf } from '../viewer.ts'
import { articleNamed } from './article.ts'
import { answers } from './calls.ts'
import { addComment, commentsOn, deleteComment, removeComments } from './comments.ts'
import { commentCalls } from './contract.ts'
import { Comment, NewComment, present } from './shapes.ts'

const Slug = Type.Object({ slug: Type.String() })

/**
 * Comments on articles. Those of a deleted article are out of reach at once, since its address is gone; their rows go as
 * soon as this module hears of it.
 */
export const comments = defineModule({
  name: 'comments',
  owner: 'community',
  migrations: new URL('./migrations/', import.meta.url),
  uses: { identity: identityCalls, articles: articleCalls },

  exposes: commentCalls,
  calls: ({ data, cache, calls }) => answers(data, cache, calls),

  work: () => [on(ArticleDeleted, ({ payload }, tx) => removeComments(tx, payload.articleId))],

  routes(http, { data, calls }) {
    const who = calls.identity
    const tags = ['Comments']
    const security = [{ token: [] }]
    const preValidation = onlySignedIn(who)

    http.get(
      '/api/articles/:slug/comments',
      {
        schema: {
          operationId: 'GetArticleComments',
          tags,
          params: Slug,
          response: { 200: Type.Object({ comments: Type.Array(Comment) }), 401: Errors, 404: Errors, ...failures },
        },
      },
      async (request) => {
        const viewer = await viewerOf(request, who)
        const rows = await commentsOn(data, (await articleNamed(calls.articles, request.params.slug)).id)
        return { comments: await present(who, rows, viewer) }
      },
    )

    http.post(
      '/api/articles/:slug/comments',
      {
        config: { idempotency: 'optional' },
        schema: {
          operationId: 'CreateArticleComment',
          tags,
          security,
          params: Slug,
          body: Envelope('comment', NewComment),
          response: { 201: Envelope('comment', Comment), 401: Errors, 404: Errors, 409: Errors, ...failures },
        },
        preValidation,
      },
      async (request, reply) => {
        const viewer = await signedIn(request, who)
        const row = await addComment(
          data,
          await calls.articles.refOf({ slug: request.params.slug }),
          viewer,
          request.body.comment.body,
        )
        const [comment] = await present(who, [row], viewer)
        return reply.status(201).send({ comment: comment! })
      },
    )

    http.delete(
      '/api/articles/:slug/comments/:id',
      {
        schema: {
          operationId: 'DeleteArticleComment',
          tags,
          security,
          params: Type.Object({
            slug: Type.String(),
            id: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
          }),
          response: { 204: Type.Null(), 401: Errors, 403: Errors, 404: Errors, ...failures },
        },
        preValidation,
      },
      async (request, reply) => {
        const viewer = await signedIn(request, who)
        const { slug, id } = request.params
        await deleteComment(data, (await articleNamed(calls.articles, slug)).id, viewer, id)
        return reply.status(204).send(null)
      },
    )
  },
})
