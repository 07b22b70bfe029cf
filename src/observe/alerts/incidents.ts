import { runAlone } from '../../primitives/data/alone.ts'
import type { Database } from '../../primitives/data/contract.ts'
import { sql } from '../../primitives/data/sql.ts'
import { minuteMs } from './evaluate.ts'
import { leavesOf } from './expression.ts'
import { rules } from './rules.ts'
import { entry } from './table.ts'

/** Times are ms since the epoch. */
export interface Incident {
  readonly id: number
  readonly title: string
  /** One that alerts opened is closed with the last of them; one that was opened by hand is closed by hand. */
  readonly openedBy: 'alert' | 'hand'
  readonly openedAt: number
  readonly acknowledgedAt: number | null
  readonly acknowledgedBy: string | null
  readonly closedAt: number | null
}

export interface Entry {
  readonly at: number
  readonly kind: 'opened' | 'alert' | 'acknowledged' | 'note' | 'closed' | 'deploy' | 'start'
  readonly text: string
}

interface Row {
  id: number
  title: string
  opened_by: Incident['openedBy']
  opened_at: Date
  acknowledged_at: Date | null
  acknowledged_by: string | null
  closed_at: Date | null
}

const columns = sql`id::int as id, title, opened_by, opened_at, acknowledged_at, acknowledged_by, closed_at`

function toIncident(row: Row): Incident {
  return {
    id: row.id,
    title: row.title,
    openedBy: row.opened_by,
    openedAt: row.opened_at.getTime(),
    acknowledgedAt: row.acknowledged_at?.getTime() ?? null,
    acknowledgedBy: row.acknowledged_by,
    closedAt: row.closed_at?.getTime() ?? null,
  }
}

/** Returns the incidents that were open at this time or later, the newest first. */
export async function listIncidents(database: Database, since: number): Promise<Incident[]> {
  const rows = await runAlone<Row>(
    database,
    sql`select ${columns} from rung.incident where closed_at is null or closed_at >= ${new Date(since)} order by id desc`,
  )
  return rows.map(toIncident)
}

export async function findIncident(database: Database, id: number): Promise<Incident | undefined> {
  const [row] = await runAlone<Row>(database, sql`select ${columns} from rung.incident where id = ${id}`)
  return row && toIncident(row)
}

export async function openIncident(database: Database, title: string, by: string, now: number): Promise<number> {
  const [row] = await runAlone<{ id: number }>(
    database,
    sql`with made as (
        insert into rung.incident (title, opened_by, opened_at) values (${title}, 'hand', ${new Date(now)}) returning id
      ), told as (
        insert into rung.incident_entry (incident, at, kind, text)
          select id, ${new Date(now)}, 'opened', ${`opened by ${by}: ${title}`} from made
      )
      select id::int as id from made`,
  )
  return row!.id
}

/**
 * Acknowledges or closes an incident that is open.
 * @returns whether it was open, and not acknowledged before
 */
export async function changeIncident(
  database: Database,
  id: number,
  how: 'acknowledged' | 'closed',
  by: string,
  now: number,
): Promise<boolean> {
  const at = new Date(now)
  const change =
    how === 'closed'
      ? sql`update rung.incident set closed_at = ${at} where id = ${id} and closed_at is null returning id`
      : sql`update rung.incident set acknowledged_at = ${at}, acknowledged_by = ${by}
          where id = ${id} and closed_at is null and acknowledged_at is null returning id`
  const rows = await runAlone(
    database,
    sql`with changed as (${change})
      insert into rung.incident_entry (incident, at, kind, text)
        select id, ${at}, ${how}, ${`${how} by ${by}`} from changed returning 1`,
  )
  return rows.length > 0
}

export async function noteOnIncident(database: Database, id: number, text: string, now: number): Promise<void> {
  await runAlone(database, entry(id, now, 'note', text))
}

/** What may have been the cause began shortly before. */
const beforeMs = 30 * 60_000

/**
 * Returns what happened from half an hour before an incident to its end, in its order: alerts and what people did, deploys, climbs, and starts of processes as
 * the record shows them.
 */
