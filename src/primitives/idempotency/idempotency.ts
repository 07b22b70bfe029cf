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
import { principalOf } from '../http/principal.ts'
import { onResponseEnd } from '../http/response-end.ts'
import { type IdempotencyDone, idempotencyDone, tellMoment } from './channels.ts'
import type { Answer, Holding, Records } from './contract.ts'
import { digestOf, keptHeaders, parseKey } from './key.ts'
import { diverged, type HeldRecord, Steps, takenOver } from './steps.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route takes an `Idempotency-Key`: requests with the same key have one effect and one answer. */
    idempotency?: 'required' | 'optional'
  }
}

/** The app's options for idempotency. */
export interface IdempotencyOptions {
  /** How long an answer is kept. Default 24 h. */
  keep?: Duration
  /** How long after a process has ended its requests can be taken over. Default 5 s. */
  lease?: Duration
}

/** Statuses of answers that are not kept, since a repetition may have another answer. */
const neverKept = new Set([401, 408, 425, 429])
/** A record in a further database is kept longer than the one in the main database, also if their clocks differ. */
const keepLongerMs = 3_600_000
const unsafe = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])

/** A request that holds its key. */
interface Attempt {
  /** In the main database; its end is the end of the request. */
  holding: Holding
  /** In every database in which it has begun a write. */
  held: HeldRecord[]
  steps: Steps
  scope: Scope | undefined
  settled: boolean
}

/**
 * The IETF draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key-header), for routes that ask for it in
 * their `config`. It must be called before routes are added.
 */
export function idempotentRoutes(
  http: Http,
  recordsIn: (database: string) => Records | undefined,
  { keep = '24h', lease = '5s' }: IdempotencyOptions,
  database: Database,
): void {
  const [keepMs, leaseMs] = [toMs(keep), toMs(lease)]
  const records = recordsIn(database.name)!
  const attempts = new Set<Attempt>()
  const byRequest = new WeakMap<FastifyRequest, Attempt>()
  const payloads = new WeakMap<FastifyRequest, Hash>()

  // These hooks come after those of the route: permissions are checked before a key is reserved, and the stored bytes are those that are sent.
  http.addHook('onRoute', (route) => {
    const mode = (route.config as { idempotency?: 'required' | 'optional' } | undefined)?.idempotency
    if (mode === undefined || route.method === 'HEAD' || route.method === 'OPTIONS') return
    checkRoute(route, mode)
    append(route, 'preParsing', digestPayload)
    append(route, 'preHandler', (request: FastifyRequest, reply: FastifyReply) => reserve(request, reply, mode))
    append(route, 'onSend', keepAnswer)
    // It is passed on to the app's own handler of errors. From `onSend`, which comes behind that, Fastify would answer in a form of its own.
    route.errorHandler ??= (error, request) => {
      throw ofRepetition(request) ?? error
    }
  })

  /** An attempt that fails before a write that an earlier one has committed cannot say that nothing was done. */
  function ofRepetition(request: FastifyRequest): unknown {
    const attempt = byRequest.get(request)
    if (!attempt || attempt.settled) return undefined
    try {
      return attempt.steps.checkComplete() as undefined
    } catch (diverged) {
      return diverged
    }
  }

  async function digestPayload(request: FastifyRequest, _reply: FastifyReply, payload: NodeJS.ReadableStream) {
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
        'The request has no Idempotency-Key header. Send a new UUID for each operation, and the same one when you repeat the request.',
      )
    }
    const { method, url } = request
    const route = `${method} ${request.routeOptions.url}`
    const body = payloads.get(request)?.digest() ?? ''
    const reservation = {
      key: digestOf(await senderOf(request), route, key),
      fingerprint: digestOf(url, request.headers['content-type'] ?? '', body),
    }
    const reserved = await records.reserve({ ...reservation, leaseMs, keepMs })
    if (reserved.state === 'answered') {
      tell('replayed')
      return replay(reply, reserved.answer)
    }
    if (reserved.state !== 'held') throw refused(reserved.state)
    tell(reserved.steps.length > 0 ? 'resumed' : 'first')
    const holding = { key: reservation.key, token: reserved.token }
    const scope = currentScope()
    const held: HeldRecord[] = [{ records, holding, steps: reserved.steps }]
    const steps = new Steps(database.name, held[0]!, async (other) => {
      const further = recordsIn(other)
      if (!further) throw diverged(`an earlier attempt wrote in the database "${other}", which the app no longer has`)
      if (!reserved.databases.includes(other) && !(await records.note(holding, other))) throw takenOver()
      const there = { key: digestOf(reservation.key, reserved.life), token: reserved.token }
      const { fingerprint } = reservation
      const committed = await further.reserveUnder(there, { fingerprint, leaseMs, keepMs: keepMs + keepLongerMs })
      if (!committed) throw takenOver()
      const one = { records: further, holding: there, steps: committed }
      held.push(one)
      return one
    })
    const attempt = { holding, held, steps, scope, settled: false }
    if (scope) {
      ruleWrites(scope, attempt.steps)
      scope.repeatable = true
    }
    byRequest.set(request, attempt)
    attempts.add(attempt)
    onResponseEnd(reply.raw, () => attempts.delete(attempt))
    await Promise.all(reserved.databases.map((other) => steps.heldIn(other)))
    tellMoment('reserved', holding)
    return undefined
  }

  function refused(state: 'other-payload' | 'in-flight'): RungError {
    tell(state)
    if (state === 'other-payload') {
      return new RungError(
        'IDEMPOTENCY_PAYLOAD',
        'This Idempotency-Key was used for another request. Create a new key for each operation.',
      )
    }
    return new RungError(
      'IDEMPOTENCY_IN_FLIGHT',
      'The first request with this Idempotency-Key is still running. Send it again for the answer.',
      { facts: { retryAfterS: 1 } },
    )
  }

  async function keepAnswer(request: FastifyRequest, reply: FastifyReply, payload: unknown): Promise<unknown> {
    const attempt = byRequest.get(request)
    if (!attempt || attempt.settled) return payload
    attempt.settled = true // the answer to an error from here on is not kept
    attempts.delete(attempt)
    const status = reply.statusCode
    if (status >= 500 || neverKept.has(status) || attempt.steps.refused || attempt.scope?.cancelled) {
      await release(attempt)
      return payload
    }
    try {
      const body = toBody(payload, request)
      attempt.steps.checkComplete()
      tellMoment('before-finish', attempt.holding)
      const kept = await records.finish(attempt.holding, { status, headers: keptHeaders(reply.getHeaders()), body })
      if (!kept) {
        tell('lost')
        throw takenOver()
      }
      tellMoment('finished', attempt.holding)
      return payload
    } catch (error) {
      await release(attempt)
      clearHeaders(reply)
      throw error
    }
  }

  /** Never rejects, because an answer is being sent. A record that cannot be reached is free when its lease ends. */
  async function release({ holding }: Attempt): Promise<void> {
    await records.release(holding).catch(failed) // its token decides in the other databases
  }

  const endExtending = every(leaseMs / 3, () => {
    // Nobody waits for a cancelled request, so its lease may end.
    const held = [...attempts].filter(({ scope }) => !scope?.cancelled).flatMap((attempt) => attempt.held)
    for (const [records, those] of Map.groupBy(held, (one) => one.records)) {
      records
        .extend(
          those.map(({ holding }) => holding),
          leaseMs,
        )
        .catch(failed)
    }
  })
  http.addHook('onClose', (_instance, done) => {
    endExtending()
    done()
  })

  function failed(error: unknown): void {
    tell('upkeep-failed', error)
  }

  function tell(outcome: IdempotencyDone['outcome'], error?: unknown): void {
    if (idempotencyDone.hasSubscribers) idempotencyDone.publish({ database, outcome, error } satisfies IdempotencyDone)
  }
}

