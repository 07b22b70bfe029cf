import { cron, defineKey, defineModule, handle, type ModuleContext, on } from 'rung'
import { type Static, Type } from 'typebox'
import { identity } from '../identity/module.ts'
import { Envelope, Errors, Filled, failures, NullableText, Paging, Profile, pageMax } from '../schemas.ts'
import { signedIn, viewerOf } from '../viewer.ts'
import { type ArticleRow, articleBatch, createArticle, deleteArticle, setFavorite, updateArticle } from './articles.ts'
import { tagsOfArticle, tagsOfList, tagsTag } from './cached.ts'
import { articleCalls } from './calls.ts'
import { ArticlesViewed } from './events.ts'
import { type Filter, feedBatch, type ListedRow, listArticles, type Page, tagsInUse } from './lists.ts'
import { fillOnce, reindex } from './reindex.ts'
import { offsetMax, searchArticles } from './search.ts'
import { addViews, viewCounter, viewsOf } from './views.ts'

const Tags = Type.Array(Filled(255), { maxItems: 50 })
const Title = Filled(255)
const Description = Filled(1_000)
const Body = Filled(500_000)
const NewArticle = Type.Object({ title: Title, description: Description, body: Body, tagList: Type.Optional(Tags) })
const ArticleChanges = Type.Partial(NewArticle)

const listed = {
  slug: Type.String(),
  title: Type.String(),
  description: Type.String(),
  tagList: Type.Array(Type.String()),
  createdAt: Type.Unsafe<Date>({ type: 'string', format: 'date-time' }),
  updatedAt: Type.Unsafe<Date>({ type: 'string', format: 'date-time' }),
  favorited: Type.Boolean(),
  favoritesCount: Type.Integer(),
  author: Profile,
}
const One = Envelope('article', Type.Object({ ...listed, body: Type.String() }))
const Many = Type.Object({ articles: Type.Array(Type.Object(listed)), articlesCount: Type.Integer() })
const Views = Envelope(
  'views',
  Type.Object({
    total: Type.Integer(),
    days: Type.Array(Type.Object({ day: Type.String({ format: 'date' }), count: Type.Integer() })),
  }),
)
const Found = Type.Object({
  articles: Type.Array(
    Type.Object({
      ...listed,
      /** HTML: the text escaped, what was found in `<mark>`. */
      highlights: Type.Partial(Type.Object({ title: Type.String(), description: Type.String(), body: Type.String() })),
    }),
  ),
  articlesCount: Type.Integer(),
  articlesCountIs: Type.Union([Type.Literal('exact'), Type.Literal('at least')]),
  facets: Type.Object({
    tags: Type.Array(Type.Object({ tag: Type.String(), count: Type.Integer() })),
    authors: Type.Array(Type.Object({ username: Type.String(), count: Type.Integer() })),
  }),
  facetsAre: Type.Union([Type.Literal('exact'), Type.Literal('estimated')]),
  corrected: NullableText({ description: 'The text that was looked for, where words in `q` are misspelt.' }),
})
const Slug = Type.Object({ slug: Type.String() })
const Query = Type.Object({
  tag: Type.Optional(Type.String()),
  author: Type.Optional(Type.String()),
  favorited: Type.Optional(Type.String()),
  ...Paging,
})

const SearchQuery = Type.Object({
  q: Type.String({ minLength: 1, pattern: '\\S', description: 'Words, "phrases", and either with a minus in front.' }),
  tag: Type.Optional(Type.String()),
  author: Type.Optional(Type.String()),
  prefix: Type.Boolean({ default: false, description: 'The last word may be the beginning of one.' }),
  limit: Paging.limit,
  offset: Type.Integer({ minimum: 0, maximum: offsetMax, default: 0 }),
})

type Uses = { identity: typeof identity }
type Answer = Static<typeof One>

const articleKeyed = defineKey<{ id: number; authorId: number; answer: Answer }, [slug: string]>('article')

