import type { FastifyRequest } from 'fastify'
import type { Html, Http, ModuleContext, Problem } from 'rung'
import type { articleCalls } from '../articles/contract.ts'
import type { avatarCalls } from '../avatars/contract.ts'
import type { commentCalls } from '../comments/contract.ts'
import { conduitErrors, refuse } from '../errors.ts'
import type { identityCalls } from '../identity/contract.ts'
import { accountTag } from '../identity/tags.ts'
import type { Filled, Messages } from './forms.ts'
import { type Content, layoutWith, type Viewer } from './layout.ts'
import { problemPage } from './views/problem.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The page instead of the one that could not be had; the form again, with what is wrong in it. */
    refused?(request: FastifyRequest, problem: Problem): Html | undefined
    /** The answer is the same for everybody: no session is read for it. */
    anonymous?: true
  }
}

export type Context = ModuleContext<{
  identity: typeof identityCalls
  articles: typeof articleCalls
  comments: typeof commentCalls
  avatars: typeof avatarCalls
}>

/** A form that was sent, to whichever page of those that have one. */
type FormRequest = FastifyRequest<{ Params: { slug?: string }; Body: Filled | undefined }>

/** More than any form of these pages has. */
const fieldsMax = 100

/** Who looks, and what every page has around it. */
export interface Visit {
  viewerOf(request: FastifyRequest): Viewer | null
  page(request: FastifyRequest, content: Content): Html
  /** For the `config` of a route that takes a form. */
  again(form: (sent: { filled: Filled; messages: Messages }, request: FormRequest) => Content): {
    refused(request: FormRequest, problem: Problem): Html
  }
}

export function prepare(http: Http, { asset, cache, calls, sessions }: Context): Visit {
  const layout = layoutWith(asset)
  const viewers = new WeakMap<FastifyRequest, Viewer>()
  const known = cache.cached(
    'viewer',
    { ttl: '5m', tags: (viewer) => (viewer ? [accountTag(viewer.username)] : []) },
    async (id: number): Promise<Viewer | null> => {
      const account = await calls.identity.accountOf({ accountId: id })
      return account && { id, username: account.username, image: account.image }
    },
  )

  http.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) => {
    // `URLSearchParams` takes a time that grows with the square of the fields: 500,000 of them would hold everybody up for 10 s.
    if (String(body).split('&', fieldsMax + 1).length > fieldsMax)
      return done(refuse('HTTP_VALIDATION', 'form', 'has too many fields'))
    done(null, Object.fromEntries(new URLSearchParams(String(body))))
  })
  // Before anything can go wrong that a page has to be shown for.
  http.addHook('onRequest', async (request, reply) => {
    if (request.routeOptions.config.anonymous) return
    // Routes with a cache replace it for those who are not signed in. Otherwise the Back button would show pages after a sign-out.
    reply.header('cache-control', 'private, no-store')
    const session = await sessions.of(request)
    const viewer = session && (await known(Number(session.principal)))
    if (viewer) viewers.set(request, viewer)
  })
  http.addHook('onRoute', (route) => {
    route.schema = { ...route.schema, hide: true }
    route.config = { refused: showProblem, ...route.config }
  })

  const viewerOf = (request: FastifyRequest) => viewers.get(request) ?? null
  const page = (request: FastifyRequest, content: Content) => layout(viewerOf(request), content)

  function showProblem(request: FastifyRequest, problem: Problem): Html | undefined {
    if (/^\/(api|-)([/?]|$)/.test(request.url)) return undefined
    const { errors } = conduitErrors(problem)
    const what = problem.status === 404 ? 'There is no such page. It may have been removed.' : inWords(errors)
    return page(request, { title: problem.title, main: problemPage(problem.title, what) })
  }

  return {
    viewerOf,
    page,
    again: (form) => ({
      refused(request, problem) {
        const filled: Filled = request.body ?? {}
        return page(request, form({ filled, messages: conduitErrors(problem).errors }, request))
      },
    }),
  }
}

function inWords(errors: Messages): string {
  return Object.entries(errors)
    .flatMap(([about, messages]) => messages.map((message) => (about === 'request' ? message : `${about} ${message}`)))
    .join('. ')
}
