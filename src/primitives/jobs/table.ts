import { runAlone, withOwnConnection } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import type { Ride } from '../data/rides.ts'
import { compile, type Sql, sql } from '../data/sql.ts'
import type { Queue } from './contract.ts'
import {
  contextOf,
  type Extended,
  type Item,
  isGoverned,
  type Listed,
  type NewItem,
  type Outcome,
  type QueueCount,
} from './items.ts'

type Rows = readonly Record<string, unknown>[]

/** Queues as a table of the app's own Postgres: pushing rides the commit because it is the same commit. */
export function tableQueue(database: Database): Queue {
  const run = <Row>(statement: Sql) => runAlone<Row>(database, statement)

  return {
    push(items) {
      const plain = items.filter(({ unique }) => unique === undefined)
      const unique = items.filter((item) => item.unique !== undefined)
      return [...(plain.length > 0 ? [pushPlain(plain)] : []), ...unique.map(pushUnique)]
    },

    async claim(asks, worker, leaseMs) {
      const governed = asks.filter(isGoverned)
      const free = asks.filter((ask) => !isGoverned(ask))
      const statements = governed.map(
        ({ queue, n, ordered, perKeyMax = null, fleetMax = null }) => sql<Item>`
          select * from rung.hold(rung.governed_jobs(${queue}, ${n}, ${ordered}, ${perKeyMax}, ${fleetMax}), ${worker}, ${ms(leaseMs)})`,
      )
      if (free.length > 0) {
        const [queues, counts] = [free.map(({ queue }) => queue), free.map(({ n }) => n)]
        statements.push(
          sql<Item>`select * from rung.hold(rung.free_jobs(${queues}, ${counts}), ${worker}, ${ms(leaseMs)})`,
        )
      }
      return withOwnConnection(database, async (connection) => {
        const results = await Promise.allSettled(statements.map((statement) => connection.run(compile(statement))))
        const items = results.flatMap((result) => (result.status === 'fulfilled' ? result.value.rows : []) as never[])
        // What was claimed must be known, or it would lie still until its lease ends.
        const failed = results.find((result) => result.status === 'rejected')
        if (failed && items.length === 0) throw failed.reason
        return items.map(toItem)
      })
    },

    async extend(held, leaseMs) {
      return run<Extended>(sql`
        update rung.job set lease_until = clock_timestamp() + ${ms(leaseMs)}::interval,
          progress = coalesce(asked.progress::json, job.progress)
        from unnest(${held.map(({ id }) => id)}::bigint[], ${held.map(({ token }) => token)}::int[],
          ${held.map(({ progress }) => toJson(progress))}::text[]) asked (id, token, progress)
        where job.id = asked.id and job.token = asked.token and job.lease_until is not null
        returning job.id, job.cancelled`)
    },

    async settle(outcomes) {
      const done = new Set<number>()
      for (const statement of settlements(outcomes))
        for (const { id } of await run<{ id: number }>(statement)) done.add(id)
      return done
    },

    fence({ id, token }, done) {
      return done
        ? sql`select rung.expect(count(*) = 1) from rung.end_claims(${[id]}, ${[token]}, false, ${[null]}::text[])`
        : sql`select rung.expect(exists (
            select from rung.job where id = ${id} and token = ${token} and lease_until is not null for share))`
    },

    async reap(keepMs) {
      const rows = await run(sql`
        update rung.job set lease_until = null, worker = null, failures = failures + 1, error = 'the worker vanished',
          run_at = now(), dead_at = case when failures + 1 >= attempts_max then now() end
        where id in (
          select id from rung.job where lease_until < clock_timestamp() order by id limit 1000 for update skip locked
        ) and lease_until < clock_timestamp()
        returning id`)
      await run(sql`
        delete from rung.job_ended where id in (
          select id from rung.job_ended where ended_at < now() - ${ms(keepMs)}::interval order by ended_at limit 1000)`)
      return rows.length
    },

    count() {
      return run<QueueCount>(sql`
        select queue, count(*) filter (where dead_at is null and lease_until is null and run_at <= now())::int as waiting,
          count(*) filter (where dead_at is null and lease_until is null and run_at > now())::int as delayed,
          count(*) filter (where lease_until is not null)::int as running,
          count(*) filter (where dead_at is not null)::int as dead,
          coalesce(extract(epoch from now() - min(greatest(run_at, created_at))
            filter (where dead_at is null and lease_until is null and run_at <= now())) * 1000, 0)::float8 as "oldestWaitMs"
        from rung.job group by queue order by queue`)
    },

    list({ ids = null, queues = null, ofEvents = null, state = null, limit }) {
      return run<Listed>(sql`
        select * from (
          select id, queue, name, ${stateOf} as state, key, payload, failures, attempts_max, error, progress, worker,
            created_at, run_at, dead_at as ended_at
          from rung.job
          union all
          select id, queue, name, case when cancelled then 'cancelled' else 'done' end, key, payload, failures,
            attempts_max, null, progress, worker, created_at, null, ended_at
          from rung.job_ended
        ) item
        where (${ids}::bigint[] is null or id = any(${ids})) and (${queues}::text[] is null or queue = any(${queues}))
          and (${ofEvents}::boolean is null or starts_with(queue, 'event:') = ${ofEvents})
          and (${state}::text is null or state = ${state})
        order by id desc limit ${limit}`)
    },

    async change(ids, how) {
      if (how === 'retry') {
        const rows = await run(sql`
          update rung.job set dead_at = null, run_at = now(), cancelled = false,
            failures = case when dead_at is null then failures else 0 end
          where id = any(${ids}) and lease_until is null returning id`)
        return rows.length
      }
      const gone = await run(sql`delete from rung.job where id = any(${ids}) and lease_until is null returning id`)
      const told = await run(sql`
        update rung.job set cancelled = true where id = any(${ids}) and lease_until is not null returning id`)
      return gone.length + told.length
    },
  }
}

