import { constants } from 'node:fs'
import { access, mkdir, realpath } from 'node:fs/promises'
import path from 'node:path'
import { type Archiver, type ArchiveState, startArchiver } from '../engines/postgres/backup/archiver.ts'
import { takeBase } from '../engines/postgres/backup/base.ts'
import { readCatalogue } from '../engines/postgres/backup/catalogue.ts'
import { backupFailed } from '../engines/postgres/backup/channels.ts'
import type { BaseManifest } from '../engines/postgres/backup/layout.ts'
import { currentTimeline, windows } from '../engines/postgres/backup/policy.ts'
import { removeExpendable } from '../engines/postgres/backup/retention.ts'
import { type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { every, sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { formatMs } from '../kernel/units.ts'
import type { Config } from './config.ts'
import { onSameDisk } from './same-disk.ts'
import { rootFile } from './secrets.ts'
import type { DatabaseServer } from './wire.ts'

/** A base backup a day: a restore replays at most a day's log. */
const baseEveryMs = 86_400_000
const lookEveryMs = 60_000
/** More than this between the last archived position and now: worth a line. The target is 1 s. */
const behindMs = 5_000
const behindLookMs = 1_000

/** Where backups go when nobody says where: beside the data, which outlives a mistake and not the disk. */
export function backupDirOf(config: Config): string {
  return config.backup.dir ?? path.join(config.dataDir, 'backups')
}

/** @throws BACKUP_UNSUPPORTED for a Postgres that somebody else runs */
export function refuseExternal({ topology }: Config): void {
  if (topology.data.engine === 'embedded') return
  throw new RungError(
    'BACKUP_UNSUPPORTED',
    'DATABASE_URL names a Postgres that Rung does not run: its files are not at hand, and Rung restores only what its own Postgres wrote. Use the point-in-time recovery of whoever runs it, or pgBackRest, WAL-G or pg_basebackup.',
  )
}

/** Of the superuser, in a database that is always there. */
export function backupConnection(server: DatabaseServer) {
  return { ...server.adminConnection, database: 'postgres' }
}

/** One base backup, and what older ones it makes expendable. */
export async function backUp(
  config: Config,
  server: DatabaseServer,
  options: {
    backupDir: string
    archived: Archiver['reached']
    onProgress?: (doneBytes: number, totalBytes: number) => void
    signal?: AbortSignal
  },
): Promise<BaseManifest> {
  const { backupDir } = options
  const base = await takeBase({
    ...options,
    connection: backupConnection(server),
    alongside: [rootFile(config.dataDir)],
  })
  await removeExpendable(await readCatalogue(backupDir, base.system), config.backup.keep)
  return base
}

/**
 * The log of a database on its way into a backup directory, for as long as somebody needs it there: followed here, unless another
 * process, usually the app itself, does so already.
 */
export async function joinArchive(
  server: DatabaseServer,
  backupDir: string,
): Promise<Pick<Archiver, 'reached' | 'stop'>> {
  const connection = backupConnection(server)
  const archiver = startArchiver({ connection, backupDir, slot: 'temporary', persistent: false })
  try {
    await archiver.streaming
    return archiver
  } catch (error) {
    await archiver.stop()
    if (!isRungError(error, 'BACKUP_RUNNING')) throw error
    const system = await systemOf(connection)
    return { reached: (lsn) => reachedByOther(backupDir, system, lsn), async stop() {} }
  }
}

export async function systemOf(connection: ConnectionConfig): Promise<string> {
  const sql = await connectOnce(connection)
  const { rows } = await sql
    .query('select system_identifier::text as id from pg_control_system()')
    .finally(() => sql.end())
  return rows[0].id
}

/** The other one moves its position each second, if only in time. */
const otherAnswersWithinMs = 30_000

async function reachedByOther(backupDir: string, system: string, lsn: Lsn): Promise<void> {
  let giveUpAt = systemClock.ticks() + otherAnswersWithinMs
  let seenAt = 0
  for (;;) {
    const position = currentTimeline(await readCatalogue(backupDir, system))?.position
    if (position && parseLsn(position.lsn)! >= lsn) return
    if (position && position.at > seenAt) {
      seenAt = position.at
      giveUpAt = systemClock.ticks() + otherAnswersWithinMs
    }
    if (systemClock.ticks() > giveUpAt) {
      throw new RungError(
        'BACKUP_FAILED',
        `The process that archives to ${backupDir} has not moved on for ${otherAnswersWithinMs / 1000} s. Look into its log, or stop it, and run this again.`,
      )
    }
    await sleep(100)
  }
}

/** What is worth a line in a log, or on a terminal. */
export type Tell = (
  level: 'debug' | 'info' | 'warn' | 'error',
  event: string,
  message: string,
  facts?: { err?: unknown },
) => void

export interface KeepOptions {
  config: Config
  server: DatabaseServer
  backupDir: string
  tell: Tell
}

export interface KeptBackups {
  state(): ArchiveState
  stop(): Promise<void>
}

/**
 * Backs up while the app runs: the log is followed all the time, a base backup is taken each day and whenever the log could not be
 * continued. Failing backups are told and tried again; they never stop the app.
 * @throws BACKUP_UNSUPPORTED, BACKUP_FAILED when the directory cannot be used at all
 */
export async function keepBackups({ config, server, tell, ...options }: KeepOptions): Promise<KeptBackups> {
  refuseExternal(config)
  const backupDir = await usable(options.backupDir)
  if (await onSameDisk(config.dataDir, backupDir)) {
    tell('warn', 'backup-same-disk', `${backupDir} is on the same disk as the data: when that fails, both are gone`)
  }
  const over = new AbortController()
  let base: Promise<void> | undefined
  let gap = false
  let behind = false
  let lastComplaint = ''

  const archiver = startArchiver({
    connection: backupConnection(server),
    backupDir,
    slot: 'kept',
    persistent: true,
    onEvent(event) {
      if (event.kind === 'lost') return complain('archive-lost', event.error)
      lastComplaint = ''
      if (event.gap) tell('info', 'archive-begun', 'the archive begins here: a base backup is taken now')
      else tell('debug', 'archive-continued', 'the archive goes on where it stopped')
      gap ||= event.gap
      lookForBase()
    },
  })

  function complain(event: string, error: unknown): void {
    if (backupFailed.hasSubscribers) backupFailed.publish({ backupDir, error })
    if (messageOf(error) === lastComplaint) return
    lastComplaint = messageOf(error)
    tell('error', event, `backups do not work and are tried again: ${lastComplaint}`, { err: error })
  }

  async function takeBaseIfDue(): Promise<void> {
    const { system } = archiver.state()
    if (system === undefined || (!gap && !(await isDue(backupDir, system)))) return
    const began = systemClock.ticks()
    const { id } = await backUp(config, server, { backupDir, archived: archiver.reached, signal: over.signal })
    gap = false
    tell('info', 'base-backup', `base backup ${id} taken in ${formatMs(systemClock.ticks() - began)}`)
  }

  function lookForBase(): void {
    if (over.signal.aborted) return
    base ??= takeBaseIfDue()
      .catch((error) => {
        if (!over.signal.aborted) complain('base-backup-failed', error)
      })
      .finally(() => {
        base = undefined
      })
  }

  function lookBehind(): void {
    const { at } = archiver.state()
    const lagMs = systemClock.now() - at
    if (at === 0 || lagMs > behindMs === behind) return
    behind = !behind
    if (behind) tell('error', 'archive-behind', `the archive is ${formatMs(lagMs)} behind the database`)
    else tell('warn', 'archive-caught-up', 'the archive has caught up with the database')
  }

  const stopLooking = [every(lookEveryMs, lookForBase), every(behindLookMs, lookBehind)]
  return {
    state: archiver.state,
    async stop() {
      for (const stop of stopLooking) stop()
      over.abort()
      await archiver.stop()
      await base
    },
  }
}

/** @throws BACKUP_FAILED */
export async function usable(backupDir: string): Promise<string> {
  try {
    await mkdir(backupDir, { recursive: true, mode: 0o700 })
    await access(backupDir, constants.W_OK | constants.X_OK)
    return await realpath(backupDir)
  } catch (cause) {
    throw new RungError(
      'BACKUP_FAILED',
      `The backup directory ${backupDir} cannot be written (${messageOf(cause)}). Make or mount it, or set RUNG_BACKUP_DIR to another one.`,
      { cause },
    )
  }
}

/** No base backup that the log of now continues, or the newest is a day old. */
async function isDue(backupDir: string, system: string): Promise<boolean> {
  const catalogue = await readCatalogue(backupDir, system)
  const timeline = currentTimeline(catalogue)
  const newest = timeline && windows(catalogue, timeline).at(-1)
  const current = timeline?.segments.at(-1)
  if (!newest || newest.segments.at(-1) !== current) return true
  return systemClock.now() - newest.base.finishedAt > baseEveryMs
}
