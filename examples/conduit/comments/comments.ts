import { type Data, sql } from 'rung'
import { refuse } from '../errors.ts'

export interface CommentRow {
  id: number
  author_id: number
  body: string
  created_at: Date
  updated_at: Date
}

const columns = sql`id, author_id, body, created_at, updated_at`

export async function commentsOn(data: Data, articleId: number): Promise<CommentRow[]> {
  return data.read(
    (sql) => sql<CommentRow>`select ${columns} from comments.comment where article_id = ${articleId} order by id desc`,
  )
}

export async function addComment(data: Data, articleId: number, authorId: number, body: string): Promise<CommentRow> {
  const [row] = await data.write(
    (tx) => tx<CommentRow>`insert into comments.comment (article_id, author_id, body)
      values (${articleId}, ${authorId}, ${body}) returning ${columns}`,
  )
  return row!
}

export async function deleteComment(data: Data, articleId: number, viewer: number, id: number): Promise<void> {
  await data.write(async (tx) => {
    const [row] = await tx<{ author_id: number }>`
      select author_id from comments.comment where id = ${id} and article_id = ${articleId} for update`
    if (!row) throw refuse('HTTP_NOT_FOUND', 'comment', 'not found')
    if (row.author_id !== viewer) throw refuse('HTTP_FORBIDDEN', 'comment', 'forbidden')
    await tx`delete from comments.comment where id = ${id}`
  })
}
