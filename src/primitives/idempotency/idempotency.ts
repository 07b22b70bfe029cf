import { createHash, type Hash } from 'node:crypto'
import { Transform } from 'node:stream'
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { every } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { currentScope, type Scope } from '../../kernel/scope.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import type { Database } from '../data/contract.ts'
import { ruleWrites } from '../data/rides.ts'
import type { Http } from '../http/contract.ts'
import { documentHeader } from '../http/openapi.ts'
import { principalOf } from '../http/principal.ts'
import { onResponseEnd } from '../http/response-end.ts'
import { type IdempotencyDone, idempotencyDone, tellMoment } from './channels.ts'
import type { Answer, Held, Records } from './contract.ts'
import { digestOf, keptHeaders, parseKey } from './key.ts'
import { handedOn, Steps } from './steps.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route takes an `Idempotency-Key`: the same key has one effect and one answer. */
    idempotency?: 'required' | 'optional'
  }
}

/** Options of the app, with the defaults named. */
export interface IdempotencyOptions {
  /** An answer is given again for so long. Default 24 h. */
  keep?: Duration
  /** After a process was killed, its requests can be taken over after so long. Default 5 s. */
  lease?: Duration
}

/** Made again by the key's next sender, or not about this request at all: never kept. */
const passing = new Set([401, 408, 425, 429])
const unsafe = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])
const pruneEveryMs = 60_000
/** In one statement: short enough to be in nobody's way. */
const pruneMax = 1_000

/** One request that has its key to itself. */
interface Trying {
  held: Held
  steps: Steps
  scope: Scope | undefined
  settled: boolean
}

/**
 * The IETF draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key-header), for routes that ask for it in
 * their `config`. Before the routes.
 */
export function idempotentRoutes(
  http: Http,
  records: Records,
  { keep = '24h', lease = '5s' }: IdempotencyOptions,
  database: Database,
): void {
  const [keepMs, leaseMs] = [toMs(keep), toMs(lease)]
  const trying = new Set<Trying>()
  const byRequest = new WeakMap<FastifyRequest, Trying>()
  const payloads = new WeakMap<FastifyRequest, Hash>()

  // Hooks go behind those of the route: who may do this at all is settled before a key is taken, and bytes are those that leave.
  http.addHook('onRoute', (route) => {
    const mode = (route.config as { idempotency?: 'required' | 'optional' } | undefined)?.idempotency
    if (mode === undefined || route.method === 'HEAD' || route.method === 'OPTIONS') return
    checkRoute(route, mode)
    append(route, 'preParsing', takeDigest)
    append(route, 'preHandler', (request: FastifyRequest, reply: FastifyReply) => reserve(request, reply, mode))
    append(route, 'onSend', keepAnswer)
    documentHeader(route, 'Idempotency-Key', {
      description:
        'A new UUID for each thing to be done, the same one when it is tried again: it is done once, and answered the same.',
      required: mode === 'required',
    })
  })

  async function takeDigest(request: FastifyRequest, _reply: FastifyReply, payload: NodeJS.ReadableStream) {
    const hash = createHash('sha256')
    payloads.set(request, hash)
    const through = new Transform({
      transform(chunk, _encoding, done) {
        hash.update(chunk)
        done(null, chunk)
      },
    })
    payload.once('error', (error) => through.destroy(error))
    return payload.pipe(through)
  }

  async function reserve(
    request: FastifyRequest,
    reply: FastifyReply,
    mode: string,
  ): Promise<FastifyReply | undefined> {
    const key = parseKey(request.headers['idempotency-key'])
    if (key === undefined) {
      if (mode === 'optional') return undefined
      throw new RungError(
        'IDEMPOTENCY_KEY_MISSING',
        'This needs an Idempotency-Key header: a new UUID for each thing to be done, the same one when it is tried again.',
      )
    }
    const { method, url } = request
    const route = `${method} ${request.routeOptions.url}`
    const body = payloads.get(request)?.digest() ?? ''
    const ask = {
      key: digestOf(await whoseKey(request), route, key),
      fingerprint: digestOf(url, request.headers['content-type'] ?? '', body),
    }
    const reserved = await records.reserve({ ...ask, leaseMs, keepMs })
    if (reserved.state === 'other-payload') {
      tell('other-payload')
      throw new RungError(
        'IDEMPOTENCY_PAYLOAD',
        'This Idempotency-Key was used for another request. Make a new key for each thing to be done.',
      )
    }
    if (reserved.state === 'in-flight') {
      tell('in-flight')
      throw new RungError(
        'IDEMPOTENCY_IN_FLIGHT',
        'The first request with this Idempotency-Key is still running. Ask again for its answer.',
        { facts: { retryAfterS: 1 } },
      )
    }
    if (reserved.state === 'answered') {
      tell('replayed')
      return replay(reply, reserved.answer)
    }
    tell(reserved.steps.length > 0 ? 'resumed' : 'first')
    const held = { key: ask.key, token: reserved.token }
    const scope = currentScope()
    const one = { held, steps: new Steps(records, held, reserved.steps), scope, settled: false }
    if (scope) {
      ruleWrites(scope, one.steps)
      scope.repeatable = true
    }
    byRequest.set(request, one)
    trying.add(one)
    onResponseEnd(reply.raw, () => trying.delete(one))
    tellMoment('reserved', held)
    return undefined
  }

  async function keepAnswer(request: FastifyRequest, reply: FastifyReply, payload: unknown): Promise<unknown> {
    const one = byRequest.get(request)
    if (!one || one.settled) return payload
    one.settled = true // an error from here on is answered without being kept
    trying.delete(one)
    const status = reply.statusCode
    if (status >= 500 || passing.has(status) || one.scope?.cancelled) {
      await release(one.held)
      return payload
    }
    try {
      const body = toBody(payload, request)
      one.steps.checkComplete()
      tellMoment('before-finish', one.held)
      const kept = await records.finish(one.held, { status, headers: keptHeaders(reply.getHeaders()), body })
      if (!kept) {
        tell('lost')
        throw handedOn()
      }
      tellMoment('finished', one.held)
      return payload
    } catch (error) {
      await release(one.held)
      clearHeaders(reply)
      throw error
    }
  }

  /** Never fails, since an answer is on its way: where the record cannot be reached, its lease ends by itself. */
  async function release(held: Held): Promise<void> {
    await records.release(held).catch(failed)
  }

  const ends = [
    // A request that was cancelled has nobody waiting for it: its lease just ends.
    every(leaseMs / 3, () => {
      const held = [...trying].filter(({ scope }) => !scope?.cancelled).map((one) => one.held)
      if (held.length > 0) records.extend(held, leaseMs).catch(failed)
    }),
    every(pruneEveryMs, () => void prune().catch(failed)),
  ]
  http.addHook('onClose', (_instance, done) => {
    for (const end of ends) end()
    done()
  })

  async function prune(): Promise<void> {
    while ((await records.prune(pruneMax)) === pruneMax);
  }

  function failed(error: unknown): void {
    tell('upkeep-failed', error)
  }

  function tell(outcome: IdempotencyDone['outcome'], error?: unknown): void {
    if (idempotencyDone.hasSubscribers) idempotencyDone.publish({ database, outcome, error } satisfies IdempotencyDone)
  }
}

