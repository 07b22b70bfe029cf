import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import type { Sql } from '../data/sql.ts'
import { sql } from '../data/sql.ts'
import type { Context } from '../jobs/items.ts'
import { contextOf } from '../jobs/items.ts'
import { type EventLog, type LogState, logQueue, type Mark, type Outbox, type Subscription } from './contract.ts'

/** Bytes of the payloads that are read at once. */
const bytesMax = 8 * 1024 ** 2

/**
 * The log as a table of the app's own Postgres, and an outbox that appends to it: one row for each event, whoever listens. Subscriptions are
 * those of `table`.
 */
export function tableEventLog(database: Database, table: Outbox): EventLog & Outbox {
  const run = <Row>(statement: Sql) => runAlone<Row>(database, statement)
  const source = database.name

  async function state(): Promise<LogState> {
    const [row] = await run<Omit<LogState, 'source'>>(sql`
      select log.n as last, log.sent,
        coalesce((select min(n) from rung.event where n is not null), log.n + 1) as first,
        (select count(*) from rung.event where n is null)::int as unnumbered,
        (select count(*) from rung.event where n > log.sent)::int as unsent,
        coalesce(extract(epoch from clock_timestamp() - least(
          (select at from rung.event where n is null order by id limit 1),
          (select at from rung.event where n > log.sent order by n limit 1))) * 1000, 0)::float8 as "oldestMs"
      from rung.event_log log`)
    return { source, ...row! }
  }

  return {
    publish(events, published) {
      const statement = sql`insert into rung.event (name, payload, key, context)
        select name, payload::json, key, context::json
        from unnest(${events.map(({ name }) => name)}::text[], ${events.map(({ payload }) => payload)}::text[],
          ${events.map(({ key }) => key ?? null)}::text[], ${events.map(contextOf)}::text[])
          with ordinality published (name, payload, key, context, at)
        order by at`
      return { statement, committed: () => published(new Set([logQueue])) }
    },

    async subscribe(wanted) {
      if (wanted.length === 0) return
      await table.subscribe(wanted)
      await run(sql`select rung.begin_marks(${source}, ${wanted.map(({ event }) => event)}::text[],
        ${wanted.map(({ group }) => group)}::text[], ${wanted.map(({ fromStart = false }) => fromStart)}::boolean[])`)
    },
    drop: table.drop,
    subscriptions: table.subscriptions,

    async number(max) {
      const [row] = await run<{ count: number }>(sql`select rung.number_events(${max}) as count`)
      return row!.count
    },

    async read(after, max) {
      const rows = await run<LoggedRow & Facts>(sql`
        with found as (
          select n, name, payload::text, key, context, sum(octet_length(payload::text)) over (order by n) as bytes
          from (select * from rung.event where n > ${after} order by n limit ${max}) one
        )
        select n, name, payload, key, context, history, place from (
          select rung.event_history() as history,
            left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '/' || pg_current_wal_insert_lsn() as place
        ) facts left join found on bytes <= greatest(${bytesMax}, (select min(bytes) from found)) order by n`)
      const { history, place } = rows[0]!
      const events = rows
        .filter(({ n }) => n !== null)
        .map(({ n, name, payload, key, context }) => ({
          n,
          name,
          payload,
          key: key ?? undefined,
          context: context ?? {},
        }))
      return { source, history, place, after, events }
    },

    state,

    async count(after) {
      const [row] = await run<{ count: number }>(
        sql`select count(*) as count from rung.event where n > ${after} or n is null`,
      )
      return row!.count
    },

    async sent(n) {
      await run(sql`update rung.event_log set sent = ${n} where sent < ${n}`)
    },

    async take({ source: of, history, after, events }) {
      const [row] = await run<{
        queues: string[]
      }>(sql`select rung.take_events(${of}, ${of === source ? history : null}, ${after},
        ${events.map(({ n }) => n)}::bigint[], ${events.map(({ name }) => name)}::text[],
        ${events.map(({ payload }) => payload)}::text[], ${events.map(({ key }) => key ?? null)}::text[],
        ${events.map(contextOf)}::text[]) as queues`)
      return new Set(row!.queues)
    },

    marks() {
      return run<Mark>(
        sql`select source, event, group_name as "group", n from rung.event_mark order by source, event, group_name`,
      )
    },

    async begin(of: string, wanted: readonly Subscription[], at: LogState) {
      await run(sql`insert into rung.event_mark (source, event, group_name, n)
        select ${of}, * from unnest(${wanted.map(({ event }) => event)}::text[], ${wanted.map(({ group }) => group)}::text[],
          ${wanted.map(({ fromStart }) => (fromStart ? at.first - 1 : at.last))}::bigint[])
        order by 2, 3 on conflict do nothing`)
    },

    async prune(upTo, olderThanMs, max) {
      const rows = await run(sql`
        delete from rung.event where n in (
          select n from rung.event where n <= ${upTo} and at < now() - ${`${olderThanMs} milliseconds`}::interval
          order by n limit ${max})
        returning 1`)
      return rows.length
    },
  }
}

interface Facts {
  history: string
  place: string
}

interface LoggedRow {
  n: number
  name: string
  payload: string
  key: string | null
  context: Context | null
}
