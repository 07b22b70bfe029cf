import type { Data } from 'rung'
import type { PageAsked } from '../schemas.ts'

/** What is kept of one account, for its owner. */

export async function writtenBy(data: Data, { accountId, after, limit }: PageAsked) {
  const rows = await data.read(
    (sql) => sql<{ id: number; articleId: number; body: string; created_at: Date; updated_at: Date }>`
      select id, article_id as "articleId", body, created_at, updated_at
      from comments.comment where author_id = ${accountId} and id > ${after} order by id limit ${limit}`,
  )
  return rows.map(({ created_at, updated_at, ...row }) => ({
    ...row,
    createdAt: created_at.toISOString(),
    updatedAt: updated_at.toISOString(),
  }))
}

export async function countOf(data: Data, accountId: number): Promise<{ comments: number }> {
  const [row] = await data.read(
    (sql) => sql<{ comments: number }>`
      select count(*)::int as comments from comments.comment where author_id = ${accountId}`,
  )
  return row!
}
