import type { Data, SqlTag } from 'rung'

export type Kind = 'follow' | 'comment' | 'favorite'

export interface NotificationRow {
  id: number
  kind: Kind
  actor_id: number
  /** The comment, the article; 0 for a follower. */
  subject_id: number
  article_id: number | null
  created_at: Date
  read: boolean
}

export interface News {
  accountId: number
  kind: Kind
  actorId: number
  subjectId?: number
  articleId?: number
}

/** Nobody is told of what he did himself. */
export async function notify(tx: SqlTag, { accountId, kind, actorId, subjectId = 0, articleId }: News): Promise<void> {
  if (accountId === actorId) return
  await tx`insert into notifications.notification (account_id, kind, actor_id, subject_id, article_id)
    values (${accountId}, ${kind}, ${actorId}, ${subjectId}, ${articleId ?? null}) on conflict do nothing`
}

export async function forgetArticle(tx: SqlTag, articleId: number): Promise<void> {
  await tx`delete from notifications.notification where article_id = ${articleId}`
}

export interface Page {
  rows: NotificationRow[]
  total: number
  unread: number
}

export async function pageOf(
  data: Data,
  accountId: number,
  { limit, offset }: { limit: number; offset: number },
): Promise<Page> {
  // One statement, so that the counts are those of the page's moment; also an empty page has a row, with no id.
  const rows = await data.read(
    (sql) => sql<NotificationRow & { total: number; unread: number }>`
      select counted.total, counted.unread, page.*
      from (
        select count(*)::int as total, count(*) filter (where read_at is null)::int as unread
        from notifications.notification where account_id = ${accountId}
      ) counted
      left join (
        select id, kind, actor_id, subject_id, article_id, created_at, read_at is not null as read
        from notifications.notification where account_id = ${accountId}
        order by id desc limit ${limit} offset ${offset}
      ) page on true
      order by page.id desc`,
  )
  const { total, unread } = rows[0]!
  return { rows: rows.filter(({ id }) => id !== null), total, unread }
}

/** Up to the newest that the reader has seen: what came since stays unread. Gives how many still are. */
export async function markRead(data: Data, accountId: number, upTo: number): Promise<number> {
  return data.write(async (tx) => {
    await tx`update notifications.notification set read_at = now()
      where account_id = ${accountId} and read_at is null and id <= ${upTo}`
    const [row] = await tx<{ unread: number }>`
      select count(*)::int as unread from notifications.notification where account_id = ${accountId} and read_at is null`
    return row!.unread
  })
}
