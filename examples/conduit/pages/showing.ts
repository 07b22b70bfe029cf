import type { FastifyRequest } from 'fastify'
import { type Html, type Http, html, type RouteCache, RungError, rawHtml } from 'rung'
import { type Static, Type } from 'typebox'
import { offsetMax } from '../articles/search.ts'
import type { Found, Many } from '../articles/shapes.ts'
import { isAvatarUrl } from '../avatars/places.ts'
import { refuse } from '../errors.ts'
import { accountTag } from '../identity/tags.ts'
import { feedPath, href, type Place, pageSize, profilePath, tagPath } from './layout.ts'
import { rendered } from './markdown.ts'
import { settings, signIn, signUp } from './views/accounts.ts'
import { articlePage } from './views/article.ts'
import { list, type Standing } from './views/articles.ts'
import { editor } from './views/editor.ts'
import { home } from './views/home.ts'
import { profilePage } from './views/profile.ts'
import { searchPage } from './views/search.ts'
import type { Context, Visit } from './visit.ts'

const Page = Type.Integer({ minimum: 1, maximum: 1_000_000, default: 1 })
const Slug = Type.Object({ slug: Type.String() })
const Name = Type.Object({ username: Type.String() })

/** For all who are not signed in; what the handler takes from the cache says what the page depends on. */
const shared: RouteCache = { ttl: '1m', grace: '10m', tags: 'inherit' }

