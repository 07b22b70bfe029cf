import { Cron } from 'croner'
import { everyAlone, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import type { Database } from '../data/contract.ts'
import type { Data } from '../data/data.ts'
import type { SqlTag } from '../data/sql.ts'
import { tellTrouble } from './channels.ts'
import type { Enqueue, Job } from './jobs.ts'

/** A job at regular times. */
export interface CronEntry {
  /** Unique in the app; what has fired is remembered under it. */
  name: string
  /** Five fields (minute first) or six (second first), as cron(8) has them. */
  pattern: string
  /** IANA name. Default UTC. */
  timeZone: string
  job: Job
  input: unknown
}

export interface CronOptions {
  /** Default: the job's name. */
  name?: string
  /** IANA name, such as `Europe/Berlin`. Default UTC. */
  timeZone?: string
}

/**
 * The last moment at or before `now` and after `since` at which the pattern fires: after a pause only the last of the
 * missed ones is made up for. Pure.
 */
export function lastDue({ pattern, timeZone }: CronEntry, since: Date, now: Date): Date | undefined {
  const cron = new Cron(pattern, { timezone: timeZone, paused: true })
  const [last] = cron.previousRuns(1, new Date(now.getTime() + 1))
  return last && last > since && last <= now ? last : undefined
}

/** @throws APP_INVALID for a pattern or time zone that means nothing */
export function checkCron({ name, pattern, timeZone }: CronEntry): void {
  try {
    new Cron(pattern, { timezone: timeZone, paused: true }).nextRun()
  } catch (cause) {
    throw new RungError('APP_INVALID', `The times of cron "${name}" mean nothing: ${messageOf(cause)}`, { cause })
  }
}

/** As exact as a person expects of a clock; patterns have no finer step. */
const lookEveryMs = 500

/** Clocks may differ by this much. What has fired later than that was fired by a clock that was wrong. */
const aheadMsMax = 60_000

/**
 * Returns what enqueues the jobs that are due. Every process may call it; the row of the entry, moved forward in the transaction
 * that enqueues, lets one of them do it. An entry that is new begins with the first call.
 */
export function cronLook(
  entries: readonly CronEntry[],
  data: Data<SqlTag & Enqueue>,
  database: Database,
): () => Promise<void> {
  const known = new Map<string, Date>()

  async function fire(entry: CronEntry): Promise<void> {
    const now = systemClock.now()
    let since = known.get(entry.name)
    if (!since || since.getTime() > now + aheadMsMax) since = await lastOf(entry)
    const due = lastDue(entry, since, new Date(now))
    if (due) {
      await data.write(async (tx) => {
        const moved = await tx`
          update rung.cron set last_at = ${due} where name = ${entry.name} and last_at < ${due} returning name`
        if (moved.length > 0) tx.enqueue(entry.job, entry.input as never)
      })
    }
    known.set(entry.name, due ?? since)
  }

  /** By the clock of the database, since that of a process may be the one that is wrong. */
  async function lastOf({ name, pattern, timeZone }: CronEntry): Promise<Date> {
    const [row] = await data.write(
      (tx) => tx<{ last_at: Date; was: Date | null }>`
        with old as (select last_at from rung.cron where name = ${name})
        insert into rung.cron as cron (name, last_at, times) values (${name}, now(), ${`${pattern} ${timeZone}`})
        on conflict (name) do update set times = excluded.times, last_at = case
          when cron.times <> excluded.times or cron.last_at > now() + ${`${aheadMsMax} milliseconds`}::interval then now()
          else cron.last_at end
        returning last_at, (select last_at from old) as was`,
    )
    const { last_at: lastAt, was } = row!
    if (was && was.getTime() > lastAt.getTime() + aheadMsMax) {
      const message = `Cron "${name}" had last fired at ${was.toISOString()}, by a clock that was wrong. It goes on from now.`
      tellTrouble({ database, event: 'cron-ahead', error: new Error(message) })
    }
    return lastAt
  }

  return async () => {
    for (const entry of entries) {
      await fire(entry).catch((error) => tellTrouble({ database, event: 'cron-failed', error }))
    }
  }
}

/** Looks regularly. Returns what ends it. */
export function startCron(look: () => Promise<void>): () => Promise<void> {
  return everyAlone(lookEveryMs, look)
}
