import { channel } from 'node:diagnostics_channel'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { every, machineTime } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { systemRandom } from '../../kernel/random.ts'
import { currentScope, runInScope, type Scope } from '../../kernel/scope.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import { networkOf } from './address.ts'
import { isOwnRequest } from './own-request.ts'
import { onResponseEnd } from './response-end.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Under overload, routes of lower priority are refused first. Default `normal`. */
    priority?: Priority
  }
}

export type Priority = 'critical' | 'normal' | 'sheddable'

export interface SheddingOptions {
  /** Event-loop delay from which on normal requests are refused. Default 500 ms. */
  delayMax?: Duration
  /**
   * Requests in progress from which on normal requests are refused. As many more may be sending their bodies, a tenth of them from one
   * network. Default 1,000.
   */
  inFlightMax?: number
}

/** A request was refused: `Shed`. */
export const shed = channel('rung:shed')

export interface Shed {
  readonly database: unknown
  readonly request: FastifyRequest
  readonly priority: Priority
}

export interface Load {
  delayMs: number
  inFlight: number
}

export interface LoadLimits {
  delayMsMax: number
  inFlightMax: number
}

/** Shares of the limits at which each priority is refused. */
const refusedFrom: Readonly<Record<Priority, number>> = { sheddable: 0.5, normal: 1, critical: 2 }

/** Returns whether a request is refused under this load. Pure. */
export function isShed(priority: Priority, load: Load, limits: LoadLimits): boolean {
  const pressure = Math.max(load.delayMs / limits.delayMsMax, load.inFlight / limits.inFlightMax)
  return pressure >= refusedFrom[priority]
}

const sampleEveryMs = 20

/** @throws APP_INVALID */
export function loadLimits({ delayMax = 500, inFlightMax = 1_000 }: SheddingOptions): LoadLimits {
  const delayMsMax = toMs(delayMax)
  if (delayMsMax >= sampleEveryMs && inFlightMax >= 1) return { delayMsMax, inFlightMax }
  const message = `http.shedding needs a delayMax of at least ${sampleEveryMs} ms and an inFlightMax of at least 1.`
  throw new RungError('APP_INVALID', message)
}

/**
 * Refuses early what could only be answered late. Past the knee, each further accepted request makes all of them slower, until none is in
 * time; a refusal costs a fraction of an answer. Call it after the observers' hooks, and before hooks that cost more.
 * @throws APP_INVALID
 */
export function shedRequests(http: FastifyInstance, options: SheddingOptions, database: unknown): void {
  const limits = loadLimits(options)
  let sampledAt = machineTime.ticks()
  let sampledMs = 0
  let inFlight = 0
  const bodies = bodiesInTransit(limits.inFlightMax, refuse)

  const endSampling = every(sampleEveryMs, () => {
    sampledMs = delayNow()
    sampledAt = machineTime.ticks()
  })
  http.addHook('onClose', async () => endSampling())

  function delayNow(): number {
    return Math.max(0, machineTime.ticks() - sampledAt - sampleEveryMs)
  }

  const priorityOf = ({ routeOptions }: FastifyRequest) => routeOptions.config?.priority ?? 'normal'

  function refuse(request: FastifyRequest): RungError {
    if (shed.hasSubscribers) shed.publish({ database, request, priority: priorityOf(request) } satisfies Shed)
    return overloaded()
  }

  /** Returns an error if a request is to be refused now. */
  function refusal(request: FastifyRequest): RungError | undefined {
    // Includes the delay of the turn that runs now: in a burst, many requests are accepted within one turn.
    const load = { delayMs: Math.max(sampledMs, delayNow()), inFlight }
    return isShed(priorityOf(request), load, limits) ? refuse(request) : undefined
  }

  function begin(reply: FastifyReply): void {
    inFlight += 1
    onResponseEnd(reply.raw, () => {
      inFlight -= 1
    })
  }

  http.addHook('onRequest', (request, reply, done) => {
    if (request.routeOptions.config?.system || isOwnRequest(request)) return done()
    const refused = refusal(request)
    if (refused) return done(refused)
    if (hasBody(request)) return done(bodies.begin(request, reply))
    begin(reply)
    done()
  })

  // Until its body has arrived, a request costs next to nothing, and its client may be slow on purpose.
  http.addHook('preValidation', (request, reply, done) => {
    if (!bodies.end(request)) return done()
    const refused = refusal(request)
    if (!refused) begin(reply)
    done(refused)
  })
}

function hasBody({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** A body that has arrived at less than this, from `judgedAfterMs` on, is slow on purpose or of a client that is better off elsewhere. */
const slowBytesPerS = 1_024
const judgedAfterMs = 250

/** A request whose body is arriving. */
interface Sending {
  network: string
  reply: FastifyReply
  scope: Scope | undefined
  startedAt: number
  bytesBefore: number
}

/**
 * Counts requests whose bodies are arriving: at most `max`, and a tenth of them from one network, since each may take its time. If there are
 * `max` of them, the oldest of those that hardly arrive is refused for the one that comes: otherwise so many slow clients would keep all
 * others from sending anything.
 */
function bodiesInTransit(max: number, refuse: (request: FastifyRequest) => RungError) {
  const byNetwork = new Map<string, number>()
  /** The oldest first. */
  const sending = new Map<FastifyRequest, Sending>()
  const ofNetworkMax = Math.max(1, Math.floor(max / 10))

  function end(request: FastifyRequest): boolean {
    const one = sending.get(request)
    if (!one) return false
    sending.delete(request)
    const left = byNetwork.get(one.network)! - 1
    if (left === 0) byNetwork.delete(one.network)
    else byNetwork.set(one.network, left)
    return true
  }

  function refuseSlow(): boolean {
    const now = machineTime.ticks()
    for (const [request, { reply, scope, startedAt, bytesBefore }] of sending) {
      const ageMs = now - startedAt
      if (ageMs < judgedAfterMs) return false // so are all others
      if (request.raw.socket.bytesRead - bytesBefore > (slowBytesPerS * ageMs) / 1_000) continue
      end(request)
      const answer = () => void reply.send(refuse(request))
      if (scope) runInScope(scope, answer)
      else answer()
      return true
    }
    return false
  }

  return {
    begin(request: FastifyRequest, reply: FastifyReply): RungError | undefined {
      const network = networkOf(request.ip)
      const known = byNetwork.get(network) ?? 0
      if (known >= ofNetworkMax) {
        const message = `Your network is already sending ${known} requests. Finish sending their bodies first.`
        return new RungError('HTTP_TOO_MANY_REQUESTS', message, { facts: { retryAfterS: 1 } })
      }
      if (sending.size >= max && !refuseSlow()) return refuse(request)
      byNetwork.set(network, (byNetwork.get(network) ?? 0) + 1)
      const bytesBefore = request.raw.socket.bytesRead
      sending.set(request, { network, reply, scope: currentScope(), startedAt: machineTime.ticks(), bytesBefore })
      onResponseEnd(reply.raw, () => void end(request))
      return undefined
    },
    /** Returns whether the request's body was arriving until now. */
    end,
  }
}

function overloaded(): RungError {
  // Spread, so that clients do not all return at the same time.
  const retryAfterS = 1 + Math.floor(systemRandom() * 3)
  const message = `The server is overloaded. Try again in ${retryAfterS} s.`
  return new RungError('HTTP_OVERLOADED', message, { facts: { retryAfterS } })
}
