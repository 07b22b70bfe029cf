import { type Data, type Sql, type SqlTag, sql } from 'rung'

/** An article as a list shows it: no body, the author by id. */
export interface ListedRow {
  id: number
  slug: string
  title: string
  description: string
  tag_list: string[]
  favorites_count: number
  favorited: boolean
  author_id: number
  created_at: Date
  updated_at: Date
}

export interface Page {
  total: number
  rows: ListedRow[]
}

/** One list, as somebody sees it. */
export interface ListAsked extends Filter {
  limit: number
  offset: number
  viewer: number | null
}

/** Accounts by id; the names were looked up before. */
export interface Filter {
  tag?: string | undefined
  author?: number | undefined
  favoritedBy?: number | undefined
}

/** Rows that a favourite of `viewer` (an id, or an expression for one); nobody's for the anonymous. */
function favorited(viewer: number | Sql | null): Sql {
  if (viewer === null) return sql`false`
  return sql`exists (select from articles.favorite where account_id = ${viewer} and article_id = article.id)`
}

function columns(viewer: number | Sql | null): Sql {
  return sql`article.id, slug, title, description, tag_list, favorites_count, ${favorited(viewer)} as favorited,
    author_id, created_at, updated_at`
}

/** Of each `asked` list; their values are columns, so that one statement is good for all lists of a kind. */
const values = {
  tag: sql`asked.tag`,
  author: sql`asked.author`,
  favoritedBy: sql`asked.favorited_by`,
  viewer: sql`asked.viewer`,
  page: sql`order by id desc limit asked.size offset asked.skipped`,
}

interface Plan {
  total: Sql
  rows: Sql
}

/** Lists with the same filters, for viewers or for the anonymous. */
interface Kind {
  tag: boolean
  author: boolean
  favoritedBy: boolean
  anonymous: boolean
}

/**
 * The rows of a page, and how many there are in all. Every way in walks an index from its newest end, and
 * every total is a kept count; only two filters at once that include favourites are counted, within one user's favourites.
 * Ids grow with time, so newest first is by id.
 */
function planOf(by: Kind): Plan {
  const { page, tag, author, favoritedBy } = values
  const viewer = by.anonymous ? null : values.viewer
  const tagged = (condition: Sql) =>
    fetched(sql`select article_id as id from articles.article_tag where ${condition} ${page}`, viewer)
  if (by.favoritedBy) {
    const conditions = [sql`favorite.account_id = ${favoritedBy}`]
    if (by.tag) {
      conditions.push(
        sql`exists (select from articles.article_tag where tag = ${tag} and article_tag.article_id = favorite.article_id)`,
      )
    }
    if (by.author) {
      conditions.push(
        sql`exists (select from articles.article where article.id = favorite.article_id and author_id = ${author})`,
      )
    }
    const matching = sql`from articles.favorite where ${sql.join(conditions, sql` and `)}`
    const kept = sql`select coalesce((select n from articles.favorite_count where account_id = ${favoritedBy}), 0)::int as total`
    return {
      total: conditions.length === 1 ? kept : sql`select count(*)::int as total ${matching}`,
      rows: fetched(sql`select article_id as id ${matching} ${page}`, viewer),
    }
  }
  if (by.tag && by.author) {
    return {
      total: sql`select coalesce((select n from articles.author_tag_count where author_id = ${author} and tag = ${tag}), 0)::int as total`,
      rows: tagged(sql`author_id = ${author} and tag = ${tag}`),
    }
  }
  if (by.tag) {
    return {
      total: sql`select coalesce(sum(n), 0)::int as total from articles.tag_count where tag = ${tag}`,
      rows: tagged(sql`tag = ${tag}`),
    }
  }
  if (by.author) {
    return {
      total: sql`select coalesce((select n from articles.author_count where author_id = ${author}), 0)::int as total`,
      rows: sql`select ${columns(viewer)} from articles.article where author_id = ${author} ${page}`,
    }
  }
  return {
    total: sql`select coalesce(sum(n), 0)::int as total from articles.article_count`,
    rows: sql`select ${columns(viewer)} from articles.article ${page}`,
  }
}

/**
 * The articles of some ids. A prepared plan does not know how long a page is and takes a tenth of the table for it, which
 * makes a scan of all articles look cheap; the fence (`offset 0`) keeps it to one look into the primary key for each id.
 */
function fetched(ids: Sql, viewer: number | Sql | null): Sql {
  return sql`select article.* from (${ids}) page cross join lateral (
    select ${columns(viewer)} from articles.article where article.id = page.id offset 0
  ) article`
}

/** Also an empty page has a row: the total is there, the article is null. */
type Counted = ListedRow & { total: number }

function pageFrom(rows: readonly Counted[]): Page {
  return { total: rows[0]!.total, rows: rows.filter((row) => row.id !== null) }
}

