import { createHmac, timingSafeEqual } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { atMost, systemClock } from '../../kernel/clock.ts'
import { formatPlace, furthest, type Place, type Position, parsePlace } from '../../kernel/position.ts'
import { currentScope, type Scope } from '../../kernel/scope.ts'
import type { Http } from '../http/contract.ts'
import { principalOrNobody } from '../http/principal.ts'
import { keptMs, type PositionRecords } from './contract.ts'

/** Told to observers: a cookie that nobody signed, or a record that could not be had. */
export type PositionTrouble = 'forged' | 'unknown' | 'not-kept'

export interface PositionOptions {
  records: PositionRecords
  key: Uint8Array
  secure: boolean
  trouble(what: PositionTrouble, error?: unknown): void
}

const cookieName = 'rung-position'
const recordMsMax = 250

/**
 * Carries a session's position from one request to the next: in a signed cookie, and for clients that keep no cookies in a record of their
 * principal. Only sessions that have written have one. A client that only reads gets no cookie, so that caches may keep its answers.
 */
export function carryPositions(http: Http, { records, key, secure, trouble }: PositionOptions): void {
  const sign = (text: string) => createHmac('sha256', key).update(text).digest('base64url')

  http.addHook('onRequest', (request, _reply, done) => {
    const scope = currentScope()
    const { cookie: cookies, authorization } = request.headers
    // A request without cookie and authorization has no position. Most requests end here.
    if (!scope || (cookies === undefined && authorization === undefined)) return done()
    const cookie = cookies && cookieIn(cookies)
    const position = cookie && opened(cookie)
    if (position) scope.position = furthest(scope.position, position)
    else {
      if (cookie !== undefined) trouble('forged')
      // Asked for only where somebody needs it.
      scope.recall = () => recalled(request, scope)
    }
    done()
  })

  http.addHook('onSend', (request, reply, _payload, done) => {
    const scope = currentScope()
    if (!scope?.wrote || scope.position.size === 0) return done()
    keep(request, reply, scope.position).then(() => done(), done)
  })

  async function recalled(request: FastifyRequest, scope: Scope): Promise<void> {
    const principal = await principalOrNobody(request)
    if (!principal) return
    try {
      const known = await records.find(principal.id)
      if (known) scope.position = furthest(scope.position, known)
    } catch (error) {
      trouble('unknown', error)
      scope.positionUnknown = true
    }
  }

  async function keep(request: FastifyRequest, reply: FastifyReply, position: Position): Promise<void> {
    const places = Array.from(position, ([database, place]) => `${database}:${formatPlace(place)}`).join('+')
    const text = `${places}.${systemClock.now()}`
    const value = encodeURIComponent(`${text}.${sign(text)}`)
    const flags = `Path=/; Max-Age=${keptMs / 1000}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`
    reply.header('set-cookie', `${cookieName}=${value}; ${flags}`)
    const principal = await principalOrNobody(request)
    if (!principal) return
    const kept = records.put(principal.id, position).catch((error) => trouble('not-kept', error))
    await atMost(recordMsMax, kept)
  }

  function opened(value: string): Position | undefined {
    const match = /^([^.]{1,1000})\.(\d{1,16})\.([\w-]{43})$/.exec(decoded(value))
    if (!match) return undefined
    const [, places, at, mac] = match
    if (!timingSafeEqual(Buffer.from(sign(`${places}.${at}`)), Buffer.from(mac!))) return undefined
    if (systemClock.now() - Number(at) > 2 * keptMs) return new Map()
    const position = new Map<string, Place>()
    for (const text of places!.split('+')) {
      const end = text.lastIndexOf(':')
      const place = parsePlace(text.slice(end + 1))
      if (place !== undefined) position.set(text.slice(0, end), place)
    }
    return position
  }
}

function cookieIn(cookies: string): string | undefined {
  if (!cookies.includes(cookieName)) return undefined
  for (const part of cookies.split(';')) {
    const [name, value] = part.trim().split('=', 2)
    if (name === cookieName) return value
  }
  return undefined
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return ''
  }
}
