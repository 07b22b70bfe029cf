import { channel } from 'node:diagnostics_channel'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { every, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { systemRandom } from '../../kernel/random.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import { networkOf } from './address.ts'
import { isOwnRequest } from './own-request.ts'
import { onResponseEnd } from './response-end.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What is refused first when there is more than can be done. Default `normal`. */
    priority?: Priority
  }
}

export type Priority = 'critical' | 'normal' | 'sheddable'

/** Options of the app, with the defaults named. */
export interface SheddingOptions {
  /** Maximum delay of the event loop; beyond it normal requests are refused. Default 500 ms. */
  delayMax?: Duration
  /**
   * Maximum requests in progress; beyond it normal requests are refused. As many further ones may be waiting for their bodies, a tenth of them
   * from one network. Default 1,000.
   */
  inFlightMax?: number
}

/** A request was refused: `Shed`. */
export const shed = channel('rung:shed')

export interface Shed {
  readonly database: unknown
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

/** Shares of the limits. What can wait makes room at half of them; what matters most stays until there is twice as much. */
const tolerated: Record<Priority, number> = { sheddable: 0.5, normal: 1, critical: 2 }

/** Whether a request is refused now. Pure. */
export function isShed(priority: Priority, load: Load, limits: LoadLimits): boolean {
  const pressure = Math.max(load.delayMs / limits.delayMsMax, load.inFlight / limits.inFlightMax)
  return pressure >= tolerated[priority]
}

const sampleEveryMs = 20

/**
 * Refuses early what could only be answered late: past the knee each further request taken in makes all of them slower, until none is in time.
 * A refusal costs a fraction of an answer. After the observers, before whatever costs more.
 */
export function shedRequests(http: FastifyInstance, options: SheddingOptions, database: unknown): void {
  const limits: LoadLimits = {
    delayMsMax: toMs(options.delayMax ?? 500),
    inFlightMax: options.inFlightMax ?? 1_000,
  }
  if (!(limits.delayMsMax >= sampleEveryMs && limits.inFlightMax >= 1)) {
    throw new RungError(
      'APP_INVALID',
      `http.shedding needs a delayMax of ${sampleEveryMs} ms and an inFlightMax of 1 at least.`,
    )
  }
  let sampledAt = systemClock.ticks()
  let sampledMs = 0
  let inFlight = 0
  const bodies = receiving(limits.inFlightMax)

  const endSampling = every(sampleEveryMs, () => {
    const now = systemClock.ticks()
    sampledMs = late(now)
    sampledAt = now
  })
  http.addHook('onClose', (_instance, done) => {
    endSampling()
    done()
  })

  function late(now: number): number {
    return Math.max(0, now - sampledAt - sampleEveryMs)
  }

  function refusedNow(priority: Priority): RungError | undefined {
    // The turn that runs at this moment counts as well: in a burst many are taken in within one.
    const delayMs = Math.max(sampledMs, late(systemClock.ticks()))
    if (!isShed(priority, { delayMs, inFlight }, limits)) return undefined
    if (shed.hasSubscribers) shed.publish({ database, priority } satisfies Shed)
    return overloaded()
  }

  function begin(reply: FastifyReply): void {
    inFlight += 1
    onResponseEnd(reply.raw, () => {
      inFlight -= 1
    })
  }

  http.addHook('onRequest', (request, reply, done) => {
    const { system, priority = 'normal' } = request.routeOptions.config ?? {}
    if (system || isOwnRequest(request)) return done()
    const refused = refusedNow(priority)
    if (refused || !hasBody(request)) {
      if (!refused) begin(reply)
      return done(refused)
    }
    done(bodies.begin(request, reply))
  })

  // A request that waits for its body costs next to nothing, and its client may be slow on purpose.
  http.addHook('preValidation', (request, reply, done) => {
    if (!bodies.arrived(request)) return done()
    const refused = refusedNow(request.routeOptions.config?.priority ?? 'normal')
    if (!refused) begin(reply)
    done(refused)
  })
}

function hasBody({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** Requests whose bodies are on their way: so many in all, and a tenth of them from one network, since each may take its time. */
function receiving(max: number) {
  const ofNetworks = new Map<string, number>()
  const ends = new WeakMap<FastifyRequest, () => void>()
  const ofNetworkMax = Math.max(1, Math.floor(max / 10))
  let all = 0

  return {
    begin(request: FastifyRequest, reply: FastifyReply): RungError | undefined {
      const network = networkOf(request.ip)
      const known = ofNetworks.get(network) ?? 0
      if (all >= max) return overloaded()
      if (known >= ofNetworkMax) {
        const message = `${known} requests of this network are being sent already. Send their bodies to the end first.`
        return new RungError('HTTP_TOO_MANY_REQUESTS', message, { facts: { retryAfterS: 1 } })
      }
      all += 1
      ofNetworks.set(network, known + 1)
      const end = () => {
        if (!ends.delete(request)) return
        all -= 1
        const left = ofNetworks.get(network)! - 1
        if (left === 0) ofNetworks.delete(network)
        else ofNetworks.set(network, left)
      }
      ends.set(request, end)
      onResponseEnd(reply.raw, end)
      return undefined
    },
    /** Whether its body was waited for. */
    arrived(request: FastifyRequest): boolean {
      const end = ends.get(request)
      end?.()
      return end !== undefined
    },
  }
}

function overloaded(): RungError {
  // Not all at the same time.
  const retryAfterS = 1 + Math.floor(systemRandom() * 3)
  const message = `The server has more to do than it can. Try again in ${retryAfterS} s.`
  return new RungError('HTTP_OVERLOADED', message, { facts: { retryAfterS } })
}
