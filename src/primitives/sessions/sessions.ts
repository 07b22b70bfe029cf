import type { FastifyReply, FastifyRequest } from 'fastify'
import { every, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { uuid } from '../../kernel/random.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import type { Http } from '../http/contract.ts'
import { identifyBy, type Principal } from '../http/principal.ts'
import type { Found, SessionInfo, SessionStore } from './contract.ts'
import { checkOrigin } from './origin.ts'
import { sessionTokens } from './token.ts'

/** Options of the app, with the defaults named. */
export interface SessionOptions {
  /** Over when nobody has used it for so long. Default 7 d. */
  idle?: Duration
  /** Over in any case. Default 30 d. */
  lifetime?: Duration
  /** Its secret changes every so often. Default 1 h. */
  rotate?: Duration
  /** Sent over https only, under a name with `__Host-`. Default: unless in development or a test. */
  secure?: boolean
  /** Other origins whose pages may send requests with the cookie, `https://admin.example.com`. */
  origins?: readonly string[]
}

/** What a module holds. */
export interface Sessions {
  /** Begins a session with a secret of its own, whatever the request came with; that one is over. */
  signIn(request: FastifyRequest, reply: FastifyReply, principal: Principal): Promise<SessionInfo>
  signOut(request: FastifyRequest, reply: FastifyReply): Promise<void>
  /** The session that a request came with. */
  of(request: FastifyRequest): Promise<SessionInfo | undefined>
  list(principal: string): Promise<SessionInfo[]>
  /** Here at once, in other processes within a second. Gives whether there was one. */
  revoke(id: string): Promise<boolean>
  /** After a password was changed, an account was closed … Gives how many there were. */
  revokeAll(principal: string): Promise<number>
}

/** What is known of a session is believed for so long: the time that a revocation needs to reach everybody. */
const believedMs = 900
const believedMax = 10_000
/** Requests with the old cookie may still be under way. */
const graceMs = 30_000
const pruneEveryMs = 60_000
const pruneMax = 1_000

interface Known {
  found: Found | undefined
  token: string
}

/** Sessions in a cookie, beside tokens. Before the limits, which ask who it is. */
export function cookieSessions(
  http: Http,
  store: SessionStore,
  options: SessionOptions,
  { key, secure: secureMode }: { key: Uint8Array; secure: boolean },
): Sessions {
  const idleMs = toMs(options.idle ?? '7d')
  const lifetimeMs = toMs(options.lifetime ?? '30d')
  const rotateMs = toMs(options.rotate ?? '1h')
  const secure = options.secure ?? secureMode
  const name = secure ? '__Host-session' : 'session'
  const trusted = new Set(options.origins ?? [])
  const tokens = sessionTokens(key)
  const believed = new Map<string, { found: Found; at: number }>()
  /** What was looked up while one came is not believed. */
  let revocations = 0
  const byRequest = new WeakMap<FastifyRequest, Promise<Known | undefined>>()

  http.addHook('onRequest', (request, _reply, done) => {
    try {
      if (signedToken(request)) checkOrigin(request, trusted)
      done()
    } catch (error) {
      done(error as Error)
    }
  })

  // The cookie is renewed with the answer to whatever came with it.
  http.addHook('onSend', async (request, reply, payload) => {
    const known = await byRequest.get(request)?.catch(() => undefined)
    if (known?.found && isDue(known.found) && !hasOwnCookie(reply)) {
      const next = tokens.next(known.token)
      try {
        await store.announce(known.found.session.id, tokens.digest(next)!)
        setCookie(reply, next, known.found.leftMs)
      } catch (err) {
        // An answer must not fail for it: the cookie that there is stays good, and is renewed by a later one.
        http.log.warn({ err }, 'a session was not renewed')
      }
    }
    return payload
  })

  identifyBy(http, async (request) => {
    const session = await of(request)
    return session && { id: session.principal, plan: session.plan }
  })

  const endPrune = every(
    pruneEveryMs,
    () => void prune().catch((err) => http.log.warn({ err }, 'sessions were not pruned')),
  )
  http.addHook('onClose', (_instance, done) => {
    endPrune()
    done()
  })

  async function prune(): Promise<void> {
    while ((await store.prune(idleMs, pruneMax)) === pruneMax);
  }

  function signedToken(request: FastifyRequest): { token: string; digest: Buffer } | undefined {
    const token = cookieOf(request, name)
    const digest = token === undefined ? undefined : tokens.digest(token)
    return digest && { token: token!, digest }
  }

  function lookUp(request: FastifyRequest): Promise<Known | undefined> {
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

  async function find(digest: Buffer): Promise<Found | undefined> {
    const at = systemClock.ticks() // before it is asked: what is believed is never older than that
    const place = digest.toString('base64url')
    const memory = believed.get(place)
    if (memory && at - memory.at < believedMs) return memory.found
    believed.delete(place)
    const before = revocations
    const found = await store.find(digest)
    if (!found || found.idleMs > idleMs) return undefined
    const { id } = found.session
    if (found.as === 'previous' && found.graceMs <= 0) {
      // Its successor is in use, so there are two who hold the session: one of them is a thief.
      await store.revoke([id])
      return undefined
    }
    if (found.as === 'next') await store.promote(id, digest, graceMs)
    if (found.idleMs > Math.min(60_000, idleMs / 10)) await store.seen(id)
    if (believed.size >= believedMax) believed.delete(believed.keys().next().value!)
    if (before === revocations) believed.set(place, { found, at })
    return found
  }

  function isDue({ as, secretAgeMs }: Found): boolean {
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
    reply.header('set-cookie', `${name}=${value}; ${attributes}`) // Fastify adds to those that are there
    reply.header('cache-control', 'no-store')
  }

  function forget(isMeant: (session: SessionInfo) => boolean): void {
    revocations += 1
    for (const [place, { found }] of believed) if (isMeant(found.session)) believed.delete(place)
  }

  async function revoke(id: string): Promise<boolean> {
    const there = (await store.revoke([id])) > 0
    forget((session) => session.id === id)
    return there
  }

  return {
    async signIn(request, reply, principal) {
      checkOrigin(request, trusted) // or another site could sign its visitors in as somebody else
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
    async revokeAll(principal) {
      const n = await store.revokeAll(principal)
      forget((session) => session.principal === principal)
      return n
    },
  }
}

/** For an app that has not asked for sessions. */
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
