import { systemClock } from '../kernel/clock.ts'
import { withOwnConnection } from '../primitives/data/alone.ts'
import { compile, sql } from '../primitives/data/sql.ts'
import type { Http } from '../primitives/http/contract.ts'
import type { Stores } from './stores.ts'

/**
 * `/healthz`: this process answers; the supervisor asks it. `/readyz`: it can do its work now; a balancer asks it. A process
 * that drains, or has lost its database, is healthy and not ready. Without its Redis it is ready but slower, and `rung ps` shows it.
 */
export interface Health {
  draining: boolean
}

const databaseAnswersWithinMs = 1_000

/** What `/healthz` tells the supervisor. */
export interface OwnLimits {
  requestTimeoutMs: number
  /** This process stops within this time. */
  stopTimeoutMs: number
}

export function health(
  http: Http,
  stores: Stores,
  state: Health,
  redis: { readonly isUp: boolean } | undefined,
  limits: OwnLimits,
): void {
  const data = stores.data(undefined)
  const { database } = stores.main
  const hidden = { schema: { hide: true }, config: { system: true }, logLevel: 'silent' as const }

  http.get('/healthz', hidden, async () => ({ status: 'ok', ...limits }))

  http.get('/readyz', hidden, async (_request, reply) => {
    const checks = { draining: state.draining, database: await answers(), redis: redis?.isUp }
    const ready = !checks.draining && checks.database
    return reply.status(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready', checks })
  })

  async function answers(): Promise<boolean> {
    const deadline = AbortSignal.timeout(databaseAnswersWithinMs)
    const late = new Promise<false>((resolve) => deadline.addEventListener('abort', () => resolve(false)))
    const start = systemClock.ticks()
    // Rung's own connections as well: without them no job runs. One that is silent is replaced at once.
    const own = withOwnConnection(database, (one) => one.run(compile(sql`select 1`)), databaseAnswersWithinMs)
    const asked = Promise.all([data.read((read) => read`select 1`), own]).then(
      () => systemClock.ticks() - start < databaseAnswersWithinMs,
      () => false,
    )
    return Promise.race([asked, late])
  }
}
