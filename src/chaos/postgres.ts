import { type Client, type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { appDatabase, appRole } from '../engines/postgres/recipe.ts'
import { adminAt } from '../engines/postgres/server.ts'
import { everyAlone } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Fault, type FleetPart, type Injected, noEffect, untilSeen } from './fault.ts'
import { processOf } from './parts.ts'

/**
 * Faults inside a server of the database that Rung runs. What a session holds (a transaction, a lock, its place among the connections)
 * ends with this process; only a paused replay outlives it.
 */

const terminate: Fault = {
  name: 'terminate',
  does: "ends all sessions of the app on a server (pg_terminate_backend), also the pooler's",
  shows: 'Some requests answer 503; the pools connect anew.',
  on: ['primary', 'replica'],
  lasts: false,
  inject: ({ part }) =>
    asAdmin(part, async (admin) => {
      const pids = await endSessions(admin)
      if (pids.length === 0) throw noEffect(`The app has no session on ${part.name} at this moment.`)
      await untilSeen(async () => {
        const { rowCount } = await admin.query('select 1 from pg_stat_activity where pid = any($1)', [pids])
        return rowCount === 0
      }, `Sessions on ${part.name} were terminated, and go on.`)
      return { did: `ended ${pids.length} ${pids.length === 1 ? 'session' : 'sessions'}` }
    }),
}

const exhaust: Fault = {
  name: 'exhaust',
  does: 'takes all connections of a server that are free, and those that become free',
  shows: 'What is connected goes on; new connections are refused (DATA_UNAVAILABLE).',
  on: ['primary', 'replica'],
  lasts: true,
  async inject({ part }) {
    processOf(part)
    const taken: Client[] = []
    const takeAll = async () => {
      for (;;) {
        try {
          taken.push(await connectOnce(asApp(part)))
        } catch (error) {
          if (isFull(error)) return
          throw error
        }
      }
    }
    const giveBack = () => Promise.allSettled(taken.map((client) => client.end()))
    try {
      await takeAll()
    } catch (error) {
      await giveBack()
      throw error
    }
    const endTaking = everyAlone(takeEveryMs, () => takeAll().catch(() => {})) // the server was restarted, for example
    return {
      did: `holds ${taken.length} connections, all that were free`,
      async release() {
        await endTaking()
        await giveBack()
      },
    }
  },
}

const takeEveryMs = 100
/** Of PostgreSQL's errors, "too_many_connections". Connections that are left are reserved for superusers then. */
const isFull = (error: unknown) => (error as { code?: string }).code === '53300'

const longTransaction: Fault = {
  name: 'long-transaction',
  does: 'leaves a transaction open that has read once',
  shows: 'Dead rows stay: tables and queues bloat for as long as it lasts. See: rung doctor',
  on: ['primary', 'replica'],
  lasts: true,
  inject: ({ part }) =>
    holding(part, async (session, pid) => {
      await session.query('begin isolation level repeatable read')
      await session.query('select 1')
      await untilSeen(
        () =>
          asAdmin(part, async (admin) => {
            const { rows } = await admin.query(
              'select 1 from pg_stat_activity where pid = $1 and backend_xmin is not null',
              [pid],
            )
            return rows.length === 1
          }),
        `The transaction on ${part.name} does not hold back vacuum.`,
      )
      return `session ${pid} holds a transaction open`
    }),
}

const busiest = 'busiest'

const lock: Fault = {
  name: 'lock',
  does: 'holds an exclusive lock on a table',
  shows: 'What uses it waits, then answers 503 DATA_LOCK_TIMEOUT. The rest goes on.',
  on: ['primary'],
  lasts: true,
  strength: { default: busiest, help: 'a table, such as notes.note' },
  inject: ({ part, strength }) =>
    holding(part, async (session, pid) => {
      const table = await tableCalled(session, strength)
      await session.query(`set lock_timeout = ${lockWithinMs}`)
      await session.query('begin')
      await session.query(`lock table ${table} in access exclusive mode`).catch((cause) => {
        throw noEffect(`The lock on ${table} was not granted within ${lockWithinMs / 1000} s.`, cause)
      })
      await untilSeen(
        () =>
          asAdmin(part, async (admin) => {
            const { rows } = await admin.query(
              `select 1 from pg_locks where pid = $1 and mode = 'AccessExclusiveLock' and granted`,
              [pid],
            )
            return rows.length > 0
          }),
        `The lock on ${table} is not held.`,
      )
      return `session ${pid} holds a lock on ${table}`
    }),
}

