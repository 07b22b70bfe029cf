import { runAlone, withOwnConnection } from '../../primitives/data/alone.ts'
import type { Connection, Database } from '../../primitives/data/contract.ts'
import { compile, type Sql, sql } from '../../primitives/data/sql.ts'
import type { Queue } from '../../primitives/jobs/contract.ts'
import { alertItems } from '../../runtime/alerts.ts'
import type { AlertsBinding } from '../../topology/bindings.ts'
import { type Minute, minuteMs } from './evaluate.ts'
import type { OwnedRule } from './owners.ts'
import { type Alert, type Change, step, valuesOf } from './step.ts'
import { messageOf, titleOf, valueText } from './tell.ts'

/** An alert as it is kept. */
export interface KeptAlert extends Alert {
  readonly acknowledgedAt: number | null
  readonly acknowledgedBy: string | null
  /** The incident that it belongs to. */
  readonly incident: number | null
}

/** What was decided in a minute. */
export interface Looked {
  readonly alerts: readonly KeptAlert[]
  readonly changes: readonly (Change & { rule: OwnedRule; incident?: number | undefined })[]
}

/** After a longer time without an evaluation it is not known that a rule has held all the while, so what is pending begins anew. */
const pauseMsMax = 5 * minuteMs
/** What was evaluated later than this was evaluated by a clock that was wrong. */
export const aheadMsMax = 10 * minuteMs
const incidentsKeptMs = 800 * 86_400_000

/** Returns the minute until which was evaluated. */
export async function evaluatedUntil(database: Database): Promise<number | undefined> {
  const [row] = await runAlone<{ at: Date }>(database, sql`select evaluated_until as at from rung.alert_look`)
  return row?.at.getTime()
}

/**
 * Evaluates one minute: alerts, incidents, and the jobs that tell of them are one transaction. Any number of processes may do it at once, and any may
 * die: a minute is evaluated once.
 * @param minutes what was measured until then
 * @returns nothing if the minute was evaluated before
 */
export function evaluateMinute(
  {
    database,
    queue,
    app,
    rules,
    told,
  }: {
    database: Database
    queue: Queue
    app: string
    rules: readonly OwnedRule[]
    told: AlertsBinding
  },
  at: number,
  minutes: readonly Minute[],
): Promise<Looked | undefined> {
  return withOwnConnection(database, async (connection) => {
    const run = runOn(connection)
    await run(sql`begin`)
    await run(sql`insert into rung.alert_look values ('-infinity') on conflict do nothing`)
    const [look] = await run<{ ms: number }>(
      sql`select extract(epoch from greatest(evaluated_until, 'epoch')) * 1000 as ms from rung.alert_look for update`,
    )
    const until = Number(look!.ms)
    if (until >= at && until - at <= aheadMsMax) {
      await run(sql`rollback`)
      return undefined
    }
    await run(sql`update rung.alert_look set evaluated_until = ${new Date(at)}`)
    const looked = await decide(run, rules, { at, until, minutes })
    if (looked.changes.length > 0) {
      for (const { statement } of queue.push(alertItems(told, messageOf(app, at, looked.changes)))) await run(statement)
    }
    if (at % 3_600_000 === 0)
      await run(sql`delete from rung.incident where closed_at < ${new Date(at - incidentsKeptMs)}`)
    await run(sql`commit`) // on an error the connection is closed, and nothing has happened
    return looked
  })
}

type Run = <Row>(statement: Sql) => Promise<Row[]>

function runOn(connection: Connection): Run {
  return async <Row>(statement: Sql) => (await connection.run(compile(statement))).rows as Row[]
}

async function decide(
  run: Run,
  rules: readonly OwnedRule[],
  { at, until, minutes }: { at: number; until: number; minutes: readonly Minute[] },
): Promise<Looked> {
  const all = (await run<Row>(alertRows)).map(toAlert)
  const before = all.filter(({ state }) => state === 'firing' || at - until <= pauseMsMax)
  const kept: KeptAlert[] = []
  const changes: Looked['changes'][number][] = []
  for (const rule of rules) {
    const known = before.filter((alert) => alert.rule === rule.name)
    const next = step(rule, known, valuesOf(rule, minutes, at), at)
    const incidents = new Map<string, number>()
    for (const change of next.changes) {
      const incident = await tellIncident(run, rule, change, known, at)
      if (incident !== undefined) incidents.set(change.alert.labels, incident)
      changes.push({ ...change, rule, incident })
    }
    for (const alert of next.alerts) {
      const old = known.find(({ labels }) => labels === alert.labels)
      kept.push({
        ...alert,
        acknowledgedAt: old?.acknowledgedAt ?? null,
        acknowledgedBy: old?.acknowledgedBy ?? null,
        incident: incidents.get(alert.labels) ?? old?.incident ?? null,
      })
    }
  }
  // Rules that are muted, or of another build, end without a word.
  await run(sql`delete from rung.alert`)
  if (kept.length > 0) await run(insertion(kept))
  await closeIncidents(run, at)
  return { alerts: kept, changes }
}

