import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, writeFile } from 'node:fs/promises'
import { tmpdir, totalmem } from 'node:os'
import path from 'node:path'
import { findBinaries, findPostgresLauncher } from '../../src/engines/postgres/binaries.ts'
import { type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import { startEmbedded } from '../../src/engines/postgres/embedded.ts'
import { serverArgs, socketDirFor, socketPort } from '../../src/engines/postgres/recipe.ts'
import { parsePlace } from '../../src/kernel/position.ts'
import type { Connection, Database, Result, Statement } from '../../src/primitives/data/contract.ts'
import { askPlace, placeIn } from '../../src/primitives/data/place.ts'
import { until } from './process.ts'

const connectionsMax = 100

/** A primary and a standby that streams from it, both real. */
export interface Pair {
  primary: ConnectionConfig
  standby: ConnectionConfig
  /** The standby receives the log and shows nothing of it until `resume`. */
  pause(): Promise<void>
  /** Resolves when the standby shows everything that the primary had committed. */
  resume(): Promise<void>
  stop(): Promise<void>
}

/** Starts a pair in a folder. */
export async function startPair(dir: string): Promise<Pair> {
  const server = await startEmbedded({ root: path.join(dir, 'primary'), connectionsMax })
  const root = path.join(dir, 'standby')
  const data = path.join(root, 'postgres')
  await mkdir(root, { recursive: true })
  const admin = { ...server.adminConnection, database: 'postgres' }
  // The low-level backup: https://www.postgresql.org/docs/17/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
  const backup = await connectOnce(admin)
  await backup.query(`select pg_backup_start('standby', true)`)
  const left = new Set(['postmaster.pid', 'postmaster.opts'])
  await cp(path.join(dir, 'primary', 'postgres'), data, {
    recursive: true,
    filter: (source) => !left.has(path.basename(source)),
  })
  const { rows } = await backup.query('select labelfile from pg_backup_stop(false)')
  await backup.end()
  await writeFile(path.join(data, 'backup_label'), rows[0].labelfile)
  await writeFile(path.join(data, 'standby.signal'), '')
  const binaries = findBinaries()
  const launcher = findPostgresLauncher(binaries)
  const socketDir = socketDirFor(root, tmpdir())
  await mkdir(socketDir, { recursive: true, mode: 0o700 })
  const args = serverArgs(data, { memoryBytes: Math.min(totalmem(), 1024 ** 3), socketDir, connectionsMax })
  const source = `host=${admin.host} port=${admin.port} user=${admin.user}`
  const [command, ...rest] = [...launcher.prefix, binaries.postgres, ...args, '-c', `primary_conninfo=${source}`]
  const child = spawn(command!, rest, { stdio: 'ignore' })
  const standby = { ...server.connection, host: socketDir, port: socketPort }
  const ask = async (connection: ConnectionConfig, text: string) => {
    const client = await connectOnce(connection)
    return client
      .query(text)
      .then(({ rows }) => Object.values(rows[0] as Record<string, string>)[0]!)
      .finally(() => client.end())
  }
  const asStandby = { ...admin, host: socketDir, port: socketPort }
  await until(() => ask(asStandby, 'select pg_is_in_recovery()').catch(() => undefined), 'the standby answers')
  return {
    primary: server.connection,
    standby,
    async pause() {
      await ask(asStandby, 'select pg_wal_replay_pause()')
      const state = () => ask(asStandby, 'select pg_get_wal_replay_pause_state()')
      await until(async () => (await state()) === 'paused', 'the standby pauses')
    },
    async resume() {
      await ask(asStandby, 'select pg_wal_replay_resume()')
      const end = await ask(admin, 'select pg_current_wal_lsn()')
      const isThere = () => ask(asStandby, `select pg_last_wal_replay_lsn() >= '${end}'::pg_lsn`)
      await until(isThere, 'the standby has caught up')
    },
    async stop() {
      child.kill('SIGINT')
      if (child.exitCode === null) await once(child, 'exit')
      await server.stop()
    },
  }
}

const askReplayed: Statement = {
  text: `select '1/' || pg_last_wal_replay_lsn() as place`, // the timeline of a server that was never restored
  values: [],
  name: undefined,
}

/** Reads from the standby where it is new enough, otherwise from the primary. `reads` counts them. */
export function lagging(
  primary: Database,
  standby: Database,
): { database: Database; reads: { primary: number; standby: number } } {
  const reads = { primary: 0, standby: 0 }
  const database: Database = {
    name: primary.name,
    lags: true,
    counts: (target) => primary.counts(target),
    async connect(need) {
      if (need.target !== 'read') return primary.connect(need)
      const connection = need.atLeast === 'all' ? undefined : await standby.connect(need)
      if (connection) {
        const replayed = parsePlace(String((await connection.run(askReplayed)).rows[0]!.place))!
        if (need.atLeast === undefined || replayed >= (need.atLeast as bigint)) {
          reads.standby += 1
          return seeing(connection, askReplayed)
        }
        connection.release()
      }
      reads.primary += 1
      return seeing(await primary.connect(need), askPlace)
    },
    async close() {
      await Promise.all([primary.close(), standby.close()])
    },
  }
  return { database, reads }
}

/** Asks for the place after what was read, so that it covers it. */
function seeing(connection: Connection, ask: Statement): Connection {
  const seen = (result: Promise<Result>) =>
    result.then(async (it) => ({ ...it, seen: placeIn(await connection.run(ask)) }))
  return {
    get inTransaction() {
      return connection.inTransaction
    },
    run: (statement) => seen(connection.run(statement)),
    runTogether: (statements) => connection.runTogether(statements).map(seen),
    cancel: () => connection.cancel(),
    release: (broken) => connection.release(broken),
  }
}
