import { channel } from 'node:diagnostics_channel'
import { after, sleep, systemClock } from '../../kernel/clock.ts'
import { causesOf, isRungError, messageOf, partOf, RungError } from '../../kernel/errors.ts'
import { backoffMs } from '../../kernel/random.ts'
import { currentScope } from '../../kernel/scope.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import { type Guarded, guard } from './guard.ts'

/** Options of one service that is called, with the defaults named. */
export interface OutgoingOptions {
  /** Of one try, and never beyond what the request itself has left. Default 5 s. */
  timeout?: Duration
  /** Calls at a time; as many again may wait. Default 50. */
  concurrency?: number
  /** Further tries of an idempotent call. Default 2. */
  retries?: number
  /** Tries may be repeated for this share of all calls, and for ten of them at the beginning. Default 0.1. */
  retryBudget?: number
  /** So many of ten failed over 10 s (and at least ten were made): no call for 5 s, then one that tells. 1 to 9, default 5. */
  breakAtFailuresOfTen?: number
  /** How long a service that fails is left alone. Default 5 s. */
  rest?: Duration
}

export interface CallOptions {
  /** It may be made twice: only then it is tried again. */
  idempotent?: boolean
}

/** A service of somebody else, as it is called with care. One for each service, for the life of the process. */
export interface Outgoing {
  /**
   * Runs `fn`; its `signal` aborts at the deadline and when the request is cancelled.
   * @throws OUTGOING_FAILED where the service cannot be reached, OUTGOING_TIMEOUT, OUTGOING_OPEN, OUTGOING_FULL, and whatever else `fn` throws
   */
  call<T>(fn: (signal: AbortSignal) => PromiseLike<T> | T, options?: CallOptions): Promise<T>
  /** `fetch`; GET, HEAD, OPTIONS, PUT and DELETE are idempotent. A last answer of 5xx is given as it is. */
  fetch(url: string | URL, init?: RequestInit): Promise<Response>
}

/** An attempt has ended, or was not made: `OutgoingDone`. */
export const outgoingDone = channel('rung:outgoing')

export interface OutgoingDone {
  readonly name: string
  readonly outcome: 'ok' | 'failed' | 'timeout' | 'open' | 'full' | 'cancelled'
  readonly attempt: number
  readonly durationMs: number
}

const idempotentMethods = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])
const backoffBaseMs = 50
const backoffMaxMs = 1_000
const budgetMax = 10

/**
 * One helper for all that leaves the process: deadline, bulkhead, circuit breaker, and retries at this one layer under a budget. A
 * service that fails is tried again by few, so that retries do not keep it down.
 */
