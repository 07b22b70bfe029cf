import { type Data, sql, type Tx } from 'rung'
import { articleKey } from '../articles/events.ts'
import { refuse } from '../errors.ts'
import { articleNotFound } from './article.ts'
import { CommentAdded } from './events.ts'

export interface CommentRow {
  id: number
  author_id: number
  body: string
  created_at: Date
  updated_at: Date
}

/** What shows the comments on an article. */
export const commentsTag = (articleId: number) => `on:${articleId}`

const columns = sql`id, author_id, body, created_at, updated_at`

export async function commentsOn(data: Data, articleId: number): Promise<CommentRow[]> {
  return data.read(
    (sql) => sql<CommentRow>`select ${columns} from comments.comment where article_id = ${articleId} order by id desc`,
  )
}

/**
 * `article` was looked up before, and may be gone by now. That there is none is decided inside the write: a repeated request whose first try
 * has committed is answered with its comment, also if the article was deleted since.
 */
export async function addComment(
  data: Data,
  article: { id: number; authorId: number } | null,
  authorId: number,
  body: string,
): Promise<CommentRow> {
  return data.write(async (tx) => {
    if (article === null) throw articleNotFound()
    const { id: articleId, authorId: articleAuthorId } = article
    await tx`select pg_advisory_xact_lock_shared(hashtextextended(${`comments:${articleId}`}, 0))`
    const [row] = await tx<CommentRow>`insert into comments.comment (article_id, author_id, body)
      select ${articleId}, ${authorId}, ${body}
      where not exists (select from comments.gone where article_id = ${articleId}) returning ${columns}`
    if (!row) throw articleNotFound()
    const event = { commentId: row.id, articleId, articleAuthorId, authorId }
    tx.publish(CommentAdded, event, { key: articleKey(articleId) })
    tx.invalidate([commentsTag(articleId)])
    return row
  })
}

/**
 * Those of a deleted article. Who adds one at the same moment holds the lock until his commit, or comes after this one and
 * finds that the article is gone.
 */
export async function removeComments(tx: Tx, articleId: number): Promise<void> {
  await tx`select pg_advisory_xact_lock(hashtextextended(${`comments:${articleId}`}, 0))`
  await tx`insert into comments.gone (article_id) values (${articleId}) on conflict do nothing`
  await tx`delete from comments.comment where article_id = ${articleId}`
  tx.invalidate([commentsTag(articleId)])
}

export async function deleteComment(data: Data, articleId: number, viewer: number, id: number): Promise<void> {
  await data.write(async (tx) => {
    const [row] = await tx<{ author_id: number }>`
      select author_id from comments.comment where id = ${id} and article_id = ${articleId} for update`
    if (!row) throw refuse('HTTP_NOT_FOUND', 'comment', 'not found')
    if (row.author_id !== viewer) throw refuse('HTTP_FORBIDDEN', 'comment', 'forbidden')
    await tx`delete from comments.comment where id = ${id}`
    tx.invalidate([commentsTag(articleId)])
  })
}
