import { channel } from 'node:diagnostics_channel'
import type { FastifyInstance } from 'fastify'
import { every, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { systemRandom } from '../../kernel/random.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
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
  /** The event loop comes round this late, and normal requests are refused. Default 500 ms. */
  delayMax?: Duration
  /** So many requests are being answered, and further normal ones are refused. Default 1,000. */
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

  http.addHook('onRequest', (request, reply, done) => {
    const { system, priority = 'normal' } = request.routeOptions.config ?? {}
    if (system || isOwnRequest(request)) return done()
    // The turn that runs at this moment counts as well: in a burst many are taken in within one.
    const delayMs = Math.max(sampledMs, late(systemClock.ticks()))
    if (isShed(priority, { delayMs, inFlight }, limits)) {
      if (shed.hasSubscribers) shed.publish({ database, priority } satisfies Shed)
      return done(overloaded())
    }
    inFlight += 1
    onResponseEnd(reply.raw, () => {
      inFlight -= 1
    })
    done()
  })
}

function overloaded(): RungError {
  // Not all at the same time.
  const retryAfterS = 1 + Math.floor(systemRandom() * 3)
  const message = `The server has more to do than it can. Try again in ${retryAfterS} s.`
  return new RungError('HTTP_OVERLOADED', message, { facts: { retryAfterS } })
}
