import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { sql } from '../data/sql.ts'
import type { Lease } from './contract.ts'

/** A lease as a row of the database that it is for. */
export function tableLease(database: Database, name: string): Lease {
  return {
    async hold(holder, forMs) {
      const rows = await runAlone(
        database,
        sql`insert into rung.lease as lease (name, holder, held_until)
          values (${name}, ${holder}, clock_timestamp() + ${`${forMs} milliseconds`}::interval)
          on conflict (name) do update set holder = excluded.holder, held_until = excluded.held_until
          where lease.holder = excluded.holder or lease.held_until < clock_timestamp()
          returning 1`,
      )
      return rows.length === 1
    },

    async release(holder) {
      await runAlone(database, sql`delete from rung.lease where name = ${name} and holder = ${holder}`)
    },
  }
}
