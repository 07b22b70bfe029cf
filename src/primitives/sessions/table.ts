import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { type Sql, sql } from '../data/sql.ts'
import type { ChangedSession, FoundSession, SessionInfo, SessionStore } from './contract.ts'

type InfoRow = Omit<SessionInfo, 'plan'> & { plan: string | null }
type FoundRow = InfoRow & Omit<FoundSession, 'session'>

/** Sessions in a table of the app's own Postgres. */
export function tableSessions(database: Database): SessionStore {
  const run = <Row>(statement: Sql) => runAlone<Row>(database, statement)

  return {
    async create({ id, digest, principal, plan = null, lifetimeMs }) {
      await run(sql`
        insert into rung.session (id, digest, principal, plan, expires_at)
        values (${id}, ${digest}, ${principal}, ${plan}, clock_timestamp() + ${ms(lifetimeMs)}::interval)`)
    },

    async find(digest) {
      const [row] = await run<FoundRow>(sql`
        select ${info}, case when digest = ${digest} then 'current' when next_digest = ${digest} then 'next' else 'previous' end as as,
          ${since(sql`seen_at`)} as "idleMs", ${since(sql`rotated_at`)} as "secretAgeMs",
          -${since(sql`expires_at`)} as "leftMs", coalesce(-${since(sql`previous_until`)}, 0) as "graceMs"
        from rung.session
        where (digest = ${digest} or next_digest = ${digest} or previous_digest = ${digest}) and expires_at > clock_timestamp()`)
      if (!row) return undefined
      const { as, idleMs, secretAgeMs, leftMs, graceMs, ...session } = row
      return { session: toInfo(session), as, idleMs, secretAgeMs, leftMs, graceMs }
    },

    touch: (id) =>
      run<ChangedSession>(
        sql`update rung.session set seen_at = clock_timestamp() where id = ${id} returning ${changed}`,
      ),

    async announce(id, next) {
      await run(sql`
        update rung.session set next_digest = ${next}
        where id = ${id} and next_digest is distinct from ${next} and digest <> ${next}`)
    },

    promote: (id, next, graceMs) =>
      run<ChangedSession>(sql`
        update rung.session set previous_digest = digest, previous_until = clock_timestamp() + ${ms(graceMs)}::interval,
          digest = next_digest, next_digest = null, rotated_at = clock_timestamp()
        where id = ${id} and next_digest = ${next} returning ${changed}`),

    revoke: (ids) => run<ChangedSession>(sql`delete from rung.session where id = any(${ids}) returning ${changed}`),

    revokeAll: (principal) =>
      run<ChangedSession>(sql`delete from rung.session where principal = ${principal} returning ${changed}`),

    async list(principal) {
      const rows = await run<InfoRow>(sql`
        select ${info} from rung.session where principal = ${principal} and expires_at > clock_timestamp() order by created_at, id`)
      return rows.map(toInfo)
    },

    async prune(idleMs, max) {
      const rows = await run(sql`
        delete from rung.session where id in (
          select id from rung.session
          where expires_at < clock_timestamp() or seen_at < clock_timestamp() - ${ms(idleMs)}::interval
          limit ${max} for update skip locked
        ) returning 1`)
      return rows.length
    },
  }
}

/** Also a secret that a promotion has just replaced: it is the previous one now. */
const changed = sql`id, array_remove(array[digest, next_digest, previous_digest], null) as digests`

const info = sql`id, principal, plan, created_at as "createdAt", seen_at as "seenAt"`

function since(time: Sql): Sql {
  return sql`(extract(epoch from clock_timestamp() - ${time}) * 1000)::float8`
}

function toInfo({ plan, ...rest }: InfoRow): SessionInfo {
  return { ...rest, plan: plan ?? undefined }
}

function ms(value: number): string {
  return `${value} milliseconds`
}