export function outgoing(name: string, options: OutgoingOptions = {}): Outgoing {
  const timeoutMs = toMs(options.timeout ?? '5s')
  const retries = options.retries ?? 2
  const share = options.retryBudget ?? 0.1
  const concurrency = options.concurrency ?? 50
  const failureShare = (options.breakAtFailuresOfTen ?? 5) / 10
  if (!(concurrency >= 1 && retries >= 0 && share >= 0 && share <= 1 && failureShare > 0 && failureShare < 1)) {
    throw new RungError('APP_INVALID', `outgoing("${name}") has an option outside its range.`)
  }
  const restMs = toMs(options.rest ?? '5s')
  let guarded: Promise<Guarded> | undefined
  let budget = budgetMax

  /** One try within its time. The guard sees how it ended; the caller waits no longer than its time. */
  async function attempt<T>(fn: (signal: AbortSignal) => PromiseLike<T> | T, n: number): Promise<T> {
    const scope = currentScope()
    const start = systemClock.ticks()
    const leftMs = Math.min(timeoutMs, (scope?.deadlineAt ?? Number.POSITIVE_INFINITY) - start)
    const control = new AbortController()
    const { promise: ended, reject } = Promise.withResolvers<never>()
    const end = (error: Error) => {
      control.abort(error)
      reject(error)
    }
    ended.catch(() => {})
    const forgetTimer = after(Math.max(0, leftMs), () => end(late(name, leftMs)))
    const forgetScope = scope?.onCancel(end)
    let outcome: OutgoingDone['outcome'] = 'ok'
    try {
      if (scope?.cancelled) throw scope.cancelled
      if (leftMs <= 0) throw late(name, leftMs)
      guarded ??= guard({ name, concurrency, failureShare, restMs })
      const { run } = await guarded
      const running = run(() => {
        control.signal.throwIfAborted() // it waited for its turn too long
        return Promise.race([Promise.resolve(fn(control.signal)), ended])
      })
      return await Promise.race([running, ended])
    } catch (error) {
      outcome = outcomeOf(error, scope?.cancelled)
      throw error
    } finally {
      forgetTimer()
      forgetScope?.()
      if (outgoingDone.hasSubscribers) {
        outgoingDone.publish({
          name,
          outcome,
          attempt: n,
          durationMs: systemClock.ticks() - start,
        } satisfies OutgoingDone)
      }
    }
  }

  async function call<T>(
    fn: (signal: AbortSignal) => PromiseLike<T> | T,
    { idempotent = false }: CallOptions = {},
  ): Promise<T> {
    budget = Math.min(budgetMax, budget + share)
    for (let n = 1; ; n += 1) {
      try {
        return await attempt(fn, n)
      } catch (error) {
        const scope = currentScope()
        if (!idempotent || n > retries || budget < 1 || scope?.cancelled) throw failure(name, error)
        if (isRungError(error, 'OUTGOING_OPEN') || isRungError(error, 'OUTGOING_FULL')) throw error
        const pauseMs = backoffMs(n - 1, backoffBaseMs, backoffMaxMs)
        if (systemClock.ticks() + pauseMs >= (scope?.deadlineAt ?? Number.POSITIVE_INFINITY)) throw failure(name, error)
        budget -= 1
        await sleep(pauseMs, scope?.signal)
      }
    }
  }

  return {
    call,
    async fetch(url, init = {}) {
      const method = (init.method ?? 'GET').toUpperCase()
      try {
        const once = async (signal: AbortSignal) => {
          const own = init.signal ? AbortSignal.any([signal, init.signal]) : signal
          const response = await fetch(url, { ...init, signal: own })
          if (response.status >= 500 || response.status === 429) throw new Unwell(response)
          return response
        }
        // A body that was read cannot be sent again.
        const idempotent = idempotentMethods.has(method) && !(init.body instanceof ReadableStream)
        return await call(once, { idempotent })
      } catch (error) {
        if (error instanceof Unwell) return error.response
        throw error
      }
    },
  }
}

/** An answer that counts as a failure. */
class Unwell extends Error {
  readonly response: Response

  constructor(response: Response) {
    super(`answered ${response.status}`)
    this.response = response
  }
}

function late(name: string, ms: number): RungError {
  const message = `${name} did not answer within ${Math.max(0, Math.round(ms))} ms. Whether it did what it was asked is not known.`
  return new RungError('OUTGOING_TIMEOUT', message)
}

/** Of the system and of TLS, beside the errors of `fetch`. */
const networkCodes =
  /^(ECONN(REFUSED|RESET|ABORTED)|ENOTFOUND|EAI_AGAIN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|UND_ERR_\w+|ERR_TLS_\w+|\w*CERT\w*)$/

/** Where the service could not be reached, an error that names it. What it refused is left to the app. */
function failure(name: string, error: unknown): unknown {
  if (isRungError(error)) return error
  const causes = [...causesOf(error)]
  const found = causes.find((cause) => networkCodes.test(String(partOf(cause, 'code'))))
  const isOfFetch = causes[0] instanceof TypeError && /^(fetch failed|terminated)$/.test(causes[0].message)
  if (!found && !isOfFetch) return error
  const why = found ? found.message || partOf(found, 'code') : messageOf(causes.at(-1))
  return new RungError(
    'OUTGOING_FAILED',
    `The call to ${name} failed: ${why}. Check that it runs and can be reached.`,
    {
      cause: error,
    },
  )
}

function outcomeOf(error: unknown, cancelled: Error | undefined): OutgoingDone['outcome'] {
  if (error === cancelled) return 'cancelled'
  if (isRungError(error, 'OUTGOING_OPEN')) return 'open'
  if (isRungError(error, 'OUTGOING_FULL')) return 'full'
  return isRungError(error, 'OUTGOING_TIMEOUT') || /aborted/.test(messageOf(error)) ? 'timeout' : 'failed'
}
