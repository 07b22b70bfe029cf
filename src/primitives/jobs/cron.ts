import { Cron } from 'croner'
import { everyAlone, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import type { Data } from '../data/data.ts'
import { type SqlTag, sql } from '../data/sql.ts'
import { type RunDone, runDone, tellTrouble } from './channels.ts'
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
  async function lastOf({ name, pattern, timeZone, job }: CronEntry): Promise<Date> {
    const [row] = await data.write(
      (tx) => tx<{ last_at: Date; was: Date | null }>`
        with old as (select last_at from rung.cron where name = ${name})
        insert into rung.cron as cron (name, last_at, times, job) values (${name}, now(), ${`${pattern} ${timeZone}`}, ${job.name})
        on conflict (name) do update set times = excluded.times, job = excluded.job, last_at = case
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

/** How a run of a job ended. */
export interface CronRun {
  /** When it ended: ISO 8601. */
  at: string
  outcome: 'done' | 'cancelled' | 'retry' | 'dead'
  durationMs: number
  /** The process: `host:pid:random`. */
  worker: string
  error?: string
}

const writeEveryMs = 2_000
const errorCharsMax = 500

/** Keeps how the last runs of the jobs of these entries ended, whoever enqueued them: some seconds later, and at the end. Returns what ends it. */
export function keepCronRuns(
  entries: readonly CronEntry[],
  { databases, database, worker }: { databases: readonly Database[]; database: Database; worker: string },
): () => Promise<void> {
  const jobs = new Set(entries.map(({ job }) => job.name))
  let waiting = new Map<string, CronRun>()

  function onRun(message: unknown): void {
    const { database: from, item, kind, outcome, durationMs, error } = message as RunDone
    if (kind !== 'job' || !jobs.has(item.name) || !databases.includes(from)) return
    if (outcome === 'release' || outcome === 'lost') return
    const at = new Date(systemClock.now()).toISOString()
    const text = error === undefined ? undefined : messageOf(error).replaceAll('\0', '').toWellFormed()
    const failed = text === undefined ? {} : { error: text.slice(0, errorCharsMax).toWellFormed() }
    waiting.set(item.name, { at, outcome, durationMs: Math.round(durationMs), worker, ...failed })
  }
  async function write(): Promise<void> {
    if (waiting.size === 0) return
    const runs = waiting
    waiting = new Map()
    await runAlone(
      database,
      sql`update rung.cron set last_run = fresh.run
        from jsonb_each(${JSON.stringify(Object.fromEntries(runs))}::text::jsonb) fresh (job, run)
        where cron.job = fresh.job and coalesce(cron.last_run ->> 'at', '') <= fresh.run ->> 'at'`,
    ).catch((error) => {
      tellTrouble({ database, event: 'cron-run-not-kept', error })
      waiting = new Map([...runs, ...waiting]) // the next one tries again
    })
  }

  if (jobs.size === 0) return async () => {}
  runDone.subscribe(onRun)
  const end = everyAlone(writeEveryMs, write)
  return async () => {
    runDone.unsubscribe(onRun)
    await end()
    await write()
  }
}

export interface CronState {
  name: string
  pattern: string
  timeZone: string
  /** The job that it enqueues; `null` if an older version of Rung wrote the row. */
  job: string | null
  /** ISO 8601; `null` for a pattern that never fires again. */
  nextAt: string | null
  /** It should have fired at least a minute ago: no process works jobs, or the app has no such entry any more. */
  overdue: boolean
  /** The last run of its job that is known. */
  lastRun: CronRun | null
}

interface CronRow {
  name: string
  last_at: string
  times: string | null
  job?: string | null
  last_run?: CronRun | null
}

/** Pure. */
export function cronState({ name, last_at, times, job = null, last_run = null }: CronRow, now: number): CronState {
  const [, pattern = '', timeZone = 'UTC'] = /^(.*) (\S+)$/.exec(times ?? '') ?? []
  const next = (from: number) =>
    pattern === '' ? null : new Cron(pattern, { timezone: timeZone, paused: true }).nextRun(new Date(from))
  const due = next(Date.parse(last_at))
  return {
    ...{ name, pattern, timeZone, job, lastRun: last_run },
    nextAt: next(now)?.toISOString() ?? null,
    overdue: due !== null && due.getTime() < now - aheadMsMax,
  }
}

/** Returns all entries that have been started here, by name; none from a database that no app has used. */
export async function readCrons(database: Database): Promise<CronState[]> {
  const [known] = await runAlone<{ yes: boolean }>(database, sql`select to_regclass('rung.cron') is not null as yes`)
  if (!known!.yes) return []
  // As JSON, because columns are missing where an older version of Rung runs.
  const rows = await runAlone<{ row: CronRow }>(
    database,
    sql`select to_jsonb(cron) as row from rung.cron order by name`,
  )
  return rows.map(({ row }) => cronState(row, systemClock.now()))
}