/** Articles, their tags, who favours them, and the feed. */
export const articles = defineModule({
  name: 'articles',
  owner: 'publishing',
  migrations: new URL('./migrations/', import.meta.url),
  uses: { identity },

  calls: ({ data }) => articleCalls(data),

  work: ({ data, search }) => [
    on(ArticlesViewed, ({ payload: { day, views } }, tx) => addViews(tx, day, views)),
    cron('* * * * *', reindex, {}),
    handle(reindex, (_, run) => fillOnce(data, search, run)),
  ],

  routes(http, { data, cache, calls, search, log }) {
    const who = calls.identity
    const present = presenter(calls)
    const articleNamed = articleBatch(data)
    const shownTo = async (slug: string, viewer: number | null) => {
      const article = await articleNamed({ slug, viewer })
      return { id: article.id, authorId: article.author_id, answer: await present.one(article, viewer) }
    }
    /** Kept as data and not as a whole answer: each view is counted. */
    const shownToAll = (slug: string) =>
      cache.get(
        articleKeyed(slug),
        { ttl: '5m', grace: '1h', tags: ({ answer }) => tagsOfArticle(answer.article) },
        () => shownTo(slug, null),
      )
    const feedOf = feedBatch(data)
    const views = viewCounter(data, log)
    http.addHook('onClose', () => views.stop())
    const tags = ['Articles']
    const security = [{ token: [] }]
    const refusals = { 401: Errors, ...failures }
    const ofOne = { 401: Errors, 403: Errors, 404: Errors, ...failures }
    // Who may not write is told so before what he wrote is looked at.
    const preValidation = async (request: Parameters<typeof signedIn>[0]) => void (await signedIn(request, who))

    http.get(
      '/api/articles',
      {
        schema: { operationId: 'GetArticles', tags, querystring: Query, response: { 200: Many, ...refusals } },
        config: { cache: { ttl: '1m', grace: '10m', tags: tagsOfList } },
      },
      async (request) => {
        const { tag, author, favorited, limit, offset } = request.query
        const viewer = await viewerOf(request, who)
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
        return present.many(
          await listArticles(data, filter, { limit: Math.min(limit, pageMax), offset, viewer }),
          viewer,
        )
      },
    )

    http.get(
      '/api/articles/feed',
      {
        schema: {
          operationId: 'GetArticlesFeed',
          tags,
          security,
          querystring: Type.Object(Paging),
          response: { 200: Many, ...refusals },
        },
        preValidation,
      },
      async (request) => {
        const { limit, offset } = request.query
        const viewer = await signedIn(request, who)
        const authors = await who.followedBy({ accountId: viewer })
        return present.followed(await feedOf({ viewer, authors, limit: Math.min(limit, pageMax), offset }))
      },
    )

    http.get(
      '/api/articles/search',
      {
        schema: {
          operationId: 'SearchArticles',
          tags,
          querystring: SearchQuery,
          response: { 200: Found, ...refusals },
        },
      },
      async (request) => {
        const { q: text, tag, author: username, prefix, limit, offset } = request.query
        const viewer = await viewerOf(request, who)
        const author = username === undefined ? undefined : await who.idOf({ username })
        if (author === null) return nothingFound
        const asked = { text, tag, author, prefix, limit: Math.min(limit, pageMax), offset, viewer }
        return present.found(await searchArticles(data, search, asked), viewer)
      },
    )

    http.post(
      '/api/articles',
      {
        config: { idempotency: 'optional' },
        schema: {
          operationId: 'CreateArticle',
          tags,
          security,
          body: Envelope('article', NewArticle),
          response: { 201: One, 409: Errors, ...refusals },
        },
        preValidation,
      },
      async (request, reply) => {
        const viewer = await signedIn(request, who)
        return reply
          .status(201)
          .send(await present.one(await createArticle(data, viewer, request.body.article), viewer))
      },
    )

    http.get(
      '/api/articles/:slug',
      {
        schema: {
          operationId: 'GetArticle',
          tags,
          params: Slug,
          response: { 200: One, 401: Errors, 404: Errors, ...failures },
        },
      },
      async (request) => {
        const viewer = await viewerOf(request, who)
        const { slug } = request.params
        const shown = viewer === null ? await shownToAll(slug) : await shownTo(slug, viewer)
        if (shown.authorId !== viewer) views.count(shown.id)
        return shown.answer as Answer
      },
    )

    http.get(
      '/api/articles/:slug/views',
      {
        schema: {
          operationId: 'GetArticleViews',
          tags,
          security,
          params: Slug,
          querystring: Type.Object({ days: Type.Integer({ minimum: 1, maximum: 366, default: 30 }) }),
          response: { 200: Views, ...ofOne },
        },
        preValidation,
      },
      async (request) => {
        const viewer = await signedIn(request, who)
        return { views: await viewsOf(data, viewer, request.params.slug, request.query.days) }
      },
    )

    http.put(
      '/api/articles/:slug',
      {
        schema: {
          operationId: 'UpdateArticle',
          tags,
          security,
          params: Slug,
          body: Envelope('article', ArticleChanges),
          response: { 200: One, ...ofOne },
        },
        preValidation,
      },
      async (request) => {
        const viewer = await signedIn(request, who)
        return present.one(await updateArticle(data, viewer, request.params.slug, request.body.article), viewer)
      },
    )

    http.delete(
      '/api/articles/:slug',
      {
        schema: {
          operationId: 'DeleteArticle',
          tags,
          security,
          params: Slug,
          response: { 204: Type.Null(), ...ofOne },
        },
        preValidation,
      },
      async (request, reply) => {
        await deleteArticle(data, await signedIn(request, who), request.params.slug)
        return reply.status(204).send(null)
      },
    )

    for (const [method, favorite, operationId] of [
      ['POST', true, 'CreateArticleFavorite'],
      ['DELETE', false, 'DeleteArticleFavorite'],
    ] as const) {
      http.route({
        method,
        url: '/api/articles/:slug/favorite',
        schema: {
          operationId,
          tags: ['Favorites'],
          security,
          params: Slug,
          response: { 200: One, 401: Errors, 404: Errors, ...failures },
        },
        preValidation,
        handler: async (request) => {
          const viewer = await signedIn(request, who)
          return present.one(await setFavorite(data, viewer, request.params.slug, favorite), viewer)
        },
      })
    }

    http.get(
      '/api/tags',
      {
        schema: {
          operationId: 'GetTags',
          tags: ['Tags'],
          response: { 200: Type.Object({ tags: Type.Array(Type.String()) }), ...failures },
        },
        config: { cache: { ttl: '1m', grace: '10m', tags: [tagsTag] } },
      },
      async () => ({ tags: await tagsInUse(data) }),
    )
  },
})

const nothingFound: Static<typeof Found> = {
  articles: [],
  articlesCount: 0,
  articlesCountIs: 'exact',
  facets: { tags: [], authors: [] },
  facetsAre: 'exact',
  corrected: null,
}

/** Rows and their authors, as clients see them. The authors of a page come by one call. */
function presenter(calls: ModuleContext<Uses>['calls']) {
  async function authorsOf(rows: readonly ListedRow[], viewer: number | null, others: readonly number[] = []) {
    const ids = [...new Set([...rows.map((row) => row.author_id), ...others])]
    const profiles = await calls.identity.profiles({ ids, viewer })
    return new Map(profiles.map(({ id, ...profile }) => [id, profile]))
  }
  function listedArticle(row: ListedRow, author: Awaited<ReturnType<typeof authorsOf>>) {
    return {
      slug: row.slug,
      title: row.title,
      description: row.description,
      tagList: row.tag_list,
      createdAt: row.created_at,
      updatedAt: row.updated_at,
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
