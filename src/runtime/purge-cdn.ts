import type { CdnPurges } from '../primitives/cache/cdn.ts'
import { edgeTag } from '../primitives/cache/edge.ts'
import type { NewItem } from '../primitives/jobs/items.ts'
import { currentContext } from '../primitives/jobs/jobs.ts'
import type { Line } from '../primitives/jobs/worker.ts'

const name = 'rung.purge-cdn'
/**
 * Not at once: by the first time every process has heard of the invalidation, and makes no old page any more. By the second, every
 * answer that began before it has ended: one that was slow may have reached the CDN after the first purge.
 */
const afterMs = [300, 35_000]
/** They only wait for each other: one call is for many. */
const concurrency = 1_000
/** With the backoff below some eight hours. Then they are dead letters, and `rung jobs retry --dead` does them. */
const attemptsMax = 100

/** What rides a commit with invalidations: the purges of the CDN, as jobs. */
export function purgeItems(names: readonly string[]): NewItem[] {
  const payload = JSON.stringify({ tags: names.map(edgeTag) })
  return afterMs.map((delayMs) => ({
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

/** Who does them. */
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
