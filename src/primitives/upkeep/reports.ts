import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { sql } from '../data/sql.ts'

/** What one process says of itself. */
export interface Report<Content> {
  /** `host:pid` */
  process: string
  at: Date
  content: Content
}

/** Replaces what this process has said before of this kind. */
export async function saveReport(database: Database, process: string, kind: string, content: unknown): Promise<void> {
  await runAlone(
    database,
    sql`insert into rung.report (process, kind, at, content)
      values (${process}, ${kind}, clock_timestamp(), ${JSON.stringify(content)}::text::jsonb)
      on conflict (process, kind) do update set at = excluded.at, content = excluded.content`,
  )
}

export async function removeReport(database: Database, process: string, kind: string): Promise<void> {
  await runAlone(database, sql`delete from rung.report where process = ${process} and kind = ${kind}`)
}

/** Returns the reports of one kind that are not older than this, the newest first; none from a database that no app has used. */
export async function readReports<Content>(
  database: Database,
  kind: string,
  maxAgeMs: number,
): Promise<Report<Content>[]> {
  const [known] = await runAlone<{ yes: boolean }>(database, sql`select to_regclass('rung.report') is not null as yes`)
  if (!known!.yes) return []
  return runAlone(
    database,
    sql`select process, at, content from rung.report
      where kind = ${kind} and at > clock_timestamp() - ${`${maxAgeMs} milliseconds`}::interval order by at desc, process`,
  )
}

/** Forgets older reports. Returns how many. */
export async function pruneReports(database: Database, olderThanMs: number): Promise<number> {
  const rows = await runAlone(
    database,
    sql`delete from rung.report where at < clock_timestamp() - ${`${olderThanMs} milliseconds`}::interval returning 1`,
  )
  return rows.length
}
