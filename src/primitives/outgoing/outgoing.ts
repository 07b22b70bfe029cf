import { channel } from 'node:diagnostics_channel'
import { after, sleep, systemClock } from '../../kernel/clock.ts'
import { causesOf, isRungError, messageOf, partOf, RungError } from '../../kernel/errors.ts'
import { backoffMs } from '../../kernel/random.ts'
import { currentScope } from '../../kernel/scope.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import { type Guarded, guard } from './guard.ts'

/** Options of one outside service. */
export interface OutgoingOptions {
  /** Time limit of one attempt, which never exceeds the request's own. Default 5 s. */
  timeout?: Duration
  /** Calls at a time. As many more may wait. Default 50. */
  concurrency?: number
  /** Further attempts of an idempotent call. Default 2. */
  retries?: number
  /** Share of all calls that may be tried again; ten more may be at the beginning. Default 0.1. */
  retryBudget?: number
  /** Share of failed calls over 10 s, of at least ten calls, at which calls stop for `rest`. Between 0 and 1, default 0.5. */
  failureThreshold?: number
  /** How long a failing service gets no calls. After that, one call tests it. Default 5 s. */
  rest?: Duration
}

export interface CallOptions {
  /** Whether the call may be made twice. Only then it is tried again. */
  idempotent?: boolean
}

/** Protects calls to one outside service. Create one for each service, for the life of the process. */
export interface Outgoing {
  /**
   * Runs `fn`. Its `signal` aborts at the deadline and when the request is cancelled.
   * @throws OUTGOING_FAILED if the service cannot be reached, OUTGOING_TIMEOUT, OUTGOING_OPEN, OUTGOING_FULL, and other errors of `fn`
   */
  call<T>(fn: (signal: AbortSignal) => PromiseLike<T> | T, options?: CallOptions): Promise<T>
  /** Calls `fetch`. GET, HEAD, OPTIONS, PUT and DELETE are idempotent. Returns the answer of the last attempt, also a 5xx. */
  fetch(url: string | URL, init?: RequestInit): Promise<Response>
}

/** Tells that an attempt has ended or was refused: `OutgoingDone`. */
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
 * Returns protected calls to one outside service: a deadline, a bulkhead, a circuit breaker, and retries at this one layer under a budget,
 * so that retries do not keep a failing service down.
 * @throws APP_INVALID
 * @example
 * const bank = outgoing('bank', { timeout: '2s' })
 * const answer = await bank.fetch('https://bank.example.com/rates')
 */
export function outgoing(name: string, options: OutgoingOptions = {}): Outgoing {
  const timeoutMs = toMs(options.timeout ?? '5s')
  const retries = options.retries ?? 2
  const share = options.retryBudget ?? 0.1
  const concurrency = options.concurrency ?? 50
  const failureShare = options.failureThreshold ?? 0.5
  if (!(concurrency >= 1 && retries >= 0 && share >= 0 && share <= 1 && failureShare > 0 && failureShare < 1)) {
    throw new RungError('APP_INVALID', `outgoing("${name}") has an option outside its range.`)
  }
  const restMs = toMs(options.rest ?? '5s')
  let guarded: Promise<Guarded> | undefined
  let budget = budgetMax

  /** Makes one attempt within its time limit, also if `fn` ignores the signal. */
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
        control.signal.throwIfAborted() // it may have waited too long for its turn
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
          if (response.status >= 500 || response.status === 429) throw new FailedResponse(response)
          return response
        }
        // A stream cannot be sent again.
        const idempotent = idempotentMethods.has(method) && !(init.body instanceof ReadableStream)
        return await call(once, { idempotent })
      } catch (error) {
        if (error instanceof FailedResponse) return error.response
        throw error
      }
    },
  }
}

/** An answer that counts as a failure. */
class FailedResponse extends Error {
  readonly response: Response

  constructor(response: Response) {
    super(`answered ${response.status}`)
    this.response = response
  }
}

function late(name: string, ms: number): RungError {
  const message = `${name} did not answer within ${Math.max(0, Math.round(ms))} ms. It is not known whether the call took effect.`
  return new RungError('OUTGOING_TIMEOUT', message)
}

/** Codes of the system and of TLS, besides the errors of `fetch`. */
const networkCodes =
  /^(ECONN(REFUSED|RESET|ABORTED)|ENOTFOUND|EAI_AGAIN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|UND_ERR_\w+|ERR_TLS_\w+|\w*CERT\w*)$/

/** Returns an error that names the service if it could not be reached. Other errors are left to the app. */
function failure(name: string, error: unknown): unknown {
  if (isRungError(error)) return error
  const causes = [...causesOf(error)]
  const found = causes.find((cause) => networkCodes.test(String(partOf(cause, 'code'))))
  const isOfFetch = causes[0] instanceof TypeError && /^(fetch failed|terminated)$/.test(causes[0].message)
  if (!found && !isOfFetch) return error
  const reason = found ? found.message || partOf(found, 'code') : messageOf(causes.at(-1))
  return new RungError(
    'OUTGOING_FAILED',
    `The call to ${name} failed: ${reason}. Check that it runs and can be reached.`,
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
