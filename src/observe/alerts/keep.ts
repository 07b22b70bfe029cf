import { type Clock, systemClock } from '../../kernel/clock.ts'
import { messageOf as textOf } from '../../kernel/errors.ts'
import type { Database } from '../../primitives/data/contract.ts'
import type { Http } from '../../primitives/http/contract.ts'
import type { Queue } from '../../primitives/jobs/contract.ts'
import type { Lease } from '../../primitives/upkeep/contract.ts'
import { type AlertMessage, postAlert } from '../../runtime/alerts.ts'
import type { AlertsBinding } from '../../topology/bindings.ts'
import { eachMinute } from '../each-minute.ts'
import { minuteMs } from './evaluate.ts'
import { leavesIn, type ReadMinute, readMinutes, span } from './minutes.ts'
import type { OwnedRule } from './owners.ts'
import { windowMinutesMax } from './rules.ts'
import { aheadMsMax, evaluatedUntil, evaluateMinute, type Looked } from './table.ts'

export interface WatchParts {
  /** The name of this start of this process. */
  node: string
  app: string
  rules: readonly OwnedRule[]
  database: Database
  queue: Queue
  /** One process evaluates for all. */
  lease: Lease
  told: AlertsBinding
  /** Told of each minute that was evaluated, with what has changed. */
  looked(at: number, looked: Looked): void
  /** Told of the first of several failures, and with nothing once all works again. */
  trouble(error?: unknown): void
  clock?: Clock
}

/** All processes have written their frames by then. */
const lateMs = 15_000
/** Longer than from one minute to the next with one failure in between. */
const leaseMs = 150_000
/** After a longer time it would be told what is long over. */
const behindMinutesMax = 30
/** Frames of this many minutes may still come, or have come late. */
const againMinutes = 3
/** Post "lost" after this many failures in a row. */
const failuresMax = 2

/** Evaluates alerts. */
export function createWatch(parts: WatchParts) {
  const { node, app, rules, database, queue, lease, told, clock = systemClock } = parts
  const leaves = leavesIn(rules)
  const known = new Map<number, ReadMinute>()
  let isHolder = false
  let failures = 0
  let lostAt: number | undefined

  /** Reads what is not known yet of the minutes until this one. */
  async function read(at: number): Promise<void> {
    const oldest = at - (windowMinutesMax - 1) * minuteMs
    for (const minute of known.keys())
      if (minute < oldest || minute > at - againMinutes * minuteMs) known.delete(minute)
    const first = [...span(oldest, at)].find((minute) => !known.has(minute))!
    for await (const one of readMinutes(database, leaves, first, at)) known.set(one.minute.at, one)
  }

  async function evaluateAll(now: number): Promise<void> {
    const last = Math.floor(now / minuteMs) * minuteMs
    const before = (await evaluatedUntil(database)) ?? Number.NEGATIVE_INFINITY
    const until = before > last + aheadMsMax ? Number.NEGATIVE_INFINITY : before
    const first = Math.max(until + minuteMs, last - (behindMinutesMax - 1) * minuteMs)
    if (first > last) return
    await read(last)
    const minutes = [...known.values()].map(({ minute }) => minute).sort((a, b) => a.at - b.at)
    for (const at of span(Number.isFinite(until) ? first : last, last)) {
      if (!known.get(at)!.isMeasured) continue // what ended with the last process has not ended well
      const found = await evaluateMinute({ database, queue, app, rules, told }, at, minutes)
      if (found) parts.looked(at, found)
    }
  }

  /** What nobody can read in the database is posted at once, and known only here. */
  async function say(what: string, text: string): Promise<void> {
    const message: AlertMessage = { key: `${app}/${what}/${clock.now()}`, subject: text, text: `${app}: ${text}` }
    if (told.webhook !== undefined) await postAlert(told.webhook, message)
  }

  return {
    /** Evaluates what is due. Never rejects. */
    async look(): Promise<void> {
      try {
        isHolder = await lease.hold(node, leaseMs)
        if (isHolder) await evaluateAll(clock.now())
        if (failures > 0) parts.trouble()
        failures = 0
      } catch (error) {
        failures += 1
        if (failures === 1) parts.trouble(error)
        // Others may have failed as well; whoever held the lease speaks for all.
        if (failures < failuresMax || !isHolder || lostAt !== undefined) return
        lostAt = clock.now()
        await say('lost', `its alerts cannot be evaluated: ${textOf(error)}`).catch(parts.trouble)
        return
      }
      if (lostAt === undefined) return
      const minutes = Math.round((clock.now() - lostAt) / minuteMs)
      lostAt = undefined
      await say('back', `its alerts are evaluated again, after ${minutes} minutes.`).catch(parts.trouble)
    },
    async end(): Promise<void> {
      if (isHolder && failures === 0) await lease.release(node).catch(parts.trouble)
    },
  }
}

/** Evaluates alerts each minute for as long as the app runs. */
export function keepAlerts(http: Http, parts: WatchParts): void {
  const watch = createWatch(parts)
  eachMinute(http, { work: watch.look, end: watch.end, lateMs })
}
