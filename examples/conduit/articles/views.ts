import type { FastifyBaseLogger } from 'fastify'
import type { Data, SqlTag } from 'rung'
import { refuse } from '../errors.ts'
import { ArticlesViewed } from './events.ts'

const publishEveryMs = 1_000
/** More than a process can serve in a second; while nothing can be published, what comes beyond is not counted. */
const articlesMax = 10_000

export interface ViewCounter {
  /** Costs the request that calls it an addition in a map. */
  count(articleId: number): void
  /** Publishes what was counted since the last time. */
  flush(): Promise<void>
  stop(): Promise<void>
}

/**
 * Views of this process, published once a second as one event for all articles together. A process that is killed loses at most
 * a second of them, of which nobody was ever told; one that stops loses none.
 */
export function viewCounter(data: Data, log: Pick<FastifyBaseLogger, 'warn'>): ViewCounter {
  let counted = new Map<number, number>()
  let flushing: Promise<void> | undefined

  async function publish(): Promise<void> {
    const views = counted
    counted = new Map()
    try {
      const day = new Date().toISOString().slice(0, 10)
      await data.write((tx) => tx.publish(ArticlesViewed, { day, views: [...views] }))
    } catch (err) {
      log.warn({ err, articles: views.size }, 'views could not be published; they are tried again')
      for (const [articleId, n] of views) add(articleId, n)
    }
  }

  function add(articleId: number, n: number): void {
    const known = counted.get(articleId)
    if (known === undefined && counted.size >= articlesMax) return
    counted.set(articleId, (known ?? 0) + n)
  }

  function flush(): Promise<void> {
    if (counted.size === 0) return flushing ?? Promise.resolve()
    flushing ??= publish().finally(() => {
      flushing = undefined
    })
    return flushing
  }

  // Begun here and not by a request: what runs in the scope of a request ends with it.
  const timer = setInterval(() => void flush(), publishEveryMs).unref()
  return {
    count: (articleId) => add(articleId, 1),
    flush,
    async stop() {
      clearInterval(timer)
      await flushing // what was counted since it began is not in it
      await flush()
    },
  }
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
