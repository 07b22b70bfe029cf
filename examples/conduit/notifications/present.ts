import type { ArticleCalls } from '../articles/contract.ts'
import type { IdentityCalls } from '../identity/contract.ts'
import { profilesSeen } from '../identity/seen.ts'
import type { Kind, NotificationRow } from './notifications.ts'

type Calls = { identity: IdentityCalls; articles: ArticleCalls }

/** A notification as its reader sees it. */
export interface Shown {
  id: number
  kind: Kind
  createdAt: Date
  read: boolean
  actor: { username: string; bio: string | null; image: string | null; following: boolean }
  article: { slug: string; title: string } | null
  commentId: number | null
}

/** Names and titles as they are now; one call to each of the two modules. What an account that is gone did is left out. */
export async function present(calls: Calls, rows: readonly NotificationRow[], viewer: number | null): Promise<Shown[]> {
  const articleIds = rows.flatMap(({ article_id }) => article_id ?? [])
  const [actors, titles] = await Promise.all([
    profilesSeen(calls.identity, { ids: rows.map(({ actor_id }) => actor_id), viewer }),
    articleIds.length === 0 ? [] : calls.articles.titlesOf({ ids: [...new Set(articleIds)] }),
  ])
  const articles = new Map(titles.map(({ id, slug, title }) => [id, { slug, title }]))
  return rows.flatMap(({ id, kind, actor_id, subject_id, article_id, created_at: createdAt, read }) => {
    const actor = actors.get(actor_id)
    if (!actor) return []
    const article = (article_id !== null && articles.get(article_id)) || null
    return [{ id, kind, createdAt, read, actor, article, commentId: kind === 'comment' ? subject_id : null }]
  })
}