const lockWithinMs = 10_000

const pauseReplay: Fault = {
  name: 'pause-replay',
  does: 'makes a replica receive the log without showing it',
  shows: 'It lags more and more (rung ps); who has written reads from the primary.',
  on: ['replica'],
  lasts: true,
  async inject({ part }, undoBy) {
    processOf(part)
    await undoBy({ how: 'resume-replay', socketDir: part.address })
    return asAdmin(part, async (admin) => {
      await admin.query('select pg_wal_replay_pause()')
      await untilSeen(async () => {
        const { rows } = await admin.query('select pg_get_wal_replay_pause_state() as state')
        return (rows[0] as { state: string }).state === 'paused'
      }, `Replay on ${part.name} goes on.`)
      return { did: 'replay is paused' }
    })
  },
}

export const postgresFaults: readonly Fault[] = [terminate, exhaust, longTransaction, lock, pauseReplay]

/** A server that is away, or was restarted or promoted, replays again. */
export async function resumeReplay(socketDir: string): Promise<void> {
  const admin = await connectOnce(adminAt(socketDir)).catch((error) => {
    if (/^(ENOENT|ECONNREFUSED|57P03)$/.test((error as { code?: string }).code ?? '')) return
    throw error
  })
  await admin?.query('select case when pg_is_in_recovery() then pg_wal_replay_resume() end').finally(() => admin.end())
}

/** Ends all sessions of the app. @returns their processes */
export async function endSessions(admin: Client): Promise<number[]> {
  const { rows } = await admin.query(
    `select pid, pg_terminate_backend(pid) from pg_stat_activity where usename = $1 and backend_type = 'client backend'`,
    [appRole],
  )
  return rows.map(({ pid }: { pid: number }) => pid)
}

export async function asAdmin<T>(part: FleetPart, work: (admin: Client) => Promise<T>): Promise<T> {
  processOf(part)
  const admin = await connectOnce(adminOf(part))
  return work(admin).finally(() => admin.end())
}

const adminOf = ({ address }: FleetPart): ConnectionConfig => ({ ...adminAt(address), database: appDatabase })
const asApp = (part: FleetPart): ConnectionConfig => ({ ...adminOf(part), user: appRole })

/** Opens a session that holds something until it is released. */
async function holding(part: FleetPart, begin: (session: Client, pid: number) => Promise<string>): Promise<Injected> {
  processOf(part)
  const session = await connectOnce(adminOf(part))
  const release = () => session.end().catch(() => {}) // the server may have gone
  try {
    const { rows } = await session.query('select pg_backend_pid() as pid')
    return { did: await begin(session, (rows[0] as { pid: number }).pid), release }
  } catch (error) {
    await release()
    throw error
  }
}

/** Returns the quoted name of a table. @throws COMMAND_INVALID */
async function tableCalled(session: Client, name: string): Promise<string> {
  const { rows } = await session.query(
    name === busiest
      ? `select format('%I.%I', schemaname, relname) as name from pg_stat_user_tables where schemaname <> 'rung'
          order by coalesce(seq_scan, 0) + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd + n_tup_del desc, 1 limit 1`
      : {
          text: `select format('%I.%I', nspname, relname) as name from pg_class c join pg_namespace n on n.oid = relnamespace
            where c.oid = to_regclass($1) and relkind in ('r', 'p')`,
          values: [name],
        },
  )
  const [found] = rows as { name: string }[]
  if (found) return found.name
  throw new RungError('COMMAND_INVALID', `There is no table "${name}". Write it with its schema: --with notes.note`)
}
