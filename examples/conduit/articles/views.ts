import type { Counted, Data, SqlTag, Tx } from 'rung'
import { refuse } from '../errors.ts'
import { ArticlesViewed } from './events.ts'

/** What an answer with an article counts as; its author's own reading is none. */
export function viewOf({ id, authorId }: { id: number; authorId: number }, viewer: number | null): string | undefined {
  return viewer === authorId ? undefined : `@articles/${id}`
}

/** Views of all articles together, counted about once a second by every process and by the edge: one event for all of them. */
export function publishViews(tx: Tx, counted: readonly Counted[]): void {
  const views = counted.map(({ name, n }): [number, number] => [Number(name), n])
  tx.publish(ArticlesViewed, { day: new Date().toISOString().slice(0, 10), views })
}

/** Adds to the days of the articles that there still are. In the order of their keys: two of these never wait in a circle. */
export async function addViews(tx: SqlTag, day: string, views: readonly (readonly [number, number])[]): Promise<void> {
  const [ids, counts] = [views.map(([id]) => id), views.map(([, n]) => n)]
  await tx`
    insert into articles.view_day (article_id, day, n)
    select article.id, ${day}::date, viewed.n
    from unnest(${ids}::bigint[], ${counts}::bigint[]) viewed (article_id, n)
    join articles.article on article.id = viewed.article_id order by article.id
    on conflict (article_id, day) do update set n = view_day.n + excluded.n`
}

export interface Views {
  total: number
  /** Days (UTC) with views, the newest first. */
  days: { day: string; count: number }[]
}

/** For the author. */
export async function viewsOf(data: Data, viewer: number, slug: string, daysMax: number): Promise<Views> {
  const [article] = await data.read(
    (sql) => sql<{ id: number; author_id: number }>`select id, author_id from articles.article where slug = ${slug}`,
  )
  if (!article) throw refuse('HTTP_NOT_FOUND', 'article', 'not found')
  if (article.author_id !== viewer) throw refuse('HTTP_FORBIDDEN', 'article', 'forbidden')
  const rows = await data.read(
    (sql) => sql<{ day: string; count: number; total: number }>`
      select day::text, n as count, (sum(n) over ())::bigint as total from articles.view_day
      where article_id = ${article.id} order by view_day.day desc limit ${daysMax}`,
  )
  return { total: rows[0]?.total ?? 0, days: rows.map(({ day, count }) => ({ day, count })) }
}
