import { systemClock } from '../../kernel/clock.ts'
import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { sql } from '../data/sql.ts'
import { type Ask, type Limiter, slotMsOf, type Verdict } from './contract.ts'

interface Waiting {
  ask: Ask
  resolve(verdict: Verdict): void
  reject(error: unknown): void
}

interface Row extends Omit<Verdict, 'nextMs'> {
  place: number
  next_ms: number
}

/** Statements of one process that are under way at a time; what comes meanwhile goes out together with the next. */
const underWayMax = 2
/** Locks are held for as long as a statement takes. */
const asksMax = 100
/** A key that was refused is refused here for so long at most, without a question: a flood costs the database nothing. */
const blockMsMax = 1_000
const blockedMax = 10_000

/** Counts in a table that all processes share. What is asked at the same time, by whichever requests, is one statement. */
export function tableLimiter(database: Database): Limiter {
  const waiting: Waiting[] = []
  const blocked = new Map<string, { verdict: Verdict; at: number; max: number }>()
  let underWay = 0

  function ask(one: Ask): Promise<Verdict> | Verdict {
    const known = blocked.get(one.key)
    if (known) {
      const past = systemClock.ticks() - known.at
      if (past < Math.min(known.verdict.nextMs, blockMsMax) && one.max <= known.max)
        return { ...known.verdict, nextMs: known.verdict.nextMs - past }
      blocked.delete(one.key)
    }
    return new Promise((resolve, reject) => {
      waiting.push({ ask: one, resolve, reject })
      if (waiting.length === 1) setImmediate(send) // with what else is asked in this turn
    })
  }

  async function send(): Promise<void> {
    if (underWay >= underWayMax || waiting.length === 0) return
    underWay += 1
    const batch = waiting.splice(0, asksMax)
    const asks = batch.map((one) => one.ask)
    try {
      const rows = await runAlone<Row>(
        database,
        sql`select * from rung.take_limits(${asks.map(({ key }) => key)}, ${asks.map(({ max }) => max)},
          ${asks.map(({ windowMs }) => windowMs)}, ${asks.map(({ windowMs }) => slotMsOf(windowMs))})`,
      )
      for (const { place, admitted, used, next_ms: nextMs, slot } of rows) {
        const verdict = { admitted, used, nextMs, slot }
        const { ask: one, resolve } = batch[place - 1]!
        if (!admitted) block(one, verdict)
        resolve(verdict)
      }
    } catch (error) {
      for (const { reject } of batch) reject(error)
    } finally {
      underWay -= 1
      if (waiting.length > 0) void send()
    }
  }

  function block({ key, max }: Ask, verdict: Verdict): void {
    if (blocked.size >= blockedMax) blocked.delete(blocked.keys().next().value!)
    blocked.set(key, { verdict, at: systemClock.ticks(), max })
  }

  return {
    take: (asks) => Promise.all(asks.map(ask)),

    async giveBack(taken) {
      await runAlone(
        database,
        sql`select rung.give_back_limits(${taken.map(({ key }) => key)}, ${taken.map(({ slot }) => slot)})`,
      )
      for (const { key } of taken) blocked.delete(key)
    },

    async prune() {
      const gone = await runAlone(
        database,
        sql`delete from rung.limit_use where key in (
          select key from rung.limit_use where ends_at < now() limit 5000 for update skip locked) returning 1`,
      )
      return gone.length
    },
  }
}
