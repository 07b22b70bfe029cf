import type { FastifyReply, FastifyRequest } from 'fastify'
import { systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { sessionCookieNames } from '../../kernel/http-facts.ts'
import type { Keys } from '../../kernel/keys.ts'
import { uuid } from '../../kernel/random.ts'
import type { Principal } from '../../kernel/scope.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import type { Http } from '../http/contract.ts'
import { identifyBy } from '../http/principal.ts'
import type { FoundSession, SessionInfo, SessionStore } from './contract.ts'
import { checkOrigin } from './origin.ts'
import { sessionTokens } from './token.ts'

/** The app's options for sessions. */
export interface SessionOptions {
  /** A session that was not used for this long is over. Default 7 d. */
  idle?: Duration
  /** A session of this age is over. Default 30 d. */
  lifetime?: Duration
  /** The session's secret is replaced when it is this old. Default 1 h. */
  rotate?: Duration
  /** Whether the cookie is sent over https only, under a name with `__Host-`. Default: except in development and tests. */
  secure?: boolean
  /** Other origins whose pages may send requests with the cookie, `https://admin.example.com`. */
  origins?: readonly string[]
}

/** Sessions as a module sees them. */
export interface Sessions {
  /**
   * Begins a session with a secret of its own, sets its cookie, and ends the session that the request came with.
   * @throws HTTP_CROSS_ORIGIN for a request that a page of another site has sent
   */
  signIn(request: FastifyRequest, reply: FastifyReply, principal: Principal): Promise<SessionInfo>
  /** Ends the session that the request came with, and removes its cookie. */
  signOut(request: FastifyRequest, reply: FastifyReply): Promise<void>
  /** Returns the session that a request came with. */
  of(request: FastifyRequest): Promise<SessionInfo | undefined>
  /** Returns the sessions of a principal that are not over, the oldest first. */
  list(principal: string): Promise<SessionInfo[]>
  /**
   * Ends a session. When it returns every process refuses the session; without Redis the others do so within a second.
   * @returns whether there was one
   */
  revoke(id: string): Promise<boolean>
  /**
   * Ends all sessions of a principal, for example after a change of the password. It holds as soon as `revoke` does.
   * @returns how many there were
   */
  revokeAll(principal: string): Promise<number>
}

/** After a rotation, requests with the old cookie may still be under way. */
const graceMs = 30_000

interface KnownSession {
  found: FoundSession | undefined
  token: string
}

/** Returns how long a session may be unused. */
export function idleMsOf({ idle = '7d' }: SessionOptions): number {
  return toMs(idle)
}

/** Sessions in a cookie, beside tokens. Its hooks come before the limits, which ask for the principal. */
export function cookieSessions(
  http: Http,
  store: SessionStore,
  options: SessionOptions,
  { keys, secure: secureMode }: { keys: Keys; secure: boolean },
): Sessions {
  const idleMs = idleMsOf(options)
  const lifetimeMs = toMs(options.lifetime ?? '30d')
  const rotateMs = toMs(options.rotate ?? '1h')
  const secure = options.secure ?? secureMode
  const name = secure ? sessionCookieNames.secure : sessionCookieNames.plain
  const trusted = new Set(options.origins ?? [])
  const tokens = sessionTokens(keys)
  const byRequest = new WeakMap<FastifyRequest, Promise<KnownSession | undefined>>()

  http.addHook('onRequest', (request, _reply, done) => {
    try {
      if (signedToken(request)) checkOrigin(request, trusted)
      done()
    } catch (error) {
      done(error as Error)
    }
  })

  // A cookie is renewed with the answer to the request that came with it.
  http.addHook('onSend', async (request, reply, payload) => {
    const known = await byRequest.get(request)?.catch(() => undefined)
    if (known?.found && isDue(known.found) && !hasOwnCookie(reply)) {
      const next = tokens.next(known.token)
      try {
        await store.announce(known.found.session.id, tokens.digest(next)!)
        setCookie(reply, next, known.found.leftMs)
      } catch (err) {
        // The answer must not fail for this: the current cookie stays good, and a later answer renews it.
        http.log.warn({ err }, 'a session was not renewed')
      }
    }
    return payload
  })

  identifyBy(http, async (request) => {
    const session = await of(request)
    return session && { id: session.principal, plan: session.plan }
  })

  function signedToken(request: FastifyRequest): { token: string; digest: Buffer } | undefined {
    const token = cookieOf(request, name)
    const digest = token === undefined ? undefined : tokens.digest(token)
    return digest && { token: token!, digest }
  }

  function lookUp(request: FastifyRequest): Promise<KnownSession | undefined> {
    let known = byRequest.get(request)
    if (!known) {
      const signed = signedToken(request)
      known = signed
        ? find(signed.digest).then((found) => ({ found, token: signed.token }))
        : Promise.resolve(undefined)
      byRequest.set(request, known)
    }
    return known
  }

  async function find(digest: Buffer): Promise<FoundSession | undefined> {
    const found = await store.find(digest)
    if (!found || found.idleMs > idleMs) return undefined
    const { id } = found.session
    if (found.as === 'previous' && found.graceMs <= 0) {
      // Its successor is in use, so two parties hold the session, and one of them is a thief.
      await store.revoke([id])
      return undefined
    }
    if (found.as === 'next') await store.promote(id, digest, graceMs)
    if (found.idleMs > Math.min(60_000, idleMs / 10)) await store.touch(id)
    return found
  }

  function isDue({ as, secretAgeMs }: FoundSession): boolean {
    return as === 'current' && secretAgeMs > rotateMs
  }

  async function of(request: FastifyRequest): Promise<SessionInfo | undefined> {
    return (await lookUp(request))?.found?.session
  }

  function hasOwnCookie(reply: FastifyReply): boolean {
    return [reply.getHeader('set-cookie') ?? []].flat().some((cookie) => String(cookie).startsWith(`${name}=`))
  }

  function setCookie(reply: FastifyReply, value: string, maxAgeMs: number): void {
    const attributes = `Path=/; Max-Age=${Math.floor(maxAgeMs / 1000)}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`
    reply.header('set-cookie', `${name}=${value}; ${attributes}`) // Fastify adds it to the cookies that are already set
    reply.header('cache-control', 'no-store')
  }

  async function revoke(id: string): Promise<boolean> {
    return (await store.revoke([id])).length > 0
  }

  return {
    async signIn(request, reply, principal) {
      checkOrigin(request, trusted) // otherwise another site could sign its visitors in as somebody else
      const before = await of(request)
      const token = tokens.fresh()
      const id = uuid()
      await store.create({
        id,
        digest: tokens.digest(token)!,
        principal: principal.id,
        plan: principal.plan,
        lifetimeMs,
      })
      if (before) await revoke(before.id)
      setCookie(reply, token, lifetimeMs)
      const now = new Date(systemClock.now())
      const session = { id, principal: principal.id, plan: principal.plan, createdAt: now, seenAt: now }
      byRequest.delete(request)
      return session
    },
    async signOut(request, reply) {
      const session = await of(request)
      byRequest.delete(request)
      if (session) await revoke(session.id)
      setCookie(reply, '', 0)
    },
    of,
    list: (principal) => store.list(principal),
    revoke,
    revokeAll: async (principal) => (await store.revokeAll(principal)).length,
  }
}

/** Takes the place of sessions in an app that has none. */
export const noSessions: Sessions = new Proxy({} as Sessions, {
  get() {
    throw new RungError('APP_INVALID', 'The app has no sessions. Write `sessions: {}` into defineApp.')
  },
})

/** The first cookie of this name (RFC 6265, section 4.2). */
function cookieOf({ headers }: FastifyRequest, name: string): string | undefined {
  for (const part of headers.cookie?.split(';') ?? []) {
    const text = part.trim()
    if (text.startsWith(`${name}=`)) return text.slice(name.length + 1)
  }
  return undefined
}
