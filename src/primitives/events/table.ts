import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { sql } from '../data/sql.ts'
import { contextOf } from '../jobs/items.ts'
import { type Outbox, queueOfGroup, type SubscriptionRow } from './contract.ts'

/**
 * Deliveries as rows of the job table. The fan-out is a join with the subscriptions in the database, not with what the
 * publishing process knows: while two versions of an app run beside each other, the older one also publishes to the newer
 * one's groups.
 */
export function tableOutbox(database: Database): Outbox {
  return {
    publish(events, published) {
      const [first] = events
      const statement =
        events.length === 1
          ? sql`insert into rung.job (queue, name, payload, key, priority, run_at, attempts_max, keep, context)
              select queue, event, ${first!.payload}::json, ${first!.key ?? null}, 1, now(), attempts_max, false, ${contextOf(first!)}::json
              from rung.subscription where event = ${first!.name}
              returning queue`
          : sql`insert into rung.job (queue, name, payload, key, priority, run_at, attempts_max, keep, context)
              select queue, event, payload::json, key, 1, now(), attempts_max, false, context::json
              from unnest(${events.map(({ name }) => name)}::text[], ${events.map(({ payload }) => payload)}::text[],
                ${events.map(({ key }) => key ?? null)}::text[], ${events.map(contextOf)}::text[])
                with ordinality published (event, payload, key, context, at)
              join rung.subscription using (event)
              order by at
              returning queue`
      return {
        statement,
        committed(rows) {
          if (rows.length > 0) published(new Set(rows.map(({ queue }) => queue as string)))
        },
      }
    },

    async subscribe(subscriptions) {
      if (subscriptions.length === 0) return
      await runAlone(
        database,
        sql`
          insert into rung.subscription (event, group_name, queue, attempts_max)
          select * from unnest(${subscriptions.map(({ event }) => event)}::text[],
            ${subscriptions.map(({ group }) => group)}::text[],
            ${subscriptions.map(({ group }) => queueOfGroup(group))}::text[],
            ${subscriptions.map(({ attemptsMax }) => attemptsMax)}::int[])
          order by 1, 2
          on conflict (event, group_name) do update set seen_at = now(), attempts_max = excluded.attempts_max`,
      )
    },

    async drop(group) {
      const [row] = await runAlone<{ count: number }>(database, sql`select rung.drop_group(${group}) as count`)
      return row!.count
    },

    subscriptions() {
      return runAlone<SubscriptionRow>(
        database,
        sql`select event, group_name as "group", seen_at as "seenAt" from rung.subscription order by group_name, event`,
      )
    },
  }
}
