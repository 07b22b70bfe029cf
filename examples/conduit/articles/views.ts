import type { Data, SqlTag } from 'rung'
import { refuse } from '../errors.ts'
import { ArticlesViewed } from './events.ts'

const publishEveryMs = 1_000

/**
 * Gathers the views of one process and publishes them once a second, as one event for all articles. A process that is killed loses
 * the last second; a process that stops loses nothing.
 */
export function viewCounter(data: Data, onFailed: (error: unknown) => void) {
  // rung: one process is enough, because each publishes what it gathered, and the events are added up
  let gathered = new Map<number, number>()
  const add = (articleId: number, n = 1) => gathered.set(articleId, (gathered.get(articleId) ?? 0) + n)

  async function publish(): Promise<void> {
    if (gathered.size === 0) return
    const views = [...gathered]
    gathered = new Map()
    const day = new Date().toISOString().slice(0, 10)
    try {
      await data.write(async (tx) => tx.publish(ArticlesViewed, { day, views }))
    } catch (error) {
      onFailed(error)
      for (const [articleId, n] of views) add(articleId, n) // with the next event
    }
  }

  // rung: one process is enough, because each publishes its own views
  const timer = setInterval(publish, publishEveryMs)
  return {
    add: (articleId: number) => void add(articleId),
    async close() {
      clearInterval(timer)
      await publish()
    },
  }
}

/** Adds to the days of the articles that still exist, in the order of their keys, so that two of these statements cannot deadlock. */
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