/**
 * Returns a digest of the sender, since keys belong to a sender: its principal, otherwise its `Authorization`. Cookies and addresses do not
 * count, because they may change between two attempts, and the second would have another effect.
 */
async function senderOf(request: FastifyRequest): Promise<Buffer> {
  const principal = await principalOf(request) // throws if it is unknown, since the key would count as another sender's
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
    `${request.method} ${request.routeOptions.url} streams its answer, which cannot be stored. Answer with a value, or remove config.idempotency.`,
  )
}

/** Removes the headers of an answer that is not sent. */
function clearHeaders(reply: FastifyReply): void {
  for (const name of Object.keys(keptHeaders(reply.getHeaders()))) reply.removeHeader(name)
}

function checkRoute({ method, url }: RouteOptions, mode: string): void {
  const wrong = [method].flat().find((name) => !unsafe.has(name.toUpperCase()))
  if (mode !== 'required' && mode !== 'optional') {
    throw new RungError('APP_INVALID', `${method} ${url}: config.idempotency must be 'required' or 'optional'.`)
  }
  if (wrong !== undefined) {
    throw new RungError(
      'APP_INVALID',
      `${wrong} ${url} changes nothing and needs no idempotency. Remove config.idempotency.`,
    )
  }
}

// biome-ignore lint/suspicious/noExplicitAny: hooks of different signatures, all lists
function append(route: any, name: 'preParsing' | 'preHandler' | 'onSend', hook: unknown): void {
  route[name] = [...[route[name] ?? []].flat(), hook]
}
