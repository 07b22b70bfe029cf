import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { every } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import type { Database } from '../data/contract.ts'
import { networkOf } from '../http/address.ts'
import type { Http } from '../http/contract.ts'
import { isOwnRequest } from '../http/own-request.ts'
import { type Principal, principalOrNobody } from '../http/principal.ts'
import { onResponseEnd } from '../http/response-end.ts'
import { tellLimit } from './channels.ts'
import type { Ask, Limiter, Taken, Verdict } from './contract.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Limits of this route beside those of the app; `false`: none at all. */
    limits?: false | RouteLimit | readonly RouteLimit[]
    /**
     * The route signs people in: its failures (401, 403) are limited, by address and by the account that this names. Asked when the
     * body has been validated.
     */
    login?: (request: never) => string | undefined
  }
}

/** So many in any window of this length. */
export interface Limit {
  max: number
  per: Duration
}

export interface RouteLimit extends Limit {
  /** Whom it is kept for: who is signed in, else the address (default); always the address; or all together. */
  by?: 'principal' | 'address' | 'everyone'
}

/** Options of the app, with the defaults named. `false`: no such limit. */
export interface LimitOptions {
  /** Of someone signed in. Default 100 per minute. */
  user?: Limit | false
  /** Of an address, for those who are not signed in. Default 1,000 per minute. */
  address?: Limit | false
  /** Instead of `user`, by the principal's plan. */
  plans?: Readonly<Record<string, Limit | false>>
  /** Of failed sign-ins. Default 10 in 15 minutes for an account, 50 for an address. */
  loginFailures?: { account?: Limit | false; address?: Limit | false }
}

/** One limit as it is kept for one subject. */
interface Applied {
  name: string
  max: number
  windowMs: number
  ask: Ask
}

const defaults = {
  user: { max: 100, per: '1m' },
  address: { max: 1_000, per: '1m' },
  account: { max: 10, per: '15m' },
  loginAddress: { max: 50, per: '15m' },
} as const satisfies Record<string, Limit>

const pruneEveryMs = 60_000
const failedStatus = new Set([401, 403])

/** Refuses requests beyond the limits (429). After the observers, which see refusals too, and before the routes. */
export function limitRequests(http: Http, limiter: Limiter, options: LimitOptions, database: Database): void {
  http.addHook('onRequest', async (request, reply) => {
    const { system, limits } = request.routeOptions.config ?? {}
    if (system || limits === false || isOwnRequest(request)) return
    const principal = await principalOrNobody(request)
    const applied = [...ofApp(request, principal), ...ofRoute(request, principal, limits)]
    if (applied.length === 0) return
    const verdicts = await admit(applied)
    reply.header(
      'ratelimit-policy',
      applied.map(({ name, max, windowMs }) => `"${name}";q=${max};w=${seconds(windowMs)}`).join(', '),
    )
    reply.header('ratelimit', applied.map(({ name, max }, n) => state(name, max, verdicts[n]!)).join(', '))
    refuse(applied, verdicts)
  })

  // The body names the account: so behind the validation, and behind the route's own hooks.
  http.addHook('onRoute', (route) => {
    const account = route.config?.login
    if (!account) return
    const hook = async (request: FastifyRequest, reply: FastifyReply) => {
      const applied = ofLogin(request, accountOf(request, account as never))
      if (applied.length === 0) return
      // Taken before it is known to fail, and given back where it does not: of many that try at once no more get through.
      const verdicts = await admit(applied)
      refuse(applied, verdicts)
      onResponseEnd(reply.raw, () => {
        // Who leaves before the answer could have been told "wrong" as well.
        if (reply.raw.writableFinished && !failedStatus.has(reply.statusCode)) void giveBack(applied, verdicts)
      })
    }
    route.preHandler = [...[route.preHandler ?? []].flat(), hook] as never
  })

  const endPrune = every(pruneEveryMs, () => void limiter.prune().catch(failed))
  http.addHook('onClose', (_instance, done) => {
    endPrune()
    done()
  })

  function ofApp({ ip }: FastifyRequest, principal: Principal | undefined): Applied[] {
    if (!principal) return one('address', options.address ?? defaults.address, networkOf(ip))
    const { id, plan } = principal
    const ofPlan = plan === undefined ? undefined : options.plans?.[plan]
    if (ofPlan !== undefined) return one(`plan-${plan}`, ofPlan, id)
    return one('user', options.user ?? defaults.user, id)
  }

  function ofRoute(
    { ip, method, routeOptions }: FastifyRequest,
    principal: Principal | undefined,
    limits: readonly RouteLimit[] | RouteLimit | undefined,
  ): Applied[] {
    if (limits === undefined) return []
    return [limits].flat().flatMap((limit) => {
      const { by = 'principal' } = limit as RouteLimit
      const user = by === 'principal' ? principal?.id : undefined
      const subject = by === 'everyone' ? '' : user === undefined ? `address ${networkOf(ip)}` : `user ${user}`
      return one(`route-${by}`, limit as RouteLimit, `${method} ${routeOptions.url} ${subject}`)
    })
  }

  function ofLogin({ ip }: FastifyRequest, account: string | undefined): Applied[] {
    const { account: ofAccount = defaults.account, address = defaults.loginAddress } = options.loginFailures ?? {}
    return [
      ...one('login-address', address, networkOf(ip)),
      ...(account === undefined ? [] : one('login-account', ofAccount, account)),
    ]
  }

  async function admit(applied: readonly Applied[]): Promise<Verdict[]> {
    const verdicts = await limiter.take(applied.map(({ ask }) => ask))
    // A request that one limit refuses uses up none of the others: when it is told so, they have it back.
    if (verdicts.some(({ admitted }) => !admitted)) await giveBack(applied, verdicts)
    return verdicts
  }

  async function giveBack(applied: readonly Applied[], verdicts: readonly Verdict[]): Promise<void> {
    const taken: Taken[] = applied.flatMap(({ ask: { key } }, n) => {
      const { admitted, slot, ownSlot } = verdicts[n]!
      return admitted ? [{ key, slot, ownSlot }] : []
    })
    if (taken.length > 0) await limiter.giveBack(taken).catch(failed)
  }

  function refuse(applied: readonly Applied[], verdicts: readonly Verdict[]): void {
    const refused = applied.flatMap((one, n) => (verdicts[n]!.admitted ? [] : [{ one, nextMs: verdicts[n]!.nextMs }]))
    if (refused.length === 0) return
    const { one, nextMs } = refused.reduce((a, b) => (b.nextMs > a.nextMs ? b : a))
    tellLimit({ database, outcome: 'refused', limit: one.name })
    const retryAfterS = Math.max(1, seconds(nextMs))
    throw new RungError(
      'HTTP_TOO_MANY_REQUESTS',
      `No more than ${one.max} in ${seconds(one.windowMs)} s are allowed here. Try again in ${retryAfterS} s.`,
      { facts: { limit: one.name, max: one.max, windowS: seconds(one.windowMs), retryAfterS } },
    )
  }

  function failed(error: unknown): void {
    tellLimit({ database, outcome: 'unavailable', limit: '', error })
  }
}

