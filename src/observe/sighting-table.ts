import { createHash } from 'node:crypto'
import { runAlone } from '../primitives/data/alone.ts'
import type { Database } from '../primitives/data/contract.ts'
import { sql } from '../primitives/data/sql.ts'

/** Something that processes of the app have seen of a statement. What is not known of its kind is `null`. */
export interface Sighting {
  /** What is the same in statements of one kind and unit of work that differ in their values, and in how many they list. */
  fingerprint: string
  /** `lock-wait`: it was given up, because a lock was not granted in time. */
  kind: 'n-plus-one' | 'slow' | 'lock-wait'
  /** As it was seen last, without values. */
  statement: string
  /** How often it was seen. */
  count: number
  /** File, line and column in the app's code; may be empty. */
  site: string
  /** The unit of work: `GET /api/articles`, a job's name …; may be empty. */
  route: string
  module: string | null
  /** Time of all runs, ms. */
  totalMs: number | null
  /** The longest run, ms. */
  worstMs: number | null
  /** Rows of all runs. */
  rows: number | null
  /** How the server would run it, without values. */
  plan: string | null
  /** ISO 8601. */
  firstAt: string
  /** When it was last seen: ISO 8601. */
  at: string
}

/** Sightings kept of each kind: this many of the worst, and this many of the newest. */
const keptMax = 100
export const sightingsKeptForMs = 7 * 86_400_000

/** Characters of a statement or a plan. */
const textMax = 4_096

/** Returns a text as Postgres can keep it in JSON: cut, and without what is not Unicode or is NUL. Pure. */
export function storableText(text: string): string {
  const short = text.length > textMax ? `${text.slice(0, textMax)} …` : text
  return short.replaceAll('\0', '').toWellFormed()
}

/** Returns the entry as Postgres can keep it, with its fingerprint. Pure. */
export function storable(entry: Omit<Sighting, 'fingerprint'>): Sighting {
  const { kind, module, plan } = entry
  const [statement, site, route] = [entry.statement, entry.site, entry.route].map(storableText) as [
    string,
    string,
    string,
  ]
  const fingerprint = createHash('sha256')
    .update(JSON.stringify([kind, shapeOf(statement), route]))
    .digest('hex')
    .slice(0, 10)
  const texts = { module: module && storableText(module), plan: plan && storableText(plan) }
  return { ...entry, fingerprint, statement, site, route, ...texts }
}

/** What statements have in common that differ in their values, and in the lengths of their lists. Pure. */
export function shapeOf(statement: string): string {
  return statement
    .replace(/'(?:[^']|'')*'/g, '?')
    .replace(/\$\d+|\b\d+(?:\.\d+)?\b/g, '?')
    .replace(/\s+/g, ' ')
    .replace(/\( ?\?(?: ?, ?\?)* ?\)/g, '(?)')
    .replace(/\(\?\)(?: ?, ?\(\?\))+/g, '(?)')
    .trim()
}

/** Returns two entries with the same fingerprint as one. Pure. */
export function joined(a: Sighting, b: Sighting): Sighting {
  const newest = Date.parse(b.at) >= Date.parse(a.at) ? b : a
  const sum = (x: number | null, y: number | null) => (x === null && y === null ? null : (x ?? 0) + (y ?? 0))
  return {
    ...newest,
    count: a.count + b.count,
    totalMs: sum(a.totalMs, b.totalMs),
    worstMs: a.worstMs === null ? b.worstMs : Math.max(a.worstMs, b.worstMs ?? 0),
    rows: sum(a.rows, b.rows),
    plan: newest.plan ?? a.plan ?? b.plan,
    firstAt: Date.parse(a.firstAt) <= Date.parse(b.firstAt) ? a.firstAt : b.firstAt,
  }
}

/**
 * Adds what one process has seen, and forgets what is old, and what is neither among the worst nor among the newest. Rows are changed in
 * the order of their keys, and those that another process changes are not deleted, so that no two processes wait for each other in a circle.
 */
export async function saveSightings(database: Database, entries: readonly Sighting[]): Promise<void> {
  await runAlone(
    database,
    sql`insert into rung.sighting as known (fingerprint, kind, statement, site, route, module, count, total_ms, worst_ms, row_count,
        plan, first_at, last_at)
      select fingerprint, kind, statement, site, route, module, count, "totalMs", "worstMs", rows, plan, "firstAt", at
      from jsonb_to_recordset(${JSON.stringify(entries)}::text::jsonb) as fresh (fingerprint text, kind text, statement text, site text,
        route text, module text, count bigint, "totalMs" float8, "worstMs" float8, rows bigint, plan text, "firstAt" timestamptz,
        at timestamptz)
      order by fingerprint
      on conflict (fingerprint) do update set
        statement = excluded.statement, site = excluded.site, module = excluded.module,
        count = known.count + excluded.count,
        total_ms = known.total_ms + excluded.total_ms,
        worst_ms = greatest(known.worst_ms, excluded.worst_ms),
        row_count = known.row_count + excluded.row_count,
        plan = coalesce(excluded.plan, known.plan),
        first_at = least(known.first_at, excluded.first_at),
        last_at = greatest(known.last_at, excluded.last_at)`,
  )
  await runAlone(
    database,
    sql`with ranked as (
        select fingerprint, last_at,
          row_number() over (partition by kind order by total_ms desc nulls last, count desc, fingerprint) as by_weight,
          row_number() over (partition by kind order by last_at desc, fingerprint) as by_age
        from rung.sighting
      ), gone as (
        select fingerprint from rung.sighting where fingerprint in (
          select fingerprint from ranked where (by_weight > ${keptMax} and by_age > ${keptMax})
            or last_at < clock_timestamp() - ${`${sightingsKeptForMs} milliseconds`}::interval)
        for update skip locked
      )
      delete from rung.sighting where fingerprint in (select fingerprint from gone)`,
  )
}

/** Returns what all processes of the app have seen within this time, the newest first; nothing from a database that no app has used. */
export async function readSightings(database: Database, maxAgeMs = sightingsKeptForMs): Promise<Sighting[]> {
  const [known] = await runAlone<{ yes: boolean }>(
    database,
    sql`select to_regclass('rung.sighting') is not null as yes`,
  )
  if (!known!.yes) return []
  const rows = await runAlone<Sighting & { firstAt: Date; at: Date }>(
    database,
    sql`select fingerprint, kind, statement, count::float8 as count, site, route, module, total_ms as "totalMs", worst_ms as "worstMs",
        row_count::float8 as rows, plan, first_at as "firstAt", last_at as at
      from rung.sighting where last_at > clock_timestamp() - ${`${maxAgeMs} milliseconds`}::interval
      order by last_at desc, fingerprint`,
  )
  return rows.map((row) => ({ ...row, firstAt: row.firstAt.toISOString(), at: row.at.toISOString() }))
}
