import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Http } from 'rung'
import { type Static, Type } from 'typebox'
import { NewArticle } from '../articles/shapes.ts'
import { isAvatarUrl } from '../avatars/places.ts'
import { NewComment } from '../comments/shapes.ts'
import { refuse } from '../errors.ts'
import { signUpLimit } from '../identity/passwords.ts'
import { Email, Login, NewUser, Password, Username } from '../identity/shapes.ts'
import { articlePath, profilePath, type Viewer } from './layout.ts'
import { signInPath } from './showing.ts'
import { settings, signIn, signUp } from './views/accounts.ts'
import { editor } from './views/editor.ts'
import type { Context, Visit } from './visit.ts'

const Slug = Type.Object({ slug: Type.String() })
const back = Type.Optional(Type.String({ maxLength: 500 }))
const Switch = Type.Union([Type.Literal('true'), Type.Literal('false')])
const { title, description, body } = NewArticle.properties
const Draft = Type.Object({ title, description, body, tags: Type.String({ maxLength: 2_000 }) })
const tagsMax = 50
const tagLengthMax = 255

/** What forms send. Each leads on to a page, which its reader then sees as it is after what they did. */
export function actions(http: Http, { calls, sessions }: Context, { viewerOf, again }: Visit): void {
  const { articles, avatars, comments, identity } = calls

  /** For who is signed in; others are asked to. */
  const signedIn =
    <Request extends FastifyRequest>(act: (viewer: Viewer, request: Request) => Promise<string>) =>
    async (request: Request, reply: FastifyReply) => {
      const viewer = viewerOf(request)
      return reply.redirect(viewer ? await act(viewer, request) : signInPath(request), 303)
    }

  const enter = async (request: FastifyRequest, reply: FastifyReply, accountId: number, to: string) => {
    await sessions.signIn(request, reply, { id: String(accountId) })
    return reply.redirect(to, 303)
  }

  http.post(
    '/login',
    {
      schema: { body: Type.Object({ ...Login.properties, to: back }) },
      config: {
        login: ({ body }) => body.email,
        ...again((sent) => ({ title: 'Sign in · Conduit', main: signIn(sent), at: '/login' })),
      },
    },
    async (request, reply) => {
      const { to, ...login } = request.body
      const { accountId } = await identity.logIn(login)
      return enter(request, reply, accountId, localPath(to))
    },
  )
  http.post(
    '/register',
    {
      schema: { body: NewUser },
      config: {
        limits: signUpLimit,
        ...again((sent) => ({ title: 'Sign up · Conduit', main: signUp(sent), at: '/register' })),
      },
    },
    async (request, reply) => {
      const { accountId } = await identity.register(request.body)
      return enter(request, reply, accountId, '/')
    },
  )
  http.post('/logout', async (request, reply) => {
    await sessions.signOut(request, reply)
    return reply.redirect('/', 303)
  })

  http.post(
    '/settings',
    {
      schema: {
        body: Type.Object({
          username: Username,
          email: Email,
          bio: Type.String({ maxLength: 5_000 }),
          image: Type.String({ maxLength: 2_048 }),
          password: Type.Union([Type.Literal(''), Password]),
          currentPassword: Type.Optional(Type.String({ maxLength: 256 })),
        }),
      },
      config: {
        login: () => undefined,
        ...again((sent, request) => ({
          title: 'Settings · Conduit',
          main: settings(sent, { state: 'none', error: null, ...(viewerOf(request) ?? { username: '', image: null }) }),
          at: '/settings',
        })),
      },
    },
    async (request, reply) => {
      const viewer = viewerOf(request)
      if (!viewer) return reply.redirect(signInPath(request), 303)
      const { password, currentPassword, image, ...others } = request.body
      // Who has a picture that was made here leaves the address of one elsewhere empty, and keeps it.
      const keeps = image === '' && isAvatarUrl(viewer.image)
      const changes = {
        ...others,
        ...(!keeps && { image }),
        ...(password !== '' && { password, ...(currentPassword && { currentPassword }) }),
      }
      const session = await sessions.of(request)
      const signedInAt = session && Math.floor(session.createdAt.getTime() / 1000)
      await identity.change({ accountId: viewer.id, changes, ...(signedInAt !== undefined && { signedInAt }) })
      const to = profilePath(others.username)
      if (password === '') return reply.redirect(to, 303)
      return enter(request, reply, viewer.id, to)
    },
  )

  http.post(
    '/settings/picture/remove',
    signedIn(async (viewer) => {
      await avatars.remove({ accountId: viewer.id })
      return '/settings#own-picture'
    }),
  )

  const drafts = (title: string) =>
    again((sent, { params }) => ({
      title: `${title} · Conduit`,
      main: editor(sent, params.slug),
    }))
  http.post(
    '/editor',
    { schema: { body: Draft }, config: drafts('New article') },
    signedIn(async (viewer, request: FastifyRequest<{ Body: Draft }>) => {
      const { slug } = await articles.publish({ viewer: viewer.id, article: articleOf(request.body) })
      return articlePath(slug)
    }),
  )
  http.post(
    '/editor/:slug',
    { schema: { params: Slug, body: Draft }, config: drafts('Edit article') },
    signedIn(async (viewer, request: FastifyRequest<{ Params: OneSlug; Body: Draft }>) => {
      const { slug } = request.params
      const changed = await articles.change({ viewer: viewer.id, slug, changes: articleOf(request.body) })
      return articlePath(changed.slug)
    }),
  )
  http.post(
    '/article/:slug/delete',
    { schema: { params: Slug } },
    signedIn(async (viewer, request: FastifyRequest<{ Params: OneSlug }>) => {
      await articles.remove({ viewer: viewer.id, slug: request.params.slug })
      return '/'
    }),
  )
  http.post(
    '/article/:slug/favorite',
    { schema: { params: Slug, body: Type.Object({ favorite: Switch, back }) } },
    signedIn(
      async (viewer, request: FastifyRequest<{ Params: OneSlug; Body: { favorite: string; back?: string } }>) => {
        const { favorite, back } = request.body
        await articles.favor({ viewer: viewer.id, slug: request.params.slug, favorite: favorite === 'true' })
        return localPath(back)
      },
    ),
  )
  http.post(
    '/profile/:username/follow',
    {
      schema: {
        params: Type.Object({ username: Type.String() }),
        body: Type.Object({ following: Switch, back }),
      },
    },
    signedIn(
      async (
        viewer,
        request: FastifyRequest<{ Params: { username: string }; Body: { following: string; back?: string } }>,
      ) => {
        const { following, back } = request.body
        const { username } = request.params
        await identity.follow({ viewer: viewer.id, username, following: following === 'true' })
        return localPath(back)
      },
    ),
  )

  http.post(
    '/article/:slug/comments',
    { schema: { params: Slug, body: NewComment } },
    signedIn(async (viewer, request: FastifyRequest<{ Params: OneSlug; Body: { body: string } }>) => {
      const { slug } = request.params
      const { id } = await comments.add({ viewer: viewer.id, slug, comment: request.body })
      return `${articlePath(slug)}#comment-${id}`
    }),
  )
  http.post(
    '/article/:slug/comments/:id/delete',
    { schema: { params: Type.Object({ slug: Type.String(), id: Type.Integer({ minimum: 1 }) }) } },
    signedIn(async (viewer, request: FastifyRequest<{ Params: { slug: string; id: number } }>) => {
      const { slug, id } = request.params
      await comments.remove({ viewer: viewer.id, slug, id })
      return `${articlePath(slug)}#discussion`
    }),
  )
}

type OneSlug = { slug: string }
type Draft = Static<typeof Draft>

function articleOf({ tags, ...article }: Draft) {
  const tagList = [...new Set(tags.split(',').map((tag) => tag.trim()))].filter((tag) => tag !== '')
  if (tagList.length > tagsMax) throw refuse('HTTP_VALIDATION', 'tags', `are too many (maximum is ${tagsMax})`)
  if (tagList.some((tag) => tag.length > tagLengthMax)) {
    throw refuse('HTTP_VALIDATION', 'tags', `are too long (maximum is ${tagLengthMax} characters)`)
  }
  return { ...article, body: article.body.replaceAll('\r\n', '\n'), tagList }
}

/** A path of this app: nobody is led elsewhere by a link that somebody else has made. */
export function localPath(path: string | undefined): string {
  return path !== undefined && /^\/(?![/\\])[\x21-\x7e]*$/.test(path) ? path : '/'
}
