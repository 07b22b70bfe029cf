import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { type Client, type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import type { OwnedPostgres } from '../engines/postgres/embedded.ts'
import { replicaNames } from '../engines/postgres/recipe.ts'
import { type Standby, startStandby } from '../engines/postgres/standby.ts'
import { machineTime, sleep } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { type Place, parsePlace, placeSql } from '../kernel/position.ts'
import { addJsonLine, readJsonLines } from './json-lines.ts'
import type { LateRead } from './lag-report.ts'

/** How late a replica shows what was committed, ms; `paused`: it shows nothing new. */
export type Lag = number | 'paused'

/** What `rung test` and the processes of the tests know of a late replica, in a file. */
interface Facts {
  lag: Lag
  /** Both with the superuser, who may hold the replica back. */
  primary: ConnectionConfig
  replica: ConnectionConfig
}

const factsIn = (dir: string) => path.join(dir, 'late-replica.json')
const readsIn = (dir: string) => path.join(dir, 'late-reads.jsonl')

/** Starts a replica of the test server in its folder. Test processes find it by that folder, and hold it back. */
export async function startLateReplica(
  server: OwnedPostgres,
  dir: string,
  connectionsMax: number,
  lag: Lag,
): Promise<Standby> {
  const [name] = replicaNames(1)
  const primary = { ...server.adminConnection, database: 'postgres' }
  const standby = await startStandby({
    name: name!,
    root: path.join(dir, name!),
    primary: () => ({ dataFolder: server.dataDir.postgres, socketDir: primary.host! }),
    connectionsMax,
    throwaway: true,
    endsWithOwner: true,
  })
  const facts: Facts = { lag, primary, replica: { ...standby.adminConnection, database: 'postgres' } }
  writeFileSync(factsIn(dir), JSON.stringify(facts), { mode: 0o600 })
  writeFileSync(readsIn(dir), '', { mode: 0o600 })
  return standby
}

/** Returns what the processes of the tests have noted. */
export function lateReadsIn(dir: string): LateRead[] {
  return readJsonLines(readsIn(dir))
}

/** The late replica, for a process of the tests. */
export interface LateReplica {
  readonly lag: Lag
  /** Returns the address of a database there, for the app's role. */
  url(database: string): string
  /**
   * Lets it show everything that is committed by now, and holds it back again.
   * @param isRead whether the app reads from it
   * @returns a place that it shows
   * @throws TEST_DATABASE
   */
  catchUp(isRead: () => Promise<boolean>): Promise<Place>
  note(read: LateRead): void
}

/** Without other work it takes some milliseconds. */
const catchUpMsMax = 60_000
/** Any number: one process at a time lets the replica go. */
const lockKey = 7_261_003

/** @param dir the setting `process.testReplica` */
export function lateReplica(dir: string): LateReplica {
  const { lag, primary, replica } = JSON.parse(readFileSync(factsIn(dir), 'utf8')) as Facts
  return {
    lag,
    url: (database) => `postgres://app@/${database}?host=${encodeURIComponent(replica.host!)}`,
    async catchUp(isRead) {
      const both: Client[] = []
      try {
        both.push(await connectOnce(primary), await connectOnce(replica))
        const [onPrimary, onReplica] = both as [Client, Client]
        await onPrimary.query('select pg_advisory_lock($1)', [lockKey]) // it ends with the session
        await setLag(onReplica, 0)
        try {
          return await untilShown(onPrimary, onReplica, isRead)
        } finally {
          await setLag(onReplica, lag)
        }
      } catch (cause) {
        throw new RungError(
          'TEST_DATABASE',
          `The late replica does not follow the test server (${messageOf(cause)}). Run the tests again; without --lag no replica is needed.`,
          { cause },
        )
      } finally {
        await Promise.all(both.map((client) => client.end()))
      }
    },
    note: (read) => addJsonLine(readsIn(dir), read),
  }
}

/** Resolves when the server goes by it. */
async function setLag(replica: Client, lag: Lag): Promise<void> {
  if (lag === 'paused') return void (await replica.query('select pg_wal_replay_pause()'))
  const isSet = async () =>
    (await replica.query(`select setting from pg_settings where name = 'recovery_min_apply_delay'`)).rows[0].setting ===
    String(lag)
  if (!(await isSet())) {
    await replica.query(`alter system set recovery_min_apply_delay = '${lag}ms'`)
    await replica.query('select pg_reload_conf()')
    while (!(await isSet())) await sleep(1)
  }
  await replica.query('select pg_wal_replay_resume()')
}

async function untilShown(primary: Client, replica: Client, isRead: () => Promise<boolean>): Promise<Place> {
  const lsn = 'pg_current_wal_flush_lsn()' // every commit is flushed
  const { rows } = await primary.query(`select ${lsn}::text as lsn, ${placeSql(lsn)} as place`)
  const shown = async () =>
    (await replica.query('select pg_last_wal_replay_lsn() >= $1::pg_lsn as shown', [rows[0].lsn])).rows[0].shown
  const giveUpAt = machineTime.ticks() + catchUpMsMax
  while (!((await shown()) && (await isRead()))) {
    if (machineTime.ticks() > giveUpAt) throw new Error(`it has not caught up within ${catchUpMsMax / 1_000} s`)
    await sleep(1)
  }
  return parsePlace(rows[0].place)!
}
