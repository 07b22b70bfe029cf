import { systemClock } from '../../kernel/clock.ts'
import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { sql } from '../data/sql.ts'
import { type Limiter, type Quota, type SlotReceipt, slotMsOf, type Verdict } from './contract.ts'

type TableVerdict = Verdict<SlotReceipt>

interface Waiting {
  quota: Quota
  resolve(verdict: TableVerdict): void
  reject(error: unknown): void
}

interface Row {
  place: number
  admitted: boolean
  used: number
  next_ms: number
  slot: number
}

/** Statements of one process at a time. Requests that arrive meanwhile share the next one. */
const statementsMax = 2
/** Quotas of one statement, which holds the locks of all its keys. */
const quotasMax = 100
/** A refused key is refused from memory for up to this time, so a flood costs the database almost nothing. */
const blockMsMax = 1_000
const blockedMax = 10_000

/** Counts in a table that all processes share. Quotas that are asked for at the same time, by any requests, are one statement. */
export function tableLimiter(database: Database): Limiter<SlotReceipt> {
  const waiting: Waiting[] = []
  const blocked = new Map<string, { verdict: TableVerdict; at: number; max: number }>()
  let statements = 0

  function take(quota: Quota): Promise<TableVerdict> | TableVerdict {
    const known = blocked.get(quota.key)
    if (known) {
      const past = systemClock.ticks() - known.at
      if (past < Math.min(known.verdict.nextMs, blockMsMax) && quota.max <= known.max)
        return { ...known.verdict, nextMs: known.verdict.nextMs - past }
      blocked.delete(quota.key)
    }
    return new Promise((resolve, reject) => {
      waiting.push({ quota, resolve, reject })
      if (waiting.length === 1) setImmediate(send) // together with the others of this turn of the event loop
    })
  }

  async function send(): Promise<void> {
    if (statements >= statementsMax || waiting.length === 0) return
    statements += 1
    const batch = waiting.splice(0, quotasMax)
    const quotas = batch.map((one) => one.quota)
    try {
      const rows = await runAlone<Row>(
        database,
        sql`select * from rung.take_limits(${quotas.map(({ key }) => key)}, ${quotas.map(({ max }) => max)},
          ${quotas.map(({ windowMs }) => windowMs)}, ${quotas.map(({ windowMs }) => slotMsOf(windowMs))})`,
      )
      for (const { place, admitted, used, next_ms: nextMs, slot } of rows) {
        const { quota, resolve } = batch[place - 1]!
        const verdict = { admitted, used, nextMs, receipt: admitted ? { key: quota.key, slot } : undefined }
        if (!admitted) block(quota, verdict)
        resolve(verdict)
      }
    } catch (error) {
      for (const { reject } of batch) reject(error)
    } finally {
      statements -= 1
      if (waiting.length > 0) void send()
    }
  }

  function block({ key, max }: Quota, verdict: TableVerdict): void {
    if (blocked.size >= blockedMax) blocked.delete(blocked.keys().next().value!)
    blocked.set(key, { verdict, at: systemClock.ticks(), max })
  }

  return {
    take: (quotas) => Promise.all(quotas.map(take)),

    async giveBack(receipts) {
      await runAlone(
        database,
        sql`select rung.give_back_limits(${receipts.map(({ key }) => key)}, ${receipts.map(({ slot }) => slot)})`,
      )
      for (const { key } of receipts) blocked.delete(key)
    },

    async prune(max = 5_000) {
      const gone = await runAlone(
        database,
        sql`delete from rung.limit_use where key in (
          select key from rung.limit_use where ends_at < now() limit ${max} for update skip locked) returning 1`,
      )
      return gone.length
    },
  }
}