const stateOf = sql`case when dead_at is not null then 'dead' when lease_until is not null then 'running'
  when run_at > now() then 'delayed' else 'waiting' end`

function ms(value: number): string {
  return `${value} milliseconds`
}

/** As Postgres writes it: the client would quote each of them, and that is a tenth of what a batch costs here. */
function numbers(values: readonly number[]): string {
  return `{${values.join()}}`
}

function toJson(value: unknown): string | null {
  return value === undefined ? null : JSON.stringify(value)
}

function pushPlain(items: readonly NewItem[]): Ride {
  const [first] = items
  const statement =
    items.length === 1
      ? sql`insert into rung.job (queue, name, payload, key, priority, run_at, attempts_max, keep, context)
          values (${first!.queue}, ${first!.name}, ${first!.payload}, ${first!.key ?? null}, ${first!.priority},
            now() + ${ms(first!.delayMs)}::interval, ${first!.attemptsMax}, ${first!.keep}, ${contextOf(first!)})
          returning id`
      : sql`insert into rung.job (queue, name, payload, key, priority, run_at, attempts_max, keep, context)
          select queue, name, payload::json, key, priority, now() + delay_ms * interval '1 ms', attempts_max, keep, context::json
          from unnest(${items.map(({ queue }) => queue)}::text[], ${items.map(({ name }) => name)}::text[],
            ${items.map(({ payload }) => payload)}::text[], ${items.map(({ key }) => key ?? null)}::text[],
            ${items.map(({ priority }) => priority)}::smallint[], ${items.map(({ delayMs }) => delayMs)}::float8[],
            ${items.map(({ attemptsMax }) => attemptsMax)}::int[], ${items.map(({ keep }) => keep)}::boolean[],
            ${items.map(contextOf)}::text[])
            with ordinality item (queue, name, payload, key, priority, delay_ms, attempts_max, keep, context, at)
          order by at
          returning id`
  return {
    statement,
    committed(rows: Rows) {
      // The numbers were given out in the order of the items.
      const ids = rows.map(({ id }) => id as number).sort((a, b) => a - b)
      for (const [index, { ref }] of items.entries()) if (ref) ref.id = ids[index]!
    },
  }
}

