import { systemClock } from '../kernel/clock.ts'
import { withOwnConnection } from '../primitives/data/alone.ts'
import type { Database } from '../primitives/data/contract.ts'
import { compile, sql } from '../primitives/data/sql.ts'
import type { Http } from '../primitives/http/contract.ts'
import type { Stores } from './stores.ts'

/**
 * `/healthz`: this process answers; the supervisor asks it. `/readyz`: it can do its work now; a balancer asks it. A process
 * that drains, or has lost its database, is healthy and not ready. Without its Redis, a node of it, or its NATS it is ready but slower, and `rung ps` shows it.
 */
export interface Health {
  draining: boolean
}

const databaseAnswersWithinMs = 1_000

/** What `/healthz` tells the supervisor. */
export interface OwnFacts {
  requestTimeoutMs: number
  /** This process stops within this time. */
  stopTimeoutMs: number
  /** Networks of proxies that the app itself names. */
  trustedProxies: readonly string[]
  /** Its routes, in a fleet: modules may have processes of their own. */
  routes?: readonly { method: string; url: string }[]
}

export function health(
  http: Http,
  stores: Stores,
  state: Health,
  redis: { readonly isUp: boolean } | undefined,
  broker: { readonly isUp: boolean } | undefined,
  facts: OwnFacts,
): void {
  const { database } = stores.main
  const hidden = { schema: { hide: true }, config: { system: true }, logLevel: 'silent' as const }

  http.get('/healthz', hidden, async () => ({ status: 'ok', ...facts })) // some of them are known later

  http.get('/readyz', hidden, async (_request, reply) => {
    const checks = { draining: state.draining, database: await answers(), redis: redis?.isUp, nats: broker?.isUp }
    const ready = !checks.draining && checks.database
    return reply.status(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready', checks })
  })

  async function answers(): Promise<boolean> {
    const deadline = AbortSignal.timeout(databaseAnswersWithinMs)
    const late = new Promise<false>((resolve) => deadline.addEventListener('abort', () => resolve(false)))
    const start = systemClock.ticks()
    // Rung's own connections as well: without them no job runs. One that is silent is replaced at once.
    const own = withOwnConnection(database, (one) => one.run(selectOne), databaseAnswersWithinMs)
    const asked = Promise.all([readOnce(database, start + databaseAnswersWithinMs), own]).then(
      () => systemClock.ticks() - start < databaseAnswersWithinMs,
      () => false,
    )
    return Promise.race([asked, late])
  }
}

const selectOne = compile(sql`select 1`)

/** Reads as requests do. A balancer asks twice a second, so this must not count as use: servers would be watched as closely as under load. */
async function readOnce(database: Database, deadlineAt: number): Promise<void> {
  const connection = await database.connect({ target: 'read', deadlineAt, isCheck: true })
  let broken = true
  try {
    await connection.run(selectOne)
    broken = false
  } finally {
    connection.release(broken)
  }
}
