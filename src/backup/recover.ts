import { spawn } from 'node:child_process'
import { chown, mkdir, writeFile } from 'node:fs/promises'
import { tmpdir, totalmem } from 'node:os'
import path from 'node:path'
import type { PostgresBinaries } from '../engines/postgres/binaries.ts'
import { type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { serverArgs, settings, socketDirFor, socketPort, superuser } from '../engines/postgres/recipe.ts'
import { identityOf, type Launcher } from '../engines/process/launcher.ts'
import { startWatchdog } from '../engines/process/watchdog.ts'
import { sleep } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'

/** Where a recovery ends: at the end of the log, at a time (ms since the epoch), or at a named restore point. */
export type Target = { kind: 'end' } | { kind: 'time'; at: number } | { kind: 'point'; name: string }

export interface RecoveryOptions {
  binaries: PostgresBinaries
  launcher: Launcher
  /** Holds `postgres/`: a copied data directory with the log in its `pg_wal`. */
  root: string
  timeline: number
  target: Target
  /** Called now and then with the position that the server has replayed. */
  onReplay?: (lsn: string) => void
}

/**
 * Starts a server that replays the log in `root`, calls `body` with the recovered server, and stops it.
 * @throws RESTORE_FAILED with what the server reported
 */
export async function recover<T>(
  options: RecoveryOptions,
  body: (connection: ConnectionConfig) => Promise<T>,
): Promise<T> {
  const { binaries, launcher, root, timeline, target } = options
  const data = path.join(root, 'postgres')
  const socketDir = socketDirFor(root, tmpdir())
  await mkdir(socketDir, { recursive: true, mode: 0o700 })
  const signal = path.join(data, 'recovery.signal')
  await writeFile(signal, '', { mode: 0o600 })
  if (launcher.uid !== undefined) for (const own of [socketDir, signal]) await chown(own, launcher.uid, launcher.gid!)
  const recovery = {
    restore_command: 'false', // the log is in pg_wal already, checked on its way there
    recovery_target_timeline: String(timeline),
    ...(target.kind === 'time' && { recovery_target_time: new Date(target.at).toISOString().replace('Z', '+00') }),
    ...(target.kind === 'point' && { recovery_target_name: target.name }),
    recovery_target_action: 'promote',
    max_logical_replication_workers: '0', // a subscription would take from its publisher what the original needs
    // Settings of the original come with its data, and are obeyed unless they are named here.
    archive_mode: 'off',
    recovery_end_command: '',
    archive_cleanup_command: '',
    event_triggers: 'off',
    external_pid_file: '',
    logging_collector: 'off',
    ssl: 'off',
    hot_standby: 'off', // so that its settings need not match those of the original server
    log_startup_progress_interval: '1s',
  }
  const memoryBytes = Math.min(totalmem(), 1024 ** 3)
  const args = serverArgs(data, settings({ memoryBytes, socketDir, connectionsMax: 20 }))
  for (const [name, value] of Object.entries(recovery)) args.push('-c', `${name}=${value}`)
  const watchdog = startWatchdog({ signal: 'INT', lastSignal: 'QUIT', group: false, patienceMs: 20_000 })
  const [command, ...rest] = [...launcher.prefix, binaries.postgres, ...args]
  const child = spawn(command!, rest, { ...identityOf(launcher), stdio: ['ignore', 'ignore', 'pipe'] })
  if (child.pid !== undefined) watchdog.watch(child.pid)
  let output = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-20_000)
    const lsn = [...text.matchAll(/current LSN: ([0-9A-F]+\/[0-9A-F]+)/g)].at(-1)
    if (lsn) options.onReplay?.(lsn[1]!)
  })
  let ended = false
  const exit = new Promise<void>((resolve) => {
    child.once('error', (error) => {
      output += messageOf(error)
      resolve()
    })
    child.once('close', () => resolve())
  }).then(() => {
    ended = true
  })
  const connection = { host: socketDir, port: socketPort, user: superuser, database: 'postgres' }
  try {
    while (!ended) {
      try {
        await (await connectOnce(connection)).end()
        break
      } catch {
        await sleep(50) // it is still replaying
      }
    }
    if (ended) throw failed(output)
    return await body(connection)
  } finally {
    if (!ended) child.kill('SIGINT')
    await exit
    watchdog.end()
  }
}

/** Postgres' message if the log has no commit after the requested time. */
export const endedBeforeTarget = /recovery ended before configured recovery target was reached/

function failed(output: string): RungError {
  const lines = output.split('\n').filter((line) => /FATAL|PANIC|ERROR|HINT/.test(line))
  const reason = (lines.length > 0 ? lines : output.trim().split('\n')).slice(-3).join(' ')
  return new RungError(
    'RESTORE_FAILED',
    `Postgres could not recover from this backup: ${reason} Run rung backup verify, or restore to another time.`,
  )
}
