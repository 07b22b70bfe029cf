import type { CdnPurges } from '../primitives/cache/cdn.ts'
import { edgeTag } from '../primitives/cache/edge.ts'
import type { NewItem } from '../primitives/jobs/items.ts'
import { currentContext } from '../primitives/jobs/jobs.ts'
import type { Line } from '../primitives/jobs/worker.ts'

const name = 'rung.purge-cdn'
/** By then every process has heard of the invalidation, and makes no old page any more. */
const heardAfterMs = 300
/** Beyond the time that a request may take. */
const marginMs = 5_000
/** One call purges for many jobs, which only wait for each other. */
const concurrency = 1_000
/** With the backoff below some eight hours. Then they are dead letters, and `rung jobs retry --dead` does them. */
const attemptsMax = 100

/**
 * Jobs that ride a commit with its invalidations and purge the CDN, twice: an answer that began before the commit and was slow
 * may reach the CDN after the first purge, but not after the second.
 * @param requestTimeoutMs how long a request of the app may take
 */
export function purgeItems(names: readonly string[], requestTimeoutMs: number): NewItem[] {
  const payload = JSON.stringify({ tags: names.map(edgeTag) })
  return [heardAfterMs, requestTimeoutMs + marginMs].map((delayMs) => ({
    queue: name,
    name,
    payload,
    priority: 0,
    delayMs,
    attemptsMax,
    keep: false,
    context: currentContext(),
    ref: {},
  }))
}

/** The line of jobs that purge. */
export function purgeLine(purges: CdnPurges): Line {
  const handler = {
    kind: 'job' as const,
    timeoutMs: 60_000,
    backoffBaseMs: 1_000,
    backoffMaxMs: 300_000,
    handle: ({ payload }: { payload: unknown }) => purges.purge((payload as { tags: string[] }).tags),
  }
  return { queue: name, concurrency, ordered: false, handlers: new Map([[name, handler]]) }
}
