import type { Data } from 'rung'
import type { PageAsked } from '../schemas.ts'

/** What is kept of one account, for its owner: in the order of the articles' numbers, from `after` on. */

export async function writtenBy(data: Data, { accountId, after, limit }: PageAsked) {
  const rows = await data.read(
    (sql) => sql<Written & { created_at: Date; updated_at: Date }>`
      select id, slug, title, description, body, tag_list as "tagList", created_at, updated_at
      from articles.article where author_id = ${accountId} and id > ${after} order by id limit ${limit}`,
  )
  return rows.map(({ created_at, updated_at, ...row }) => ({
    ...row,
    createdAt: created_at.toISOString(),
    updatedAt: updated_at.toISOString(),
  }))
}

interface Written {
  id: number
  slug: string
  title: string
  description: string
  body: string
  tagList: string[]
}

export async function favoritesOf(data: Data, { accountId, after, limit }: PageAsked) {
  const rows = await data.read(
    (sql) => sql<{ id: number; slug: string; title: string; created_at: Date }>`
      select article.id, article.slug, article.title, favorite.created_at
      from articles.favorite join articles.article on article.id = favorite.article_id
      where favorite.account_id = ${accountId} and favorite.article_id > ${after}
      order by favorite.article_id limit ${limit}`,
  )
  return rows.map(({ created_at, ...row }) => ({ ...row, favoritedAt: created_at.toISOString() }))
}

export async function countsOf(data: Data, accountId: number): Promise<{ articles: number; favorites: number }> {
  const [row] = await data.read(
    (sql) => sql<{ articles: number; favorites: number }>`
      select coalesce((select n from articles.author_count where author_id = ${accountId}), 0)::int as articles,
        coalesce((select n from articles.favorite_count where account_id = ${accountId}), 0)::int as favorites`,
  )
  return row!
}
