import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { every } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import type { Principal } from '../../kernel/scope.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import type { Database } from '../data/contract.ts'
import { networkOf } from '../http/address.ts'
import type { Http } from '../http/contract.ts'
import { isOwnRequest } from '../http/own-request.ts'
import { principalOrNobody } from '../http/principal.ts'
import { onResponseEnd } from '../http/response-end.ts'
import { tellLimit } from './channels.ts'
import type { Limiter, Quota, Verdict } from './contract.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Limits of this route beside those of the app. `false` turns all limits off for it. */
    limits?: false | RouteLimit | readonly RouteLimit[]
    /**
     * Returns the account that a request signs in to. Failures of the route (401, 403) are limited by address and by this account. It is
     * called when the body has been validated.
     */
    login?: (request: never) => string | undefined
  }
}

/** At most `max` requests in any window of the length `per`. */
export interface Limit {
  max: number
  per: Duration
}

export interface RouteLimit extends Limit {
  /**
   * Whose requests are counted together: the principal's, otherwise the address's (`principal`, the default), the address's, or
   * everyone's.
   */
  by?: 'principal' | 'address' | 'everyone'
}

/** The app's options for limits. `false` turns a limit off. */
export interface LimitOptions {
  /** For a principal. Default 100 per minute. */
  user?: Limit | false
  /** For an address, of requests without a principal. Default 1,000 per minute. */
  address?: Limit | false
  /** In place of `user`, by the principal's plan. */
  plans?: Readonly<Record<string, Limit | false>>
  /** For failed sign-ins. Default 10 in 15 minutes for an account, 50 for an address. */
  loginFailures?: { account?: Limit | false; address?: Limit | false }
}

/** A limit as it applies to one subject. */
interface AppliedLimit {
  name: string
  quota: Quota
}

const defaults = {
  user: { max: 100, per: '1m' },
  address: { max: 1_000, per: '1m' },
  account: { max: 10, per: '15m' },
  loginAddress: { max: 50, per: '15m' },
} as const satisfies Record<string, Limit>

const pruneEveryMs = 60_000
const failedStatus = new Set([401, 403])

/** Refuses requests beyond the limits (429). Its hook comes after the observers, which see refusals too, and before the routes. */
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
      applied.map(({ name, quota }) => `"${name}";q=${quota.max};w=${seconds(quota.windowMs)}`).join(', '),
    )
    reply.header('ratelimit', applied.map(({ name, quota }, n) => state(name, quota.max, verdicts[n]!)).join(', '))
    refuse(applied, verdicts)
  })

  // The body names the account, so this hook comes after the validation and the route's own hooks.
  http.addHook('onRoute', (route) => {
    const account = route.config?.login
    if (!account) return
    const hook = async (request: FastifyRequest, reply: FastifyReply) => {
      const applied = ofLogin(request, accountOf(request, account as never))
      if (applied.length === 0) return
      // A unit is taken before the sign-in is tried and given back if it succeeds, so simultaneous attempts are limited too.
      const verdicts = await admit(applied)
      refuse(applied, verdicts)
      onResponseEnd(reply.raw, () => {
        // A client that leaves before the answer may have failed as well.
        if (reply.raw.writableFinished && !failedStatus.has(reply.statusCode)) void giveBack(verdicts)
      })
    }
    route.preHandler = [...[route.preHandler ?? []].flat(), hook] as never
  })

  const endPrune = every(pruneEveryMs, () => void limiter.prune().catch(failed))
  http.addHook('onClose', (_instance, done) => {
    endPrune()
    done()
  })

  function ofApp({ ip }: FastifyRequest, principal: Principal | undefined): AppliedLimit[] {
    if (!principal) return appliedLimit('address', options.address ?? defaults.address, networkOf(ip))
    const { id, plan } = principal
    const ofPlan = plan === undefined ? undefined : options.plans?.[plan]
    if (ofPlan !== undefined) return appliedLimit(`plan-${plan}`, ofPlan, id)
    return appliedLimit('user', options.user ?? defaults.user, id)
  }

  function ofRoute(
    { ip, method, routeOptions }: FastifyRequest,
    principal: Principal | undefined,
    limits: readonly RouteLimit[] | RouteLimit | undefined,
  ): AppliedLimit[] {
    if (limits === undefined) return []
    return [limits].flat().flatMap((limit) => {
      const { by = 'principal' } = limit as RouteLimit
      const user = by === 'principal' ? principal?.id : undefined
      const subject = by === 'everyone' ? '' : user === undefined ? `address ${networkOf(ip)}` : `user ${user}`
      return appliedLimit(`route-${by}`, limit as RouteLimit, `${method} ${routeOptions.url} ${subject}`)
    })
  }

  function ofLogin({ ip }: FastifyRequest, account: string | undefined): AppliedLimit[] {
    const { account: ofAccount = defaults.account, address = defaults.loginAddress } = options.loginFailures ?? {}
    return [
      ...appliedLimit('login-address', address, networkOf(ip)),
      ...(account === undefined ? [] : appliedLimit('login-account', ofAccount, account)),
    ]
  }

  async function admit(applied: readonly AppliedLimit[]): Promise<Verdict[]> {
    const verdicts = await limiter.take(applied.map(({ quota }) => quota))
    // A request that one limit refuses uses up nothing of the others.
    if (verdicts.some(({ admitted }) => !admitted)) await giveBack(verdicts)
    return verdicts
  }

  async function giveBack(verdicts: readonly Verdict[]): Promise<void> {
    const receipts = verdicts.flatMap(({ receipt }) => receipt ?? [])
    if (receipts.length > 0) await limiter.giveBack(receipts).catch(failed)
  }

  function refuse(applied: readonly AppliedLimit[], verdicts: readonly Verdict[]): void {
    const refused = applied.flatMap((one, n) => (verdicts[n]!.admitted ? [] : [{ one, nextMs: verdicts[n]!.nextMs }]))
    if (refused.length === 0) return
    const { one, nextMs } = refused.reduce((a, b) => (b.nextMs > a.nextMs ? b : a))
    const { max, windowMs } = one.quota
    tellLimit({ database, outcome: 'refused', limit: one.name })
    const retryAfterS = Math.max(1, seconds(nextMs))
    throw new RungError(
      'HTTP_TOO_MANY_REQUESTS',
      `At most ${max} requests in ${seconds(windowMs)} s are allowed here. Try again in ${retryAfterS} s.`,
      { facts: { limit: one.name, max, windowS: seconds(windowMs), retryAfterS } },
    )
  }

  function failed(error: unknown): void {
    tellLimit({ database, outcome: 'unavailable', limit: '', error })
  }
}