/**
 * Keys are each sender's own. Senders whom the app knows are told apart by who they are; the others only by their `Authorization`. Not by
 * cookies or addresses: those change by themselves between two tries, and the second try would be done again.
 */
async function whoseKey(request: FastifyRequest): Promise<Buffer> {
  const principal = await principalOf(request) // taken for nobody once, it would be done again the next time
  return principal ? digestOf('principal', principal.id) : digestOf('anonymous', request.headers.authorization ?? '')
}

function replay(reply: FastifyReply, { status, headers, body }: Answer): FastifyReply {
  reply
    .status(status)
    .headers(headers as Record<string, string>)
    .header('idempotency-replayed', 'true')
  return body === null ? reply.send() : reply.send(Buffer.from(body))
}

function toBody(payload: unknown, request: FastifyRequest): Uint8Array | null {
  if (payload === undefined || payload === null) return null
  if (typeof payload === 'string') return Buffer.from(payload)
  if (payload instanceof Uint8Array) return payload
  if (typeof (payload as { destroy?: unknown }).destroy === 'function') (payload as { destroy(): void }).destroy()
  throw new RungError(
    'IDEMPOTENCY_STREAM',
    `${request.method} ${request.routeOptions.url} streams its answer, which cannot be given again. Answer with a value, or take idempotency off the route.`,
  )
}

/** Those of the answer that is not sent. */
function clearHeaders(reply: FastifyReply): void {
  for (const name of Object.keys(keptHeaders(reply.getHeaders()))) reply.removeHeader(name)
}

function checkRoute({ method, url }: RouteOptions, mode: string): void {
  const wrong = [method].flat().find((name) => !unsafe.has(name.toUpperCase()))
  if (mode !== 'required' && mode !== 'optional') {
    throw new RungError('APP_INVALID', `${method} ${url}: config.idempotency must be 'required' or 'optional'.`)
  }
  if (wrong !== undefined) {
    throw new RungError('APP_INVALID', `${wrong} ${url} changes nothing and needs no idempotency; take it off.`)
  }
}

// biome-ignore lint/suspicious/noExplicitAny: hooks of different signatures, all lists
function append(route: any, name: 'preParsing' | 'preHandler' | 'onSend', hook: unknown): void {
  route[name] = [...[route[name] ?? []].flat(), hook]
}