function pushUnique(item: NewItem): Ride {
  const { queue, name, payload, key = null, priority, delayMs, attemptsMax, keep, unique, ref } = item
  return {
    statement: sql`
      with pushed as (
        insert into rung.job (queue, name, payload, key, priority, run_at, attempts_max, keep, context, unique_key)
        values (${queue}, ${name}, ${payload}, ${key}, ${priority}, now() + ${ms(delayMs)}::interval, ${attemptsMax},
          ${keep}, ${contextOf(item)}, ${unique})
        on conflict (queue, unique_key) where unique_key is not null and dead_at is null do nothing
        returning id
      )
      select id from pushed
      union all
      select id from rung.job
      where queue = ${queue} and unique_key = ${unique} and dead_at is null and not exists (select from pushed)`,
    committed([row]: Rows) {
      if (ref && row) ref.id = row.id as number
    },
  }
}

function* settlements(outcomes: readonly Outcome[]): Generator<Sql> {
  const of = <Kind extends Outcome['kind']>(kind: Kind) =>
    outcomes.filter((outcome): outcome is Extract<Outcome, { kind: Kind }> => outcome.kind === kind)
  const held = (list: readonly Outcome[]) =>
    sql`unnest(${numbers(list.map(({ id }) => id))}::bigint[], ${numbers(list.map(({ token }) => token))}::int[]`
  const still = sql`job.id = settled.id and job.token = settled.token and job.lease_until is not null`
  for (const [list, cancelled] of [
    [of('done'), false],
    [of('cancelled'), true],
  ] as const) {
    if (list.length === 0) continue
    const progress = list.some((outcome) => outcome.kind === 'done' && outcome.progress)
      ? list.map((outcome) => (outcome.kind === 'done' ? toJson(outcome.progress) : null))
      : null
    yield sql`select id from rung.end_claims(${numbers(list.map(({ id }) => id))},
      ${numbers(list.map(({ token }) => token))}, ${cancelled}, ${progress}::text[]) ended (id)`
  }
  const retry = of('retry')
  if (retry.length > 0) {
    yield sql`update rung.job set lease_until = null, worker = null, failures = failures + 1, error = settled.error,
        run_at = clock_timestamp() + settled.delay_ms * interval '1 ms'
      from ${held(retry)}, ${retry.map(({ delayMs }) => delayMs)}::float8[], ${retry.map(({ error }) => error)}::text[])
        settled (id, token, delay_ms, error)
      where ${still} returning job.id`
  }
  const dead = of('dead')
  if (dead.length > 0) {
    yield sql`update rung.job set lease_until = null, worker = null, failures = failures + 1, error = settled.error,
        dead_at = clock_timestamp()
      from ${held(dead)}, ${dead.map(({ error }) => error)}::text[]) settled (id, token, error)
      where ${still} returning job.id`
  }
  const released = of('release')
  if (released.length > 0) {
    yield sql`update rung.job set lease_until = null, worker = null, error = coalesce(settled.error, job.error),
        run_at = case when settled.delay_ms = 0 then run_at
          else clock_timestamp() + settled.delay_ms * interval '1 ms' end
      from ${held(released)}, ${released.map(({ delayMs }) => delayMs)}::float8[],
        ${released.map(({ error }) => error ?? null)}::text[]) settled (id, token, delay_ms, error)
      where ${still} returning job.id`
  }
}

interface ClaimedRow extends Omit<Item, 'attemptsMax' | 'waitedMs'> {
  attempts_max: number
  waited_ms: number
  pushed_at: string
}

function toItem({ attempts_max: attemptsMax, waited_ms: waitedMs, pushed_at: pushedAt, ...row }: ClaimedRow): Item {
  return { ...row, attemptsMax, waitedMs, pushedAt }
}
