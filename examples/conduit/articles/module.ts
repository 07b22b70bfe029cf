import { cron, defineModule, handle, on } from 'rung'
import { Type } from 'typebox'
import { identityCalls } from '../identity/contract.ts'
import { Envelope, Errors, failures, Paging } from '../schemas.ts'
import { onlySignedIn, signedIn, viewerOf } from '../viewer.ts'
import { createArticle, deleteArticle, setFavorite, updateArticle } from './articles.ts'
import { tagsOfArticle, tagsOfList, tagsTag } from './cached.ts'
import { answers } from './calls.ts'
import { articleCalls } from './contract.ts'
import { ArticlesViewed } from './events.ts'
import { tagsInUse } from './lists.ts'
import { articleReading } from './reading.ts'
import { fillOnce, reindex } from './reindex.ts'
import { ArticleChanges, Found, Many, NewArticle, One, Query, SearchQuery, Slug, Views } from './shapes.ts'
import { addViews, viewCounter, viewsOf } from './views.ts'

/** Of one client. Nobody reads faster. */
const viewLimit = { max: 60, per: '1m' } as const

/** Articles, their tags, who favours them, and the feed. */
export const articles = defineModule({
  name: 'articles',
  owner: 'publishing',
  migrations: new URL('./migrations/', import.meta.url),
  uses: { identity: identityCalls },

  exposes: articleCalls,
  calls: (context) => answers(context.data, context.cache, articleReading(context)),

  work: ({ data, search }) => [
    on(ArticlesViewed, ({ payload: { day, views } }, tx) => addViews(tx, day, views)),
    cron('* * * * *', reindex, {}),
    handle(reindex, (_, run) => fillOnce(data, search, run)),
  ],

  routes(http, context) {
    const { data, calls, log } = context
    const who = calls.identity
    const reading = articleReading(context)
    const views = viewCounter(data, (err) => log.warn({ err }, 'views were not published; they go with the next ones'))
    http.addHook('onClose', () => views.close())
    const tags = ['Articles']
    const security = [{ token: [] }]
    const refusals = { 401: Errors, ...failures }
    const ofOne = { 401: Errors, 403: Errors, 404: Errors, ...failures }
    // Permission is checked before the content.
    const preValidation = onlySignedIn(who)

    http.get(
      '/api/articles',
      {
        schema: { operationId: 'GetArticles', tags, querystring: Query, response: { 200: Many, ...refusals } },
        // Under overload whoever reads an article or writes one goes first.
        config: { cache: { ttl: '1m', grace: '10m', tags: tagsOfList }, priority: 'sheddable' },
      },
      async (request) => reading.list(request.query, await viewerOf(request, who)),
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
      async (request) => reading.feed({ viewer: await signedIn(request, who), ...request.query }),
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
        config: { priority: 'sheddable' },
      },
      async (request) => reading.search(request.query, await viewerOf(request, who)),
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
          .send(await reading.present.one(await createArticle(data, viewer, request.body.article), viewer))
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
        config: { cache: { ttl: '1m', grace: '10m', tags: (_request, { article }) => tagsOfArticle(article) } },
      },
      async (request) => (await reading.one(request.params.slug, await viewerOf(request, who))).answer,
    )

    // A page reports that somebody reads the article; pages themselves come from caches, which count nothing.
    http.post(
      '/api/articles/:slug/views',
      {
        schema: {
          operationId: 'AddArticleView',
          tags,
          params: Slug,
          response: { 204: Type.Null(), 401: Errors, 404: Errors, ...failures },
        },
        config: { limits: viewLimit },
      },
      async (request, reply) => {
        const { id, authorId } = await reading.one(request.params.slug, null)
        if (authorId !== (await viewerOf(request, who))) views.add(id)
        return reply.status(204).send(null)
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
        return reading.present.one(await updateArticle(data, viewer, request.params.slug, request.body.article), viewer)
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
          return reading.present.one(await setFavorite(data, viewer, request.params.slug, favorite), viewer)
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
