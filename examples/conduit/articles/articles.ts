import { type Data, isRungError, type SqlTag, sql } from 'rung'
import { refuse } from '../errors.ts'
import { articleTag, everyList, favorites, tagsTag } from './cached.ts'
import { ArticleChanged, ArticleDeleted, ArticleFavorited, ArticlePublished, articleKey } from './events.ts'
import type { ListedRow } from './lists.ts'
import { articleIndex, documentOf } from './searchable.ts'
import { slugOf, withSuffix } from './slugs.ts'

export interface ArticleRow extends ListedRow {
  body: string
}

export interface NewArticle {
  title: string
  description: string
  body: string
  tagList?: readonly string[]
}

export type ArticleChanges = Partial<NewArticle>

/** The article as others may want to keep it. */
const whole = (row: ArticleRow) => ({
  articleId: row.id,
  authorId: row.author_id,
  slug: row.slug,
  title: row.title,
  description: row.description,
  body: row.body,
  tagList: row.tag_list,
  createdAt: row.created_at.toISOString(),
})

const columns = sql`id, slug, title, description, body, tag_list, favorites_count, author_id, created_at, updated_at`

function notFound(): Error {
  return refuse('HTTP_NOT_FOUND', 'article', 'not found')
}

/** Which article, and who looks at it. */
export interface ArticleAsked {
  slug: string
  viewer: number | null
}

/** Articles by their address; what several requests ask for at one moment is one look-up. */
export function articleBatch(data: Data): (asked: ArticleAsked) => Promise<ArticleRow> {
  const find = data.batch<ArticleAsked, ArticleRow | undefined>(async (sql, asked) => {
    const rows = await sql<ArticleRow & { n: number }>`
      select asked.n, ${columns},
        exists (select from articles.favorite where account_id = asked.viewer and article_id = article.id) as favorited
      from unnest(${asked.map((_, n) => n)}::int[], ${asked.map(({ slug }) => slug)}::text[],
        ${asked.map(({ viewer }) => viewer)}::bigint[]) asked (n, slug, viewer)
      join articles.article using (slug)`
    const byNumber = new Map(rows.map(({ n, ...row }) => [n, row]))
    return asked.map((_, n) => byNumber.get(n))
  })
  return async (asked) => {
    const article = await find(asked)
    if (!article) throw notFound()
    return article
  }
}

/** A title's own slug while it is free, one with a suffix after that; `insert` gives no row where it is taken. */
async function withFreeSlug<Row>(title: string, insert: (slug: string) => PromiseLike<Row[]>): Promise<Row> {
  const slug = slugOf(title)
  for (let candidate = slug; ; candidate = withSuffix(slug)) {
    const [row] = await insert(candidate)
    if (row) return row
  }
}

/** Each tag once, in the order given. */
function distinct(tags: readonly string[]): string[] {
  return [...new Set(tags)]
}

async function insertTags(tx: SqlTag, articleId: number, authorId: number, tags: readonly string[]): Promise<void> {
  if (tags.length === 0) return
  await tx`insert into articles.article_tag (tag, article_id, author_id) select tag, ${articleId}, ${authorId} from unnest(${tags}::text[]) tag`
}

export async function createArticle(data: Data, authorId: number, article: NewArticle): Promise<ArticleRow> {
  const tags = distinct(article.tagList ?? [])
  return data.write(async (tx) => {
    const row = await withFreeSlug(
      article.title,
      (slug) => tx<ArticleRow>`
        insert into articles.article (slug, author_id, title, description, body, tag_list)
        values (${slug}, ${authorId}, ${article.title}, ${article.description}, ${article.body}, ${tags})
        on conflict (slug) do nothing returning ${columns}, false as favorited`,
    )
    await insertTags(tx, row.id, authorId, tags)
    tx.publish(ArticlePublished, whole(row), { key: articleKey(row.id) })
    tx.index(articleIndex, row.id, documentOf(row))
    tx.invalidate(tags.length > 0 ? [everyList, tagsTag] : [everyList])
    return row
  })
}

/** The article, locked, if it is the viewer's. */
async function ownArticle(tx: SqlTag, slug: string, viewer: number): Promise<Omit<ArticleRow, 'favorited'>> {
  const [row] = await tx<Omit<ArticleRow, 'favorited'>>`
    select ${columns} from articles.article where slug = ${slug} for update`
  if (!row) throw notFound()
  if (row.author_id !== viewer) throw refuse('HTTP_FORBIDDEN', 'article', 'forbidden')
  return row
}

