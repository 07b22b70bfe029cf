import { parsePlace, timelineOf } from '../../kernel/position.ts'
import { ownDeadline, runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { sql } from '../data/sql.ts'
import type { Invalidation, InvalidationLog } from './contract.ts'

/**
 * The log in a table of the database itself. A mark is a place in the database's log and a snapshot: what is new since then are the rows of
 * transactions that the snapshot did not see, which began after it or were under way.
 */
export function tableLog(database: Database): InvalidationLog {
  return {
    append: (tags, appended) => ({
      statement: sql`insert into rung.invalidation (tags) values (${tags}) returning id`,
      positioned: true,
      committed: ([row], at) => appended(Number(row!.id), at),
    }),

    async since(mark, stir = false) {
      const [placeText, snapshot] = mark?.split(' ') ?? []
      const seen = snapshot === undefined ? sql`false` : notSeen(snapshot)
      const [row] = await runAlone<{ rows: [string, string[]][]; mark: string; place: string }>(
        database,
        sql`select pg_current_snapshot()::text as mark, ${stir ? recorded : sql.empty}
          left(pg_walfile_name(pg_current_wal_lsn()), 8) || '/' || pg_current_wal_lsn() as place,
          coalesce((select json_agg(json_build_array(id, tags)) from rung.invalidation where ${seen}), '[]') as rows`,
      )
      const rows = row!.rows.map(([id, tags]): Invalidation => ({ id: Number(id), tags }))
      const [known, at] = [parsePlace(placeText ?? ''), parsePlace(row!.place)]
      // A promoted or restored server has another timeline, a server whose files were put back an earlier end of the log.
      const isWhole = known === undefined || at === undefined || (timelineOf(known) === timelineOf(at) && known <= at)
      return { rows, mark: `${row!.place} ${row!.mark}`, at, isWhole }
    },

    shows: (place) => database.primaryShows(place, ownDeadline()),

    async trim(olderThanMs, max) {
      const gone = await runAlone(
        database,
        sql`delete from rung.invalidation where ctid = any(array(
          select ctid from rung.invalidation where at < now() - ${olderThanMs}::float8 * interval '1 millisecond'
          limit ${max} for update skip locked
        )) returning 1`,
      )
      return gone.length
    },
  }
}

/** A transaction with a number has a record of its end in the log. The background writes it out within 200 ms (`wal_writer_delay`). */
const recorded = sql`pg_current_xact_id(),`

/** `xmin:xmax:xip,…`: the first that was under way, the first that had not begun, all that were under way. */
function notSeen(mark: string) {
  const [, xmax, underWay] = mark.split(':')
  const begun = sql`xid >= ${xmax}::xid8`
  return underWay ? sql`(${begun} or xid = any(${underWay.split(',')}::xid8[]))` : begun
}
