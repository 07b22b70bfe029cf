import { sleep, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { type ConnectionConfig, connectOnce } from './client.ts'

/** A failover takes that long. */
const withinMs = 5_000
const againMs = 100

/**
 * Returns which of these servers is the primary now; of two that say so, the one that was promoted last. A single server is not asked.
 * @throws DATA_UNAVAILABLE if there is none for 5 s
 */
export async function findPrimary(servers: readonly ConnectionConfig[]): Promise<ConnectionConfig> {
  if (servers.length === 1) return servers[0]!
  for (const giveUpAt = systemClock.ticks() + withinMs; ; await sleep(againMs)) {
    const asked = await Promise.allSettled(servers.map(timelineOf))
    const [newest] = asked
      .flatMap((answer, index) =>
        answer.status === 'fulfilled' ? [{ timeline: answer.value, server: servers[index]! }] : [],
      )
      .filter(({ timeline }) => timeline > 0)
      .sort((a, b) => b.timeline - a.timeline)
    if (newest) return newest.server
    if (systemClock.ticks() <= giveUpAt) continue
    const cause = asked.find((answer) => answer.status === 'rejected')?.reason
    throw new RungError(
      'DATA_UNAVAILABLE',
      'No primary server of the database can be reached. Start it, or correct DATABASE_URL and DATABASE_READ_URL.',
      { cause },
    )
  }
}

/** 0 of a replica. */
async function timelineOf(server: ConnectionConfig): Promise<number> {
  const client = await connectOnce(server)
  const { rows } = await client
    .query(
      `select case when pg_is_in_recovery() then '0' else left(pg_walfile_name(pg_current_wal_lsn()), 8) end as timeline`,
    )
    .finally(() => client.end())
  return Number.parseInt((rows[0] as { timeline: string }).timeline, 16)
}
