import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { sql } from '../data/sql.ts'
import type { ForeignClaims } from './contract.ts'

export function tableForeignClaims(database: Database): ForeignClaims {
  return {
    async begin({ source, id, pushedAt, token }) {
      const [row] = await runAlone<{ done: boolean; token: number }>(
        database,
        sql`insert into rung.foreign_claim as claim (source, item, pushed_at, token)
          values (${source}, ${id}, ${pushedAt}::timestamptz, ${token})
          on conflict (source, item, pushed_at) do update set token = greatest(claim.token, excluded.token), at = now()
          returning done, token`,
      )
      if (row!.done) return 'done'
      return row!.token > token ? 'later' : 'open'
    },

    fence({ source, id, pushedAt, token }, done) {
      return sql`
        with held as (
          update rung.foreign_claim set done = ${done}
          where source = ${source} and item = ${id} and pushed_at = ${pushedAt}::timestamptz and token = ${token} and not done
          returning 1
        )
        select rung.expect(count(*) = 1) from held`
    },

    async prune(olderThanMs, max) {
      const rows = await runAlone(
        database,
        sql`delete from rung.foreign_claim where (source, item, pushed_at) in (
            select source, item, pushed_at from rung.foreign_claim where at < now() - ${`${olderThanMs} milliseconds`}::interval
            limit ${max} for update skip locked
          ) returning 1`,
      )
      return rows.length
    },
  }
}