export async function updateArticle(
  data: Data,
  viewer: number,
  slug: string,
  changes: ArticleChanges,
): Promise<ArticleRow> {
  return againWhereTaken(() =>
    data.write(async (tx) => {
      const old = await ownArticle(tx, slug, viewer)
      const { id, title } = old
      if (changes.title !== undefined && changes.title !== title) await rename(tx, id, slug, changes.title)
      const tags = changes.tagList && distinct(changes.tagList)
      if (tags) {
        await tx`delete from articles.article_tag where article_id = ${id}`
        await insertTags(tx, id, viewer, tags)
      }
      const set = [sql`updated_at = greatest(clock_timestamp(), updated_at + interval '1 millisecond')`]
      if (changes.description !== undefined) set.push(sql`description = ${changes.description}`)
      if (changes.body !== undefined) set.push(sql`body = ${changes.body}`)
      if (tags) set.push(sql`tag_list = ${tags}`)
      const [row] =
        await tx<ArticleRow>`update articles.article set ${sql.join(set)} where id = ${id} returning ${columns},
      exists (select from articles.favorite where account_id = ${viewer} and article_id = article.id) as favorited`
      if (differ(old, row!)) {
        tx.publish(ArticleChanged, whole(row!), { key: articleKey(id) })
        tx.index(articleIndex, id, documentOf(row!))
      }
      tx.invalidate([articleTag(slug), articleTag(row!.slug), ...(tags ? [everyList, tagsTag] : [])])
      return row!
    }),
  )
}

function differ(a: Omit<ArticleRow, 'favorited'>, b: Omit<ArticleRow, 'favorited'>): boolean {
  const same = (['title', 'description', 'body'] as const).every((field) => a[field] === b[field])
  return !same || a.tag_list.join('\0') !== b.tag_list.join('\0')
}

/** Two articles that take one address at the same moment: the second looks again and finds it taken. */
async function againWhereTaken<T>(write: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await write()
    } catch (error) {
      if (!isRungError(error, 'DATA_UNIQUE') || attempt === 5) throw error
    }
  }
}

/** A new title moves the article to a new address, unless the title's slug stays the same. */
async function rename(tx: SqlTag, id: number, oldSlug: string, title: string): Promise<void> {
  if (slugOf(title) === oldSlug) {
    await tx`update articles.article set title = ${title} where id = ${id}`
    return
  }
  await withFreeSlug(
    title,
    (slug) => tx`update articles.article set title = ${title}, slug = ${slug}
      where id = ${id} and not exists (select from articles.article where slug = ${slug}) returning id`,
  )
}

export async function deleteArticle(data: Data, viewer: number, slug: string): Promise<void> {
  await data.write(async (tx) => {
    const { id } = await ownArticle(tx, slug, viewer)
    await tx`delete from articles.article where id = ${id}`
    tx.publish(ArticleDeleted, { articleId: id, authorId: viewer, slug }, { key: articleKey(id) })
    tx.unindex(articleIndex, id)
    tx.invalidate([everyList, favorites, tagsTag, articleTag(slug)])
  })
}

export async function setFavorite(data: Data, viewer: number, slug: string, favorite: boolean): Promise<ArticleRow> {
  return data.write(async (tx) => {
    const [found] = await tx<{ id: number; author_id: number }>`
      select id, author_id from articles.article where slug = ${slug} for key share`
    if (!found) throw notFound()
    if (favorite) {
      const added = await tx`insert into articles.favorite (account_id, article_id) values (${viewer}, ${found.id})
        on conflict do nothing returning article_id`
      if (added.length > 0) {
        const { id: articleId, author_id: authorId } = found
        tx.publish(ArticleFavorited, { articleId, authorId, accountId: viewer }, { key: articleKey(articleId) })
      }
    } else {
      await tx`delete from articles.favorite where account_id = ${viewer} and article_id = ${found.id}`
    }
    tx.invalidate([favorites, articleTag(slug)])
    const [row] =
      await tx<ArticleRow>`select ${columns}, ${favorite}::boolean as favorited from articles.article where id = ${found.id}`
    return row!
  })
}

export async function refOf(data: Data, slug: string): Promise<{ id: number; authorId: number } | null> {
  const [row] = await data.read(
    (sql) => sql<{ id: number; authorId: number }>`
      select id, author_id as "authorId" from articles.article where slug = ${slug}`,
  )
  return row ?? null
}

/** Those of them that the viewer favours. */
export async function favoritedAmong(data: Data, viewer: number, slugs: readonly string[]): Promise<string[]> {
  if (slugs.length === 0) return []
  const rows = await data.read(
    (sql) => sql<{ slug: string }>`
      select slug from articles.article where slug = any(${slugs})
        and exists (select from articles.favorite where account_id = ${viewer} and article_id = article.id)`,
  )
  return rows.map(({ slug }) => slug)
}

/** Those of them that there are. */
export async function titlesOf(
  data: Data,
  ids: readonly number[],
): Promise<{ id: number; slug: string; title: string }[]> {
  return data.read(
    (sql) => sql<{ id: number; slug: string; title: string }>`
      select id, slug, title from articles.article where id = any(${ids})`,
  )
}