/** Lists; what several requests ask for at one moment is one look-up for each kind of list. */
export function listBatch(data: Data): (asked: ListAsked) => Promise<Page> {
  return data.batch(async (sql, asked) => {
    const byPlan = Map.groupBy(asked.keys(), (n) => planFor(asked[n]!))
    const pages = await Promise.all(
      Array.from(byPlan, async ([plan, numbers]): Promise<[number, Page][]> => {
        const found = await runPlan(
          sql,
          plan,
          numbers.map((n) => asked[n]!),
        )
        return numbers.map((n, at) => [n, found[at]!])
      }),
    )
    const byNumber = new Map(pages.flat())
    return asked.map((_, n) => byNumber.get(n)!)
  })
}

const plans = new Map<string, Plan>()

/** The same object for all of a kind. */
function planFor({ tag, author, favoritedBy, viewer }: ListAsked): Plan {
  const by = { tag: tag !== undefined, author: author !== undefined, favoritedBy: favoritedBy !== undefined }
  const kind = { ...by, anonymous: viewer === null }
  const name = Object.values(kind).map(Number).join('')
  let plan = plans.get(name)
  if (!plan) {
    plan = planOf(kind)
    plans.set(name, plan)
  }
  return plan
}

async function runPlan(sql: SqlTag, { total, rows }: Plan, asked: readonly ListAsked[]): Promise<Page[]> {
  const found = await sql<Counted & { n: number }>`
    select asked.n, counted.total, listed.*
    from unnest(${asked.map((_, n) => n)}::int[], ${asked.map(({ tag }) => tag ?? null)}::text[],
      ${asked.map(({ author }) => author ?? null)}::bigint[], ${asked.map(({ favoritedBy }) => favoritedBy ?? null)}::bigint[],
      ${asked.map(({ limit }) => limit)}::bigint[], ${asked.map(({ offset }) => offset)}::bigint[],
      ${asked.map(({ viewer }) => viewer)}::bigint[])
      asked (n, tag, author, favorited_by, size, skipped, viewer)
    cross join lateral (${total}) counted
    left join lateral (select * from (${rows}) page where counted.total > asked.skipped) listed on true
    order by asked.n, listed.id desc`
  const byNumber = Map.groupBy(found, ({ n }) => n)
  return asked.map((_, n) => pageFrom(byNumber.get(n)!))
}

/** Those of them that there are, by id. */
export async function articlesOf(
  data: Data,
  ids: readonly number[],
  viewer: number | null,
): Promise<Map<number, ListedRow>> {
  if (ids.length === 0) return new Map()
  const rows = await data.read(
    (sql) => sql<ListedRow>`${fetched(sql`select id from unnest(${ids}::bigint[]) asked (id)`, viewer)}`,
  )
  return new Map(rows.map((row) => [row.id, row]))
}

/** Whose feed, and which part of it. */
export interface FeedAsked {
  viewer: number
  /** Who the viewer follows. */
  authors: readonly number[]
  limit: number
  offset: number
}

/**
 * What the followed authors wrote: from each as many as the page could need, then the newest of those. What several
 * requests ask for at one moment is one look-up.
 */
export function feedBatch(data: Data): (asked: FeedAsked) => Promise<Page> {
  return data.batch(async (sql, asked) => {
    const rows = await sql<Counted & { n: number }>`
      select asked.n, counted.total, listed.*
      from unnest(${asked.map((_, n) => n)}::int[], ${asked.map(({ viewer }) => viewer)}::bigint[],
        ${asked.map(({ authors }) => `{${authors}}`)}::text[], ${asked.map(({ limit }) => limit)}::bigint[],
        ${asked.map(({ offset }) => offset)}::bigint[]) asked (n, viewer, authors, size, skipped)
      cross join lateral (
        select coalesce(sum(author_count.n), 0)::int as total from articles.author_count
        where author_id = any(asked.authors::bigint[])
      ) counted
      left join lateral (
        select article.* from (
          select newest.id from unnest(asked.authors::bigint[]) followed (author_id)
          cross join lateral (
            select id from articles.article where article.author_id = followed.author_id
            order by id desc limit asked.size + asked.skipped
          ) newest order by newest.id desc limit asked.size offset asked.skipped
        ) page
        cross join lateral (
          select ${columns(sql`asked.viewer`)} from articles.article where article.id = page.id offset 0
        ) article where counted.total > asked.skipped
      ) listed on true
      order by asked.n, listed.id desc`
    const byNumber = Map.groupBy(rows, ({ n }) => n)
    return asked.map((_, n) => pageFrom(byNumber.get(n)!))
  })
}

/** As JSON: an array of thousands is parsed by Node itself, several times faster than in Postgres' own form. */
export async function tagsInUse(data: Data): Promise<string[]> {
  const [row] = await data.read(
    (sql) => sql<{ tags: string[] | null }>`
      select json_agg(tag) as tags from (
        select tag from articles.tag_count group by tag having sum(n) > 0 order by sum(n) desc, tag
      ) used`,
  )
  return row?.tags ?? []
}
