import { AsyncResource } from 'node:async_hooks'
import { type StatementDone, statementDone } from '../primitives/data/channels.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'
import { listen } from './listen.ts'

export interface SlowStatement {
  statement: string
  durationMs: number
  rowCount: number
  name: string | undefined
  module: string | undefined
  /** Whether it failed because a lock was not granted in time. */
  lockTimeout: boolean
  /** How the server would run it, once for each statement; without values, which may be secret. */
  plan: string | undefined
}

export const slowMs = 100
/** At most one plan in this time: a database that is slow for everything must not explain everything. */
const planEveryMs = 1_000
const rememberedMax = 1_000

/** Reports every statement of 100 ms or more; the first run of a SELECT with its plan. */
export function watchSlowStatements(http: Http, data: DataRoot, onSlow: (slow: SlowStatement) => void): void {
  const explained = new Set<string>()
  let lastPlanAt = Number.NEGATIVE_INFINITY
  // In the context of the start: within a transaction it would run in that transaction.
  const planOutside = AsyncResource.bind((text: string) => planOf(data, text))

  listen<StatementDone>(http, data, statementDone, (done) => {
    const { text } = done.statement
    if (done.durationMs < slowMs || isExplain(text)) return // `planOf` explains
    const { durationMs, rowCount, module, startedAt } = done
    const lockTimeout = done.error?.code === 'DATA_LOCK_TIMEOUT'
    const slow = { statement: text, durationMs, rowCount, name: done.scope?.name, module, lockTimeout, plan: undefined }
    const wanted = done.command === 'SELECT' && !explained.has(text) && startedAt - lastPlanAt >= planEveryMs
    if (!wanted) return onSlow(slow)
    lastPlanAt = startedAt
    if (explained.size >= rememberedMax) explained.clear()
    explained.add(text)
    void planOutside(text).then((plan) => onSlow({ ...slow, plan }))
  })
}

function isExplain(text: string): boolean {
  return /^\s*explain\b/i.test(text)
}

/** Returns the generic plan (Postgres 16), without values and without running the statement; undefined if there is none. */
async function planOf(data: DataRoot, text: string): Promise<string | undefined> {
  try {
    const { rows } = await data.forModule(undefined).pool.query(`explain (generic_plan) ${text}`)
    return rows.map((row) => row['QUERY PLAN']).join('\n')
  } catch {
    return undefined
  }
}