/**
 * Returns the same text for all spellings that an app or its database may take for one account: with spaces around it, in upper or lower case,
 * in any form of Unicode, with or without accents (to Postgres `İ` is a capital `i`, to JavaScript it has a dot above). Counting two accounts
 * together does little harm; counting each spelling by itself would be no limit.
 * @throws HTTP_VALIDATION if the route's `login` does not return a text
 */
function accountOf(request: FastifyRequest, account: (request: FastifyRequest) => unknown): string | undefined {
  let named: unknown
  try {
    named = account(request)
  } catch (cause) {
    throw new RungError('HTTP_VALIDATION', 'The request names no account to sign in to. Send one.', { cause })
  }
  if (named === undefined || named === null) return undefined
  if (typeof named === 'string')
    return named.normalize('NFKD').replace(/\p{M}/gu, '').trim().toLowerCase().toUpperCase()
  throw new RungError('HTTP_VALIDATION', 'The account to sign in to is not a string. Send it as one.')
}

function appliedLimit(name: string, limit: Limit | false, subject: string): AppliedLimit[] {
  if (limit === false) return []
  const windowMs = toMs(limit.per)
  // A digest, so that the table of limits is not a list of visitors.
  const key = createHash('sha256').update(`${name}\0${windowMs}\0${subject}`).digest('base64url').slice(0, 22)
  return [{ name, quota: { key, max: limit.max, windowMs } }]
}

/** Returns the value of a RateLimit header: the units left, and the seconds until there are more (draft-ietf-httpapi-ratelimit-headers). */
function state(name: string, max: number, { admitted, used, nextMs }: Verdict): string {
  return `"${name}";r=${admitted ? Math.max(0, max - used) : 0};t=${seconds(nextMs)}`
}

/** Rounds up, so that a client never returns too early. */
function seconds(ms: number): number {
  return Math.ceil(ms / 1000)
}

/**
 * Checks the limits of an app.
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
 * Checks the limits of a route. `where` begins the message.
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

/** Returns NaN for anything but a duration. */
function perMs(per: Duration | undefined): number {
  try {
    return toMs(per!)
  } catch {
    return Number.NaN
  }
}