/**
 * Ways of writing that are one account to some app or database are one here: spaces around it, upper and lower case, forms of Unicode,
 * accents (to Postgres `İ` is a capital `i`, to JavaScript it is one with a dot above). A limit that is too strict by that harms
 * nobody; one that each way of writing has for itself is none.
 * @throws HTTP_VALIDATION where the request names no account as a text
 */
function accountOf(request: FastifyRequest, account: (request: FastifyRequest) => unknown): string | undefined {
  let named: unknown
  try {
    named = account(request)
  } catch (cause) {
    throw new RungError('HTTP_VALIDATION', 'The request names no account to sign in to.', { cause })
  }
  if (named === undefined || named === null) return undefined
  if (typeof named === 'string')
    return named.normalize('NFKD').replace(/\p{M}/gu, '').trim().toLowerCase().toUpperCase()
  throw new RungError('HTTP_VALIDATION', 'The account to sign in to must be a text.')
}

function one(name: string, limit: Limit | false, subject: string): Applied[] {
  if (limit === false) return []
  const windowMs = toMs(limit.per)
  // A digest: a table of limits is no list of who was here.
  const key = createHash('sha256').update(`${name}\0${windowMs}\0${subject}`).digest('base64url').slice(0, 22)
  return [{ name, max: limit.max, windowMs, ask: { key, max: limit.max, windowMs } }]
}

/** What can still be used, and when that becomes more (draft-ietf-httpapi-ratelimit-headers, "RateLimit"). */
function state(name: string, max: number, { admitted, used, nextMs }: Verdict): string {
  return `"${name}";r=${admitted ? Math.max(0, max - used) : 0};t=${seconds(nextMs)}`
}

/** Never too early. */
function seconds(ms: number): number {
  return Math.ceil(ms / 1000)
}

/**
 * Whether the limits of the app can be kept.
 * @throws APP_INVALID
 */
export function checkLimits({ user, address, plans, loginFailures }: LimitOptions): void {
  checkLimit('limits.user', user)
  checkLimit('limits.address', address)
  checkLimit('limits.loginFailures.account', loginFailures?.account)
  checkLimit('limits.loginFailures.address', loginFailures?.address)
  for (const [plan, limit] of Object.entries(plans ?? {})) checkLimit(`limits.plans.${plan}`, limit)
}

/**
 * Whether the limits of a route can be kept; `where` begins the message.
 * @throws APP_INVALID
 */
export function checkRouteLimits(where: string, limits: false | RouteLimit | readonly RouteLimit[] | undefined): void {
  if (limits === undefined || limits === false) return
  for (const limit of [limits].flat() as RouteLimit[]) {
    checkLimit(where, limit, ['by'])
    if (limit.by !== undefined && !['principal', 'address', 'everyone'].includes(limit.by))
      throw new RungError('APP_INVALID', `${where}: by must be 'principal', 'address' or 'everyone'.`)
  }
}

function checkLimit(where: string, limit: Limit | false | undefined, more: readonly string[] = []): void {
  if (limit === undefined || limit === false) return
  const { max, per, ...others } = Object(limit) as Partial<Limit>
  const unknown = Object.keys(others).find((key) => !more.includes(key))
  if (Number.isInteger(max) && max! >= 1 && perMs(per) >= 1_000 && unknown === undefined) return
  throw new RungError(
    'APP_INVALID',
    `${where} has ${unknown === undefined ? `max ${max} and per ${per}` : `the key "${unknown}"`}. Write { max: 100, per: '1m' }: max is a whole number from 1, per a duration of at least '1s'.`,
  )
}

/** Not a number where it is not a duration. */
function perMs(per: Duration | undefined): number {
  try {
    return toMs(per!)
  } catch {
    return Number.NaN
  }
}