/** The pages. */
export function showing(http: Http, { cache, calls }: Context, { viewerOf, page }: Visit): void {
  const { articles, avatars, comments, identity } = calls
  const fragment = { ttl: '1d', grace: '1d', tags: 'inherit' } as const
  const bodyOf = cache.cached('body', fragment, async (slug: string) =>
    rendered((await articles.one({ slug })).article.body),
  )
  const profileOf = cache.cached(
    'profile',
    { ttl: '5m', grace: '1h', tags: (_profile, username: string) => [accountTag(username)] },
    (username: string) => identity.profile({ username, viewer: null }),
  )

  /** What the viewer has to do with the articles that he sees. */
  async function standingOf(request: FastifyRequest, shown: readonly { slug: string }[]): Promise<Standing> {
    const viewer = viewerOf(request)
    const slugs = viewer ? await articles.favorited({ viewer: viewer.id, slugs: shown.map(({ slug }) => slug) }) : []
    return { viewer, favorited: new Set(slugs), at: request.url }
  }

  async function listOf(
    request: FastifyRequest,
    found: Static<typeof Many> | Static<typeof Found>,
    place: Place & { none: string | Html },
  ): Promise<Html> {
    return list(found.articles, await standingOf(request, found.articles), { total: found.articlesCount, ...place })
  }

  const range = (page: number) => ({ limit: pageSize, offset: (page - 1) * pageSize })

  http.get(
    '/',
    {
      schema: { querystring: Type.Object({ feed: Type.Optional(Type.Literal('following')), page: Page }) },
      // Before the cache, which keeps no redirect.
      preHandler: async (request, reply) => {
        if (request.query.feed !== undefined && !viewerOf(request)) return reply.redirect('/login', 303)
      },
      config: { cache: shared },
    },
    async (request) => {
      const { feed, page: at } = request.query
      const viewer = viewerOf(request)
      const [found, tags] = await Promise.all([
        viewer && feed !== undefined ? articles.feed({ viewer: viewer.id, ...range(at) }) : articles.list(range(at)),
        articles.popularTags({}),
      ])
      const list = await listOf(request, found, {
        ...{ path: '/', query: { feed }, page: at },
        none:
          feed !== undefined
            ? html`Your feed is empty. Follow somebody whose articles you like, or look at the <a href="/">Global Feed</a>.`
            : html`No articles are here yet. Write the first one, or fill this demo from a terminal: <code>npm run conduit:seed -- --articles 1000</code>`,
      })
      const main = home({
        list,
        at: feed === undefined ? '/' : feedPath,
        signedIn: viewer !== null,
        tag: undefined,
        tags,
      })
      return page(request, { title: feed === undefined ? 'Conduit' : 'Your feed · Conduit', main, at: '/' })
    },
  )

  http.get(
    '/tag/:tag',
    {
      schema: {
        params: Type.Object({ tag: Type.String({ maxLength: 255 }) }),
        querystring: Type.Object({ page: Page }),
      },
      config: { cache: shared },
    },
    async (request) => {
      const [{ tag }, { page: at }] = [request.params, request.query]
      const [found, tags] = await Promise.all([articles.list({ tag, ...range(at) }), articles.popularTags({})])
      const list = await listOf(request, found, { path: tagPath(tag), page: at, none: 'No articles have this tag.' })
      const main = home({ list, at: tagPath(tag), signedIn: viewerOf(request) !== null, tag, tags })
      return page(request, { title: `#${tag} · Conduit`, main })
    },
  )

  http.get('/article/:slug', { schema: { params: Slug }, config: { cache: shared } }, async (request) => {
    const { slug } = request.params
    const [{ id, article }, body] = await Promise.all([articles.one({ slug }), bodyOf(slug)])
    const viewer = viewerOf(request)
    const { username } = article.author
    const [discussion, standing, author] = await Promise.all([
      comments.on({ articleId: id }),
      standingOf(request, [article]),
      viewer && identity.profile({ username, viewer: viewer.id }),
    ])
    const following = author?.following ?? false
    const main = articlePage({ article, body: rawHtml(body), comments: discussion, standing, following })
    return page(request, { title: `${article.title} · Conduit`, main })
  })

  for (const [path, which, none] of [
    ['/profile/:username', 'author', 'No articles yet.'],
    ['/profile/:username/favorites', 'favorited', 'No favorites yet.'],
  ] as const) {
    http.get(
      path,
      { schema: { params: Name, querystring: Type.Object({ page: Page }) }, config: { cache: shared } },
      async (request) => {
        const { username } = request.params
        const viewer = viewerOf(request)
        const [profile, own, found] = await Promise.all([
          profileOf(username),
          viewer && identity.profile({ username, viewer: viewer.id }),
          articles.list({ [which]: username, ...range(request.query.page) }),
        ])
        const at = profilePath(username) + (which === 'favorited' ? '/favorites' : '')
        const shown = await listOf(request, found, {
          path: at,
          page: request.query.page,
          none,
        })
        const main = profilePage({ profile, following: own?.following ?? false, viewer, at, list: shown })
        return page(request, { title: `${username} · Conduit`, main, at })
      },
    )
  }

  http.get(
    '/search',
    {
      schema: {
        querystring: Type.Object({
          q: Type.Optional(Type.String({ maxLength: 200 })),
          tag: Type.Optional(Type.String()),
          author: Type.Optional(Type.String()),
          page: Type.Integer({ minimum: 1, maximum: 1 + Math.floor(offsetMax / pageSize), default: 1 }),
        }),
      },
    },
    async (request) => {
      const { q, tag, author, page: at } = request.query
      const query = q !== undefined && q.trim() !== '' ? q : undefined
      const narrowed = { tag, author }
      const hrefOf = (changes: Record<string, string | undefined>) => href('/search', { q, ...narrowed, ...changes })
      const by = { ...(tag !== undefined && { tag }), ...(author !== undefined && { author }) }
      const found =
        query === undefined ? undefined : await articles.search({ q: query, ...by, prefix: true, ...range(at) })
      const shown =
        found &&
        (await listOf(request, found, {
          ...{ path: '/search', query: { q, ...narrowed }, page: at },
          none: 'Nothing was found. Try other words.',
        }))
      const total = found?.articlesCount ?? 0
      const count = `${found?.articlesCountIs === 'at least' ? 'More than ' : ''}${total} ${total === 1 ? 'article' : 'articles'}`
      const facets = found?.facets ?? { tags: [], authors: [] }
      const main = searchPage({
        query,
        list: shown,
        count,
        corrected: found?.corrected ?? null,
        facets,
        narrowed,
        hrefOf,
      })
      return page(request, { title: query === undefined ? 'Search · Conduit' : `${query} · Conduit`, main, query })
    },
  )

  http.get(
    '/login',
    {
      schema: { querystring: Type.Object({ to: Type.Optional(Type.String({ maxLength: 500 })) }) },
      config: { cache: shared },
    },
    async (request) =>
      page(request, { title: 'Sign in · Conduit', main: signIn({ filled: request.query }), at: '/login' }),
  )
  http.get('/register', { config: { cache: shared } }, async (request) =>
    page(request, { title: 'Sign up · Conduit', main: signUp({}), at: '/register' }),
  )

  http.get(
    '/settings',
    { schema: { querystring: Type.Object({ picture: Type.Optional(Type.String({ maxLength: 20 })) }) } },
    async (request, reply) => {
      const viewer = viewerOf(request)
      const accountId = viewer?.id ?? 0
      const [account, avatar] = viewer
        ? await Promise.all([identity.accountOf({ accountId }), avatars.of({ accountId })])
        : [null, null]
      if (!account || !avatar) return reply.redirect(signInPath(request), 303)
      const elsewhere = account.image !== null && !isAvatarUrl(account.image)
      const filled = { ...account, image: elsewhere ? account.image : '' }
      const { username } = account
      const picture = {
        ...avatar,
        username,
        image: elsewhere ? account.image : avatar.image,
        refused: request.query.picture,
      }
      return page(request, { title: 'Settings · Conduit', main: settings({ filled }, picture), at: '/settings' })
    },
  )

  http.get('/editor', async (request, reply) => {
    if (!viewerOf(request)) return reply.redirect(signInPath(request), 303)
    return page(request, { title: 'New Article · Conduit', main: editor({}), at: '/editor' })
  })
  http.get('/editor/:slug', { schema: { params: Slug } }, async (request, reply) => {
    const viewer = viewerOf(request)
    if (!viewer) return reply.redirect(signInPath(request), 303)
    const { slug } = request.params
    const { authorId, article } = await articles.one({ slug })
    if (authorId !== viewer.id) throw refuse('HTTP_FORBIDDEN', 'article', 'is not yours')
    const { title, description, body, tagList } = article
    const filled = { title, description, body, tags: tagList.join(', ') }
    return page(request, { title: `Edit ${title} · Conduit`, main: editor({ filled }, slug) })
  })

  http.get('/*', (request) => {
    throw new RungError('HTTP_NOT_FOUND', `There is no GET ${request.url.split('?', 1)[0]!.slice(0, 200)}.`)
  })
}

export function signInPath({ method, url }: FastifyRequest): string {
  return method === 'GET' ? `/login?to=${encodeURIComponent(url)}` : '/login'
}
