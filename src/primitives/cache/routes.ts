import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import { RungError } from '../../kernel/errors.ts'
import { Html } from '../../kernel/html.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import type { Http } from '../http/contract.ts'
import { asPage, pageType } from '../http/pages.ts'
import { unserializable } from '../http/problem.ts'
import { varyBy } from '../http/vary.ts'
import type { Cache, CacheOptions, LoadContext } from './cache.ts'
import { contentKeyOf, contentReply, contentRequest } from './content-only.ts'
import { edgeTag } from './edge.ts'
import { tagTexts, textOf } from './keys.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Keeps this route's answers to the anonymous. Its handler returns what it answers, and looks at nothing but path, query and `vary`. */
    cache?: RouteCache
    /** Returns the cache of the module that has the route. */
    module?: string
  }
}

export interface RouteCache extends Pick<CacheOptions, 'ttl' | 'grace' | 'errorTtl' | 'softTimeout' | 'hardTimeout'> {
  /** What the answer depends on. `'inherit'`: on what the entries depend on that the handler takes from the cache. */
  tags: readonly string[] | ((request: Asked, answer: Answer) => readonly string[]) | 'inherit'
  /** Request headers that the answer depends on, beside those that say who asks. */
  vary?: readonly string[]
}

/** As the route's own schema says; types cannot follow it here. */
interface Asked {
  // biome-ignore lint/suspicious/noExplicitAny: see above
  readonly params: any
  // biome-ignore lint/suspicious/noExplicitAny: see above
  readonly query: any
}
// biome-ignore lint/suspicious/noExplicitAny: what the handler returns
type Answer = any

export interface CachedRoutesOptions {
  of(module: string): Cache
  /** Resolves when what the edge had been told when it let a request in is known here; with false where that cannot be. */
  caughtUp(purges: string): Promise<boolean> | undefined
  /** Caches stand in front that hear of every invalidation: they may keep answers too, and find in this header what each depends on. */
  tagHeader: 'surrogate-key' | 'cache-tag' | undefined
  /** Cookies that say who asks. */
  cookies: readonly string[]
  /** Every answer is made. */
  off: boolean
}

/** What is kept of an answer. */
interface Page {
  body: string
  etag: string
  type: string
  tags: readonly string[]
  /** The same as the edge knows them: a hash each, too much work for every hit. */
  edgeTags: string
}

/**
 * Keeps answers to anonymous requests whole, as they go over the wire. A request that names its sender gets an answer of its own, which no
 * cache on the way may store.
 */
export function cachedRoutes(http: Http, { of, caughtUp, tagHeader, cookies, off }: CachedRoutesOptions): void {
  const behind = new WeakSet<FastifyRequest>()
  if (tagHeader) {
    http.addHook('onRequest', (request, _reply, done) => {
      const purges = request.headers['x-rung-purges']
      const waiting = typeof purges === 'string' ? caughtUp(purges) : undefined
      if (!waiting) return done()
      void waiting.then((known) => {
        if (!known) behind.add(request)
        done()
      })
    })
  }
  http.addHook('onRoute', (route) => {
    const cache = route.config?.cache
    if (!cache) return
    if (route.method !== 'GET' && route.method !== 'HEAD') {
      throw new RungError('APP_INVALID', `${route.method} ${route.url} has a cache; only GET can have one.`)
    }
    const { tags, vary = [], ...lifetimes } = cache
    const forEdge = lifetime(cache)
    const handler = route.handler as RouteHandlerMethod
    let pages: Cache | undefined
    route.handler = async function cached(request, reply) {
      const before = reply.getHeader('vary')
      if (!off) varyBy(reply, ['authorization', 'cookie', ...vary])
      if (off || isPersonal(request, cookies)) {
        if (!off) reply.header('cache-control', 'private, no-store')
        return handler.call(this, request, reply)
      }
      const module = request.routeOptions.config.module ?? ''
      const keyed = contentKeyOf(request, vary)
      const load = async ({ inherited }: LoadContext): Promise<Page> => {
        const asked = contentRequest(request, keyed)
        const answer = await handler.call(this, asked, contentReply(reply, asked))
        const names = tags === 'inherit' ? inherited() : typeof tags === 'function' ? tags(asked, answer) : tags
        const edgeTags = tagTexts(module, names).map(edgeTag).join(' ')
        return { ...pageOf(answer, reply, route.url), tags: names, edgeTags }
      }
      const parts = JSON.stringify([keyed.params, keyed.query, ...keyed.headers.values()])
      const key = `GET ${route.url}:${textOf([parts])}`
      pages ??= of(module)
      const page = await pages.get(key, { ...lifetimes, tags: (one: Page) => one.tags }, load)
      const kept = tagHeader !== undefined && !behind.has(request)
      // A browser asks again each time: what it keeps nobody can purge. Caches that hear of invalidations are told more, in headers of their own.
      reply.header('cache-control', 'public, no-cache').header('etag', page.etag)
      if (kept) {
        reply.header('surrogate-control', forEdge).header('cdn-cache-control', forEdge)
        // It knows which cookies say who asks; others make no other page.
        reply.header('edge-vary', [before, ...vary].filter(Boolean).join(', ') || 'none')
        const names = tagHeader === 'cache-tag' ? page.edgeTags.replaceAll(' ', ',') : page.edgeTags
        if (names !== '') reply.header(tagHeader, names)
      }
      if (page.type === pageType) asPage(reply) // a 304 replaces the headers that its client has kept
      if (matches(request.headers['if-none-match'], page.etag)) return reply.status(304).send()
      return reply.type(page.type).send(page.body)
    }
  })
}

