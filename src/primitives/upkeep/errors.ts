import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { sql } from '../data/sql.ts'

/** Errors of one group that one release of the app had. `Sample` describes the newest of them. */
export interface ErrorGroup<Sample> {
  fingerprint: string
  /** The id of the build, as in `rung deploys`. */
  release: string
  /** ISO 8601. */
  firstAt: string
  lastAt: string
  count: number
  /** Digests of the principals whose requests failed. */
  users: number[]
  sample: Sample
}

/** More users of one group are not told apart. */
export const errorUsersMax = 1_000
const groupsMax = 1_000

/**
 * Adds what one process has counted. In the order of the keys, so that two processes never wait for each other in a circle.
 * @param release `undefined`: that of the last deploy
 */
export async function saveErrors(
  database: Database,
  release: string | undefined,
  groups: readonly Omit<ErrorGroup<unknown>, 'release'>[],
): Promise<void> {
  await runAlone(
    database,
    sql`insert into rung.error as known (fingerprint, release, first_at, last_at, count, users, sample)
      select fingerprint,
        coalesce(${release ?? null}::text, (select build from rung.deploy order by id desc limit 1), 'unknown'),
        "firstAt", "lastAt", count, users, sample
      from jsonb_to_recordset(${JSON.stringify(groups)}::text::jsonb) as fresh (fingerprint text, "firstAt" timestamptz,
        "lastAt" timestamptz, count bigint, users int[], sample jsonb)
      order by fingerprint
      on conflict (fingerprint, release) do update set
        first_at = least(known.first_at, excluded.first_at),
        last_at = greatest(known.last_at, excluded.last_at),
        count = known.count + excluded.count,
        users = array(select distinct unnest(known.users || excluded.users) limit ${errorUsersMax}),
        sample = case when excluded.last_at >= known.last_at then excluded.sample else known.sample end`,
  )
}

/** Returns the groups that were seen within this time, the newest first; none from a database that no app has used. */
export async function readErrors<Sample>(database: Database, maxAgeMs: number): Promise<ErrorGroup<Sample>[]> {
  const [known] = await runAlone<{ yes: boolean }>(database, sql`select to_regclass('rung.error') is not null as yes`)
  if (!known!.yes) return []
  const rows = await runAlone<ErrorGroup<Sample> & { firstAt: Date; lastAt: Date }>(
    database,
    sql`select fingerprint, release, first_at as "firstAt", last_at as "lastAt", count::float8 as count, users, sample
      from rung.error where last_at > clock_timestamp() - ${`${maxAgeMs} milliseconds`}::interval
      order by last_at desc, fingerprint, release`,
  )
  return rows.map((row) => ({ ...row, firstAt: row.firstAt.toISOString(), lastAt: row.lastAt.toISOString() }))
}

/** Forgets groups that were not seen for this time, and all but the newest thousand. Returns how many. */
export async function pruneErrors(database: Database, olderThanMs: number): Promise<number> {
  const rows = await runAlone(
    database,
    sql`delete from rung.error where last_at < clock_timestamp() - ${`${olderThanMs} milliseconds`}::interval
      or (fingerprint, release) in (
        select fingerprint, release from rung.error order by last_at desc, fingerprint, release offset ${groupsMax})
      returning 1`,
  )
  return rows.length
}
