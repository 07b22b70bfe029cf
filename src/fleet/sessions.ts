import { poolerUrl } from '../engines/pgbouncer/recipe.ts'
import { type Client, connectOnce } from '../engines/postgres/client.ts'
import { adminAt } from '../engines/postgres/server.ts'
import { everyAlone } from '../kernel/clock.ts'

/** What the sessions of a server of the database, or of the pooler, did during a stretch of time. */
export interface SessionUsage {
  /** Those that worked on a statement, on average. */
  active: number
  /** Of them, those that waited, by what for. */
  waiting: Readonly<Record<string, number>>
  /** The most at a time, and how many there may be. */
  connections?: { most: number; of: number }
}

interface Look {
  active: number
  waiting: Readonly<Record<string, number>>
  connections?: { most: number; of: number }
}

const lookEveryMs = 50

/**
 * Samples what sessions wait for, as the active session history of other databases does: of many looks, the share that sees a session wait is
 * the share of its time. A session that waits for its client is idle, and one that waits for nothing uses the CPU.
 * @returns what ends it, with what was seen; `undefined` if the server could not be asked
 */
export async function watchSessions(part: {
  name: string
  address: string
}): Promise<() => Promise<SessionUsage | undefined>> {
  const server = serverOf(part)
  const client = await server?.connect().catch(() => undefined)
  if (!server || !client) return async () => undefined
  const looks: Look[] = []
  async function look(): Promise<void> {
    const one = await server!.look(client!).catch(() => undefined) // a server that dies has no sessions
    if (one) looks.push(one)
  }
  const end = everyAlone(lookEveryMs, look)
  return async () => {
    await end()
    await look()
    await client.end().catch(() => {})
    return usageOf(looks)
  }
}

/** Returns the averages. Pure. */
function usageOf(looks: readonly Look[]): SessionUsage | undefined {
  const last = looks.at(-1)
  if (!last) return undefined
  const average = (of: (look: Look) => number) => looks.reduce((sum, one) => sum + of(one), 0) / looks.length
  const { connections } = last
  return {
    active: average(({ active }) => active),
    waiting: Object.fromEntries(
      Object.keys(last.waiting).map((name) => [name, average(({ waiting }) => waiting[name] ?? 0)]),
    ),
    ...(connections && {
      connections: { ...connections, most: Math.max(...looks.map((one) => one.connections?.most ?? 0)) },
    }),
  }
}

function serverOf({ name, address }: { name: string; address: string }) {
  if (/^postgres(-\d+)?$/.test(name)) return { connect: () => connectOnce(adminAt(address)), look: lookAtPostgres }
  const url = poolerUrl(address).replace('@/', '@/pgbouncer')
  if (name === 'pooler') return { connect: () => connectOnce({ url, pooled: true }), look: lookAtPooler }
  return undefined
}

/** Events: PostgreSQL documentation, "Wait Events". To commit, sessions wait for the one that writes the log to the disk. */
const sessionsStatement = `
  select count(*)::int as connections,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
      - current_setting('reserved_connections')::int as connections_max,
    count(*) filter (where state = 'active')::int as active,
    count(*) filter (where state = 'active' and wait_event_type = 'Lock')::int as locks,
    count(*) filter (where state = 'active' and (wait_event_type = 'IO' or wait_event = 'WALWrite'))::int as disk,
    count(*) filter (where state = 'active' and wait_event_type in ('LWLock', 'BufferPin') and wait_event <> 'WALWrite')::int as inner_locks,
    count(*) filter (where state = 'active' and wait_event = 'SyncRep')::int as replicas
  from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`

async function lookAtPostgres(client: Client): Promise<Look> {
  const [row] = (await client.query(sessionsStatement)).rows as Record<string, number>[]
  const { connections, connections_max, active, locks, disk, inner_locks, replicas } = row!
  return {
    active: active!,
    waiting: {
      locks: locks!,
      'the disk': disk!,
      'locks inside of Postgres': inner_locks!,
      'synchronous replicas': replicas!,
    },
    connections: { most: connections!, of: connections_max! },
  }
}

async function lookAtPooler(client: Client): Promise<Look> {
  const rows = (await client.query('show pools')).rows as {
    database: string
    cl_active: unknown
    cl_waiting: unknown
  }[]
  const sum = (of: (row: (typeof rows)[number]) => unknown) =>
    rows.filter(({ database }) => database !== 'pgbouncer').reduce((all, row) => all + Number(of(row)), 0)
  const waiting = sum(({ cl_waiting }) => cl_waiting)
  return { active: sum(({ cl_active }) => cl_active) + waiting, waiting: { 'a connection to Postgres': waiting } }
}
