import type { FastifyReply, FastifyRequest } from 'fastify'
import { atMost } from '../../kernel/clock.ts'
import { type Keys, keyOfMac, macOf } from '../../kernel/keys.ts'
import { covers, formatPlace, furthest, type Place, type Position, parsePlace } from '../../kernel/position.ts'
import { currentScope, type Scope } from '../../kernel/scope.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import type { Http } from '../http/contract.ts'
import { principalOrNobody } from '../http/principal.ts'
import { keptMs, type PositionRecords } from './contract.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * How old what this route reads may be, if the replicas lag and the primary has no time: `'30s'`. Without it such a request is refused
     * with `DATA_BEHIND`. Do not set it where a session has to see what it has written.
     */
    staleFor?: Duration
  }
}

/** Told to observers: a cookie that nobody signed, or a record that could not be had. */
export type PositionTrouble = 'forged' | 'unknown' | 'not-kept'

export interface PositionOptions {
  records: PositionRecords
  keys: Keys
  secure: boolean
  /** Reads may be answered by servers that lag. */
  lags: boolean
  /** Different servers or processes may show different times: a session carries what it has read, so that it does not go back. */
  readsMove: boolean
  trouble(what: PositionTrouble, error?: unknown): void
}

/** One for writes and one for reads: of two answers to one client the later may be that of a read which began before the write. */
export const cookieNames = { wrote: 'rung-position', read: 'rung-seen' } as const
const recordMsMax = 250

/**
 * Carries a session's position from one request to the next: in a signed cookie, and for clients that keep no cookies in two records. That
 * of their principal counts; that of their credential serves until the principal is known. Sessions have one that have written, and with
 * `readsMove` also those that have read. An answer that caches may keep for all carries none.
 */
export function carryPositions(http: Http, { records, keys, secure, lags, readsMove, trouble }: PositionOptions): void {
  /** What clients have sent in a cookie. */
  const sent = new WeakMap<Scope, Position>()
  /** What records of principals had. */
  const found = new WeakMap<Scope, Position>()

  http.addHook('onRequest', (request, _reply, done) => {
    const scope = currentScope()
    const { cookie: cookies, authorization } = request.headers
    if (!scope) return done()
    const { staleFor } = request.routeOptions.config
    if (staleFor !== undefined) scope.staleMsMax = toMs(staleFor)
    const position = cookies === undefined ? undefined : positionIn(cookies)
    // What such a request reads decides what it writes, and whose session it belongs to is not known: it signs in, for example.
    if (lags && !position && !isSafe(request.method)) scope.positionUnknown = true
    // A request without cookie and authorization has no position. Most requests end here.
    if (cookies === undefined && authorization === undefined) return done()
    if (position) {
      scope.position = furthest(scope.position, position)
      if (readsMove) sent.set(scope, scope.position)
    } else {
      // Asked for only where somebody needs it.
      scope.recall = (by) => recalled(request, scope, by)
    }
    done()
  })

  http.addHook('onSend', (request, reply, _payload, done) => {
    const scope = currentScope()
    if (!scope || scope.position.size === 0) return done()
    const known = sent.get(scope) ?? found.get(scope)
    const isKnown = known !== undefined && covers(known, scope.position)
    if (!scope.wrote && (!readsMove || isKnown || isForAll(reply))) return done()
    // A client that has sent the cookie keeps cookies. What it writes is recorded all the same, for its other clients.
    const isRecorded = scope.wrote || !sent.has(scope)
    keep(request, reply, scope.position, isRecorded).then(() => done(), done)
  })

  async function recalled(request: FastifyRequest, scope: Scope, by: 'credential' | 'principal'): Promise<boolean> {
    const { authorization } = request.headers
    const owner = by === 'credential' ? authorization : (await principalOrNobody(request))?.id
    if (owner === undefined) return false
    try {
      const known = await records.find(ownerOf(by, owner))
      if (known) scope.position = furthest(scope.position, known)
      // The account may have been made a moment ago, by a request that had no principal yet.
      else if (lags && by === 'principal') scope.positionUnknown = true
      // Where servers lag, each request renews its record, because who has none reads on the primary.
      if (known && !lags && by === 'principal') found.set(scope, known)
      return known !== undefined
    } catch (error) {
      trouble('unknown', error)
      scope.positionUnknown = true
      return false
    }
  }

  async function keep(
    request: FastifyRequest,
    reply: FastifyReply,
    position: Position,
    isRecorded: boolean,
  ): Promise<void> {
    const name = cookieNames[currentScope()?.wrote ? 'wrote' : 'read']
    const places = Array.from(position, ([database, place]) => `${database}:${formatPlace(place)}`).join('+')
    const value = encodeURIComponent(`${places}.${macOf(keys.signing, places)}`)
    const flags = `Path=/; Max-Age=${keptMs / 1000}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`
    reply.header('set-cookie', `${name}=${value}; ${flags}`)
    const principal = isRecorded ? await principalOrNobody(request) : undefined
    if (!principal) return
    const { authorization } = request.headers
    const owners = [ownerOf('principal', principal.id)]
    if (authorization !== undefined) owners.push(ownerOf('credential', authorization))
    const kept = Promise.all(owners.map((owner) => records.put(owner, position)))
    const settled = kept.catch((error) => trouble('not-kept', error))
    await atMost(recordMsMax, settled)
  }

  /** Returns what the cookies cover together; `undefined` without a valid one. */
  function positionIn(cookies: string): Position | undefined {
    const given = cookiesIn(cookies)
    const known = given.map(opened).filter((one) => one !== undefined)
    if (known.length < given.length) trouble('forged')
    return known.length > 0 ? known.reduce(furthest) : undefined
  }

  /** An old position is no burden, since everybody covers it by now. Its age would be told by two clocks, one of which may be wrong. */
  function opened(value: string): Position | undefined {
    const match = /^([^.]{1,1000})\.([\w-]{43})$/.exec(decoded(value))
    if (!match) return undefined
    const [, places, mac] = match
    if (keyOfMac(keys, places!, mac!) === undefined) return undefined
    const position = new Map<string, Place>()
    for (const text of places!.split('+')) {
      const end = text.lastIndexOf(':')
      const place = parsePlace(text.slice(end + 1))
      if (place !== undefined) position.set(text.slice(0, end), place)
    }
    return position
  }
}

/** Returns the name of a record of `PositionRecords`. */
export function ownerOf(by: 'credential' | 'principal', name: string): string {
  return `${by} ${name}`
}

function isSafe(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS'
}

function isForAll(reply: FastifyReply): boolean {
  return String(reply.getHeader('cache-control') ?? '').includes('public')
}

function cookiesIn(cookies: string): string[] {
  if (!cookies.includes(cookieNames.wrote) && !cookies.includes(cookieNames.read)) return []
  return cookies.split(';').flatMap((part) => {
    const [name, value = ''] = part.trim().split('=', 2)
    return name === cookieNames.wrote || name === cookieNames.read ? [value] : []
  })
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return ''
  }
}