/** An alert that pages opens an incident, or joins the one that is open. Others are told in the timeline of that one.
 * @returns the incident that the alert belongs to
 */
async function tellIncident(
  run: Run,
  rule: OwnedRule,
  { kind, alert }: Change,
  known: readonly KeptAlert[],
  at: number,
): Promise<number | undefined> {
  const own = known.find(({ labels }) => labels === alert.labels)?.incident ?? undefined
  const [open] = await run<{ id: number }>(
    sql`select id::int as id from rung.incident where closed_at is null order by id desc limit 1`,
  )
  let incident = own ?? open?.id
  if (incident === undefined && kind === 'fires' && rule.severity === 'page') {
    const [made] = await run<{ id: number }>(
      sql`insert into rung.incident (title, opened_by, opened_at)
        values (${`${titleOf(alert)}: ${rule.summary}`}, 'alert', ${new Date(at)}) returning id::int as id`,
    )
    incident = made!.id
  }
  if (incident === undefined) return undefined
  const what = kind === 'fires' ? `fires: ${valueText(rule, alert.value)}` : 'has ended'
  await run(entry(incident, at, 'alert', `${titleOf(alert)} ${what}`))
  return rule.severity === 'page' ? incident : undefined
}

/** What alerts have opened is over when none of them fires any more. */
async function closeIncidents(run: Run, at: number): Promise<void> {
  const closed = await run<{ id: number }>(
    sql`update rung.incident set closed_at = ${new Date(at)} where closed_at is null and opened_by = 'alert'
      and not exists (select from rung.alert where alert.incident = incident.id) returning id::int as id`,
  )
  for (const { id } of closed) await run(entry(id, at, 'closed', 'closed: its alerts have ended'))
}

export function entry(incident: number, at: number, kind: string, text: string): Sql {
  return sql`insert into rung.incident_entry (incident, at, kind, text) values (${incident}, ${new Date(at)}, ${kind}, ${text})`
}

interface Row {
  rule: string
  labels: string
  state: Alert['state']
  since: Date
  fired_at: Date | null
  quiet_since: Date | null
  value: number
  acknowledged_at: Date | null
  acknowledged_by: string | null
  incident: number | null
}

const alertRows = sql`select rule, labels, state, since, fired_at, quiet_since, value, acknowledged_at, acknowledged_by,
  incident::int as incident from rung.alert order by rule, labels`

function toAlert(row: Row): KeptAlert {
  const { rule, labels, state, since, fired_at, quiet_since, value, acknowledged_at, acknowledged_by, incident } = row
  return {
    ...{ rule, labels, state, since: since.getTime(), value, incident },
    ...(fired_at && { firedAt: fired_at.getTime() }),
    ...(quiet_since && { quietSince: quiet_since.getTime() }),
    acknowledgedAt: acknowledged_at?.getTime() ?? null,
    acknowledgedBy: acknowledged_by,
  }
}

function insertion(alerts: readonly KeptAlert[]): Sql {
  const times = (of: (alert: KeptAlert) => number | null | undefined) =>
    alerts.map((alert) => (of(alert) == null ? null : new Date(of(alert)!)))
  const all = <T>(of: (alert: KeptAlert) => T) => alerts.map(of)
  return sql`insert into rung.alert
    (rule, labels, state, since, fired_at, quiet_since, value, acknowledged_at, acknowledged_by, incident)
    select * from unnest(${all((one) => one.rule)}::text[], ${all((one) => one.labels)}::text[],
      ${all((one) => one.state)}::text[], ${times((one) => one.since)}::timestamptz[],
      ${times((one) => one.firedAt)}::timestamptz[], ${times((one) => one.quietSince)}::timestamptz[],
      ${all((one) => one.value)}::float8[], ${times((one) => one.acknowledgedAt)}::timestamptz[],
      ${all((one) => one.acknowledgedBy)}::text[], ${all((one) => one.incident)}::bigint[])`
}

/** Returns what fires and what is pending; nothing where no app with alerts has used the database. */
export async function listAlerts(database: Database): Promise<KeptAlert[] | undefined> {
  const [known] = await runAlone<{ yes: boolean }>(database, sql`select to_regclass('rung.alert') is not null as yes`)
  if (!known!.yes) return undefined
  return (await runAlone<Row>(database, alertRows)).map(toAlert)
}

/** Notes who has seen the alerts of a rule that fire. Returns how many there are. */
export async function acknowledgeAlerts(database: Database, rule: string, by: string, now: number): Promise<number> {
  return withOwnConnection(database, async (connection) => {
    const run = runOn(connection)
    await run(sql`begin`)
    await run(sql`select from rung.alert_look for update`)
    const rows = await run<{ labels: string; incident: number | null }>(
      sql`update rung.alert set acknowledged_at = ${new Date(now)}, acknowledged_by = ${by}
        where rule = ${rule} and state = 'firing' returning labels, incident::int as incident`,
    )
    for (const { labels, incident } of rows) {
      if (incident === null) continue
      await run(entry(incident, now, 'acknowledged', `${titleOf({ rule, labels })} acknowledged by ${by}`))
    }
    await run(sql`commit`)
    return rows.length
  })
}
