import type { ModuleContext } from 'rung'
import type { Static } from 'typebox'
import type { IdentityCalls, identityCalls } from '../identity/contract.ts'
import { profilesSeen } from '../identity/seen.ts'
import { pageMax } from '../schemas.ts'
import { type ArticleRow, articleBatch } from './articles.ts'
import { tagsOfArticle } from './cached.ts'
import { type Filter, feedBatch, type ListedRow, listBatch, type Page } from './lists.ts'
import { searchArticles } from './search.ts'
import type { Found, Many, Query, SearchQuery } from './shapes.ts'

export type Uses = { identity: typeof identityCalls }
type Viewer = number | null
type Asked = Static<typeof Query>
type ListAsked = { [Name in keyof Asked]: Asked[Name] | undefined } & Pick<Asked, 'limit' | 'offset'>

/** Articles as somebody sees them, with their authors: what the routes answer, and what other modules may ask for. */
export function articleReading({
  data,
  cache,
  calls,
  search,
}: Pick<ModuleContext<Uses>, 'data' | 'cache' | 'calls' | 'search'>) {
  const who = calls.identity
  const present = presenter(who)
  const articleNamed = articleBatch(data)
  const listed = listBatch(data)
  const feedOf = feedBatch(data)

  const shownTo = async (slug: string, viewer: Viewer) => {
    const article = await articleNamed({ slug, viewer })
    return { id: article.id, authorId: article.author_id, answer: await present.one(article, viewer) }
  }
  const shownToAll = cache.cached(
    'article',
    { ttl: '5m', grace: '1h', tags: ({ answer }) => tagsOfArticle(answer.article) },
    (slug: string) => shownTo(slug, null),
  )

  return {
    present,
    /** With its id and its author's. To the anonymous it is the same one, and kept. */
    one: (slug: string, viewer: Viewer) => (viewer === null ? shownToAll(slug) : shownTo(slug, viewer)),

    async list({ tag, author, favorited, limit, offset }: ListAsked, viewer: Viewer): Promise<Static<typeof Many>> {
      const filter: Filter = { tag }
      for (const [key, name] of [
        ['author', author],
        ['favoritedBy', favorited],
      ] as const) {
        if (name === undefined) continue
        const id = await who.idOf({ username: name })
        if (id === null) return { articles: [], articlesCount: 0 }
        filter[key] = id
      }
      return present.many(await listed({ ...filter, limit: Math.min(limit, pageMax), offset, viewer }), viewer)
    },

    /** What the viewer's authors wrote. */
    async feed({
      viewer,
      limit,
      offset,
    }: {
      viewer: number
      limit: number
      offset: number
    }): Promise<Static<typeof Many>> {
      const authors = await who.followedBy({ accountId: viewer })
      return present.followed(await feedOf({ viewer, authors, limit: Math.min(limit, pageMax), offset }))
    },

    async search(
      { q: text, tag, author: username, prefix, limit, offset }: Static<typeof SearchQuery>,
      viewer: Viewer,
    ): Promise<Static<typeof Found>> {
      const author = username === undefined ? undefined : await who.idOf({ username })
      if (author === null) return nothingFound
      const asked = { text, tag, author, prefix, limit: Math.min(limit, pageMax), offset, viewer }
      return present.found(await searchArticles(data, search, asked), viewer)
    },
  }
}

const nothingFound: Static<typeof Found> = {
  articles: [],
  articlesCount: 0,
  articlesCountIs: 'exact',
  facets: { tags: [], authors: [] },
  facetsAre: 'exact',
  corrected: null,
}

/** Rows and their authors, as clients see them. The authors of a page come by one call. */
function presenter(who: IdentityCalls) {
  async function authorsOf(rows: readonly ListedRow[], viewer: number | null, others: readonly number[] = []) {
    return profilesSeen(who, { ids: [...rows.map((row) => row.author_id), ...others], viewer })
  }
  function listedArticle(row: ListedRow, author: Awaited<ReturnType<typeof authorsOf>>) {
    return {
      slug: row.slug,
      title: row.title,
      description: row.description,
      tagList: row.tag_list,
      createdAt: row.created_at.toISOString(),
      updatedAt: row.updated_at.toISOString(),
      favorited: row.favorited,
      favoritesCount: row.favorites_count,
      author: author.get(row.author_id)!,
    }
  }
  return {
    async many({ total, rows }: Page, viewer: number | null) {
      const authors = await authorsOf(rows, viewer)
      return { articles: rows.map((row) => listedArticle(row, authors)), articlesCount: total }
    },
    /** A page by authors whom the viewer follows: nobody needs to look that up again. */
    async followed({ total, rows }: Page) {
      const authors = await authorsOf(rows, null)
      for (const author of authors.values()) author.following = true
      return { articles: rows.map((row) => listedArticle(row, authors)), articlesCount: total }
    },
    /** Authors of articles and of facets by one call. */
    async found({ found, result }: Awaited<ReturnType<typeof searchArticles>>, viewer: number | null) {
      const { tag = [], author = [] } = result.facets
      const rows = found.map(({ row }) => row)
      const authors = await authorsOf(
        rows,
        viewer,
        author.map(({ value }) => Number(value)),
      )
      return {
        articles: found.map(({ row, highlights }) => ({ ...listedArticle(row, authors), highlights })),
        articlesCount: result.total,
        articlesCountIs: result.totalIs,
        facets: {
          tags: tag.map(({ value, count }) => ({ tag: value, count })),
          authors: author.flatMap(({ value, count }) => {
            const profile = authors.get(Number(value))
            return profile ? [{ username: profile.username, count }] : []
          }),
        },
        facetsAre: result.facetsAre,
        corrected: result.corrected ?? null,
      }
    },
    async one(row: ArticleRow, viewer: number | null) {
      return { article: { ...listedArticle(row, await authorsOf([row], viewer)), body: row.body } }
    },
  }
}
