import { RungError } from '../../kernel/errors.ts'
import { currentScope } from '../../kernel/scope.ts'

/** Bulkhead and circuit breaker of one service. */
export interface Guarded {
  run<T>(fn: () => Promise<T>): Promise<T>
}

const sampledMs = 10_000
/** Ten calls in ten seconds. Fewer say nothing about the service. */
const callsPerSecondMin = 1

/**
 * Returns cockatiel's bulkhead around its circuit breaker; the library is loaded with the first call. Calls that the bulkhead refuses and
 * requests that their own client cancelled do not count as failures of the service.
 */
export async function guard(options: {
  name: string
  concurrency: number
  failureShare: number
  restMs: number
}): Promise<Guarded> {
  const { name, concurrency, failureShare, restMs } = options
  const { BrokenCircuitError, BulkheadRejectedError, bulkhead, circuitBreaker, handleWhen, SamplingBreaker } =
    await import('cockatiel')
  const wall = bulkhead(concurrency, concurrency)
  const breaker = circuitBreaker(
    handleWhen((error) => error !== currentScope()?.cancelled),
    {
      halfOpenAfter: restMs,
      breaker: new SamplingBreaker({ threshold: failureShare, duration: sampledMs, minimumRps: callsPerSecondMin }),
    },
  )
  return {
    async run(fn) {
      try {
        return await wall.execute(() => breaker.execute(fn))
      } catch (error) {
        if (error instanceof BrokenCircuitError) {
          const message = `${name} has failed repeatedly and gets no calls for a while. Try again shortly.`
          throw new RungError('OUTGOING_OPEN', message, {
            facts: { retryAfterS: Math.max(1, Math.ceil(restMs / 1000)) },
          })
        }
        if (error instanceof BulkheadRejectedError) {
          throw new RungError('OUTGOING_FULL', `Too many calls to ${name} are in progress. Try again shortly.`, {
            facts: { retryAfterS: 1 },
          })
        }
        throw error
      }
    },
  }
}