/** RFC 9213, and Surrogate-Control of the Edge Architecture Specification. */
function lifetime({ ttl, grace = 0 }: { ttl: Duration; grace?: Duration }): string {
  const seconds = (duration: Duration) => Math.floor(toMs(duration) / 1_000)
  return `max-age=${seconds(ttl)}, stale-while-revalidate=${seconds(grace)}`
}

/** The same as the page cache in front decides (`engines/nginx/recipe.ts`): it has no use for what is personal only here. */
function isPersonal({ headers }: FastifyRequest, cookies: readonly string[]): boolean {
  if (headers.authorization) return true
  const names = (headers.cookie ?? '').split(';').map((pair) => pair.slice(0, pair.indexOf('=')).trimStart())
  return names.some((name) => cookies.includes(name))
}

function pageOf(answer: unknown, reply: FastifyReply, url: string): Omit<Page, 'tags' | 'edgeTags'> {
  const kind = kindThatCannotBeKept(answer)
  if (kind) {
    const message = `GET ${url} has a cache, and its handler returns ${kind}. Let it return a text, a page or a value for JSON, or take the cache off.`
    throw new RungError('APP_INVALID', message)
  }
  const isText = typeof answer === 'string' || answer instanceof Html
  const body = isText ? String(answer) : jsonOf(answer as Record<string, unknown>, reply)
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 27)}"`
  const own = answer instanceof Html ? pageType : reply.getHeader('content-type')
  const type = typeof own === 'string' ? own : isText ? 'text/plain; charset=utf-8' : 'application/json; charset=utf-8'
  return { body, etag, type }
}

function jsonOf(answer: Record<string, unknown>, reply: FastifyReply): string {
  // A route need not have a schema for its answer.
  const serialize = reply.getSerializationFunction('200') ?? JSON.stringify
  try {
    return String(serialize(answer))
  } catch (error) {
    throw unserializable(error, reply.request)
  }
}

function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  return header === '*' || header.split(',').some((one) => one.trim().replace(/^W\//, '') === etag)
}

/** Kept answers are texts, in Redis too. */
function kindThatCannotBeKept(answer: unknown): string | undefined {
  if (answer === undefined || answer === null) return 'nothing'
  if (answer instanceof Response) return 'a Response'
  if (ArrayBuffer.isView(answer) || answer instanceof ArrayBuffer || answer instanceof Blob) return 'bytes'
  const { pipe, getReader } = answer as { pipe?: unknown; getReader?: unknown }
  return typeof pipe === 'function' || typeof getReader === 'function' ? 'a stream' : undefined
}
