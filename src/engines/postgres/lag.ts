import { sleep, systemClock } from '../../kernel/clock.ts'
import { type Client, connectOnce } from './client.ts'
import { adminAt } from './server.ts'

/** What a server of the database is at this moment. */
export interface ServerRole {
  role: 'primary' | 'replica'
  /** Of a replica, in ms: how long it takes to show what the primary had committed; undefined if the primary is unknown. */
  lagMs?: number
}

const lookEveryMs = 5

/**
 * Asks Rung's own servers for their roles, and measures how late the replicas are, for at most `withinMs`. A server that does not answer
 * is left out.
 * @param socketDirs by the names of the servers
 */
export async function rolesOf(
  socketDirs: ReadonlyMap<string, string>,
  withinMs: number,
): Promise<Map<string, ServerRole>> {
  const roles = new Map<string, ServerRole>()
  const clients: Client[] = []
  const asked = await Promise.allSettled(
    [...socketDirs].map(async ([name, socketDir]) => {
      const client = await connectOnce(adminAt(socketDir)) // at most 5 s
      clients.push(client)
      const { rows } = await client.query('select pg_is_in_recovery() as replica')
      const { replica } = rows[0] as { replica: boolean }
      roles.set(name, { role: replica ? 'replica' : 'primary' })
      return { name, client, replica }
    }),
  )
  try {
    const servers = asked.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    const primary = servers.find(({ replica }) => !replica)
    if (!primary) return roles
    const lsn = await endOf(primary.client).catch(() => undefined)
    if (lsn === undefined) return roles // it has just been lost
    const measured = servers
      .filter(({ replica }) => replica)
      .map(async ({ name, client }) => {
        roles.set(name, { role: 'replica', lagMs: await lagBehind(client, lsn, withinMs) })
      })
    await Promise.allSettled(measured)
    return roles
  } finally {
    await Promise.allSettled(clients.map((client) => client.end()))
  }
}

async function endOf(primary: Client): Promise<string> {
  const { rows } = await primary.query('select pg_current_wal_flush_lsn()::text as lsn')
  return (rows[0] as { lsn: string }).lsn
}

/** A replica that does not get there in time is at least so late as what it shows is old. */
async function lagBehind(replica: Client, lsn: string, withinMs: number): Promise<number> {
  const began = systemClock.ticks()
  for (;;) {
    const { rows } = await replica.query(
      `select pg_last_wal_replay_lsn() >= $1::pg_lsn as there,
        extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8 * 1000 as age`,
      [lsn],
    )
    const { there, age } = rows[0] as { there: boolean; age: number | null }
    const waitedMs = Math.round(systemClock.ticks() - began)
    if (there) return waitedMs
    if (waitedMs > withinMs) return Math.round(Math.max(waitedMs, age ?? 0))
    await sleep(lookEveryMs)
  }
}