export async function timelineOf(database: Database, incident: Incident, now: number): Promise<Entry[]> {
  const [from, to] = [new Date(incident.openedAt - beforeMs), new Date(incident.closedAt ?? now)]
  const told = await runAlone<Omit<Entry, 'at'> & { at: Date }>(
    database,
    sql`select at, kind, text from rung.incident_entry where incident = ${incident.id} order by at, id`,
  )
  const deploys = await runAlone<{ what: string; outcome: string; begin: Date; end: Date | null }>(
    database,
    // An app that runs an older Rung has no column from_rung.
    sql`select coalesce('climb from ' || (to_jsonb(deploy) ->> 'from_rung') || ' to ' || rung, 'deploy of ' || build) as what,
        outcome, started_at as begin, ended_at as end from rung.deploy
      where started_at <= ${to} and coalesce(ended_at, started_at) >= ${from} order by id`,
  )
  const starts = await runAlone<{ node: string; at: Date }>(
    database,
    sql`select node, min(started_at) as at from rung.frame
      where started_at > ${new Date(from.getTime() - beforeMs)} and started_at <= ${to}
      group by node having min(started_at) >= ${from} order by 2`,
  )
  const around: Entry[] = [
    ...deploys.flatMap(({ what, outcome, begin, end }): Entry[] => [
      { at: begin.getTime(), kind: 'deploy', text: `${what} begins` },
      ...(end === null ? [] : [{ at: end.getTime(), kind: 'deploy' as const, text: `${what}: ${outcome}` }]),
    ]),
    ...starts.map(({ node, at }): Entry => ({ at: at.getTime(), kind: 'start', text: `process ${node} starts` })),
  ]
  const isIn = ({ at }: Entry) => at >= from.getTime() && at <= to.getTime()
  // What was noted after the end belongs to it.
  const own = told.map((one) => ({ ...one, at: one.at.getTime() }))
  return [...own, ...around.filter(isIn)].sort((a, b) => a.at - b.at)
}

/** What an alert counts is looked for so many minutes back, also where its rule looks at hours. */
const countedMinutesMax = 60

/**
 * Returns since when there was what opened an incident: an alert fires when its rule has held for some minutes, and what it counted then lies in the
 * minutes before. Pure.
 */
export function beganAt({ title, openedBy, openedAt }: Pick<Incident, 'title' | 'openedBy' | 'openedAt'>): number {
  // Its title begins with the name of the rule.
  const rule = openedBy === 'alert' ? rules.find(({ name }) => name === /^[a-z0-9-]+/.exec(title)?.[0]) : undefined
  if (!rule) return openedAt
  const counted = Math.max(...leavesOf(rule.value).map(({ minutes }) => minutes))
  return openedAt - (rule.forMinutes + Math.min(counted, countedMinutesMax)) * minuteMs
}

/** How often is deployed, how often that goes wrong, and how long it takes to restore. */
export interface DeliveryFigures {
  readonly days: number
  readonly deploys: number
  /** `null` while there is less than a week. */
  readonly deploysPerWeek: number | null
  /** Taken back, failed, or the last one before an incident that an alert opened within the hour; a share of all. */
  readonly failedShare: number | null
  readonly incidents: number
  readonly incidentsPerMonth: number | null
  /** The middle one of those that are closed. */
  readonly restoreMs: number | null
}

const dayMs = 86_400_000
const hourMs = 3_600_000

/**
 * Returns the figures of a window, which is shorter where the app is younger. Pure. They are those of "Accelerate" (Forsgren, Humble, Kim, 2018).
 * @param deploys that have ended, with how; the first start of an app, which replaces no build, is none
 */
export function deliveryFiguresOf(
  deploys: readonly { endedAt: number; outcome: string; previous: string | null }[],
  incidents: readonly Incident[],
  window: { from: number; to: number },
): DeliveryFigures {
  const oldest = Math.min(...deploys.map(({ endedAt }) => endedAt), ...incidents.map(({ openedAt }) => openedAt))
  const from = Math.max(window.from, Math.min(oldest, window.to))
  const days = (window.to - from) / dayMs
  const isIn = (time: number) => time >= from && time <= window.to
  // What was refused or interrupted has changed nothing.
  const done = deploys
    .filter(({ endedAt, outcome }) => isIn(endedAt) && /^(done|rolled back|failed)$/.test(outcome))
    .filter(({ previous }) => previous !== null)
    .sort((a, b) => a.endedAt - b.endedAt)
  const opened = incidents.filter(({ openedAt }) => isIn(openedAt))
  // An incident is charged to one deploy, however many there were in the hour.
  const charged = opened
    .filter(({ openedBy }) => openedBy === 'alert')
    .map(({ openedAt }) => done.findLast(({ endedAt }) => endedAt <= openedAt && openedAt - endedAt <= hourMs))
  const failed = done.filter((deploy) => deploy.outcome !== 'done' || charged.includes(deploy))
  const restored = opened.flatMap(({ openedAt, closedAt }) => (closedAt === null ? [] : [closedAt - openedAt]))
  const per = (count: number, some: number) => (days < 7 ? null : (count / days) * some)
  return {
    days,
    deploys: done.length,
    deploysPerWeek: per(done.length, 7),
    failedShare: done.length === 0 ? null : failed.length / done.length,
    incidents: opened.length,
    incidentsPerMonth: per(opened.length, 30),
    restoreMs: median(restored),
  }
}

function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  if (sorted.length === 0) return null
  return Number.isInteger(middle) ? (sorted[middle - 1]! + sorted[middle]!) / 2 : sorted[Math.floor(middle)]!
}
