import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { type Sql, sql } from '../data/sql.ts'
import type { Answer, Records } from './contract.ts'

interface ReservedRow extends Answer {
  state: 'held' | 'in-flight' | 'other-payload' | 'answered'
  token: number
  life: string
  steps: Uint8Array[]
  databases: string[]
  wait_ms: number
}

/** Records in a table of the app's own Postgres: a step rides the commit because it is the same commit. */
export function tableRecords(database: Database): Records {
  const run = <Row>(statement: Sql) => runAlone<Row>(database, statement)

  return {
    async reserve({ key, fingerprint, leaseMs, keepMs }) {
      const [row] = await run<ReservedRow>(
        sql`select * from rung.reserve_idempotency(${key}, ${fingerprint}, ${ms(leaseMs)}, ${ms(keepMs)})`,
      )
      const { state, token, life, steps, databases, wait_ms: waitMs, status, headers, body } = row!
      if (state === 'held') return { state, token, life, steps, databases }
      if (state === 'in-flight') return { state, waitMs }
      return state === 'answered' ? { state, answer: { status, headers, body } } : { state }
    },

    async note({ key, token }, other) {
      const rows = await run(sql`
        update rung.idempotency set databases = array_append(databases, ${other}::text)
        where key = ${key} and token = ${token} and status is null returning 1`)
      return rows.length === 1
    },

    async reserveUnder({ key, token }, { fingerprint, leaseMs, keepMs }) {
      const [row] = await run<{ steps: Uint8Array[] | null }>(sql`
        select rung.reserve_idempotency_under(${key}, ${token}, ${fingerprint}, ${ms(leaseMs)}, ${ms(keepMs)}) steps`)
      return row!.steps ?? undefined
    },

    step({ key, token }, value) {
      return sql`
        with kept as (
          update rung.idempotency set steps = steps || ${value}::bytea
          where key = ${key} and token = ${token} and status is null returning 1
        )
        select rung.expect(count(*) = 1) from kept`
    },

    async finish({ key, token }, { status, headers, body }) {
      const rows = await run(sql`
        update rung.idempotency set status = ${status}, headers = ${JSON.stringify(headers)}, body = ${body},
          lease_until = null, steps = '{}'
        where key = ${key} and token = ${token} and status is null returning 1`)
      return rows.length === 1
    },

    async release({ key, token }) {
      await run(sql`select rung.release_idempotency(${key}, ${token})`)
    },

    async extend(holdings, leaseMs) {
      await run(sql`
        update rung.idempotency r set lease_until = clock_timestamp() + ${ms(leaseMs)}::interval
        from unnest(${holdings.map(({ key }) => key)}::bytea[], ${holdings.map(({ token }) => token)}::bigint[]) asked (key, token)
        where r.key = asked.key and r.token = asked.token and status is null`)
    },

    async prune(max) {
      const rows = await run(sql`
        delete from rung.idempotency where key in (
          select key from rung.idempotency
          where expires_at < clock_timestamp() and (lease_until is null or lease_until < clock_timestamp())
          order by expires_at limit ${max} for update skip locked
        ) returning 1`)
      return rows.length
    },
  }
}

function ms(value: number): string {
  return `${value} milliseconds`
}
