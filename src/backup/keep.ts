import { constants } from 'node:fs'
import { access, mkdir, realpath, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { every, sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { formatMs } from '../kernel/units.ts'
import { type Archiver, type ArchiveState, startArchiver } from './archiver.ts'
import { takeBase } from './base.ts'
import { type Catalogue, readCatalogue } from './catalogue.ts'
import { backupFailed } from './channels.ts'
import { type BaseManifest, basesFolder, timelineFolder } from './layout.ts'
import { currentTimeline, expendable, windows } from './policy.ts'
import { onSameDisk } from './same-disk.ts'

/** A restore replays at most a day's log. */
const baseEveryMs = 86_400_000
const lookEveryMs = 60_000

export interface BackupSource {
  /** Returns a superuser's connection to a database that always exists, on the server that is the primary now. */
  primary(): Promise<ConnectionConfig>
  backupDir: string
  /** Files outside the database that a backup must include, such as the root of the keys. */
  alongside: readonly string[]
  /** Number of base backups that are kept, with the log since the oldest of them. */
  keep: number
}

/** Takes a base backup, then removes those that are no longer needed. */
export async function backUp(
  { keep, ...source }: BackupSource,
  options: {
    archived: Archiver['reached']
    onProgress?: (doneBytes: number, totalBytes: number) => void
    signal?: AbortSignal
  },
): Promise<BaseManifest> {
  const base = await takeBase({ ...source, ...options })
  await removeExpendable(await readCatalogue(source.backupDir, base.system), keep)
  return base
}

/** Removes the base backups before the newest `keep`, and the log that those do not need. */
async function removeExpendable(catalogue: Catalogue, keep: number): Promise<void> {
  const { bases, segments } = expendable(catalogue, keep)
  const folder = basesFolder(catalogue.folder)
  for (const { id } of bases) {
    const draft = path.join(folder, `.${id}-${process.pid}`) // the next backup removes it, even if this is killed
    await rename(path.join(folder, id), draft)
    await rm(draft, { recursive: true })
  }
  for (const { timeline, name } of segments) {
    const file = path.join(timelineFolder(catalogue.folder, timeline), name)
    await rm(`${file}.json`, { force: true })
    await rm(`${file}.zst`, { force: true })
  }
}

/**
 * Archives the log of a database until `stop` is called. If another process, usually the app itself, archives it already, this
 * only reads how far that process has come.
 */
export async function joinArchive(
  primary: BackupSource['primary'],
  backupDir: string,
): Promise<Pick<Archiver, 'reached' | 'stop'>> {
  const archiver = startArchiver({ primary, backupDir, slot: 'temporary' })
  try {
    await archiver.streaming
    return archiver
  } catch (error) {
    await archiver.stop()
    if (!isRungError(error, 'BACKUP_RUNNING')) throw error
    const system = await systemOf(await primary())
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

/** A working archiver advances its position each second. */
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
        `The process that archives to ${backupDir} has made no progress for ${otherAnswersWithinMs / 1000} s. Read its log, or stop it, and run this again.`,
      )
    }
    await sleep(100)
  }
}

/** Writes one line to a log or a terminal. */
export type Tell = (
  level: 'debug' | 'info' | 'warn' | 'error',
  event: string,
  message: string,
  facts?: { err?: unknown },
) => void

export interface KeepOptions extends BackupSource {
  dataDir: string
  tell: Tell
}

export interface KeptBackups {
  state(): ArchiveState
  stop(): Promise<void>
}

/**
 * Backs up while the app runs: archives the log continuously, and takes a base backup each day and whenever the archive could not
 * be continued. A failing backup is reported and tried again; it never stops the app.
 * @throws BACKUP_FAILED when the directory cannot be used at all
 */
export async function keepBackups({ dataDir, tell, ...options }: KeepOptions): Promise<KeptBackups> {
  const { primary } = options
  const backupDir = await usable(options.backupDir)
  const source = { ...options, backupDir }
  if (await onSameDisk(dataDir, backupDir)) {
    tell('warn', 'backup-same-disk', `${backupDir} is on the same disk as the data: if that disk fails, both are lost`)
  }
  const over = new AbortController()
  let base: Promise<void> | undefined
  let gap = false
  let lastComplaint = ''

  const archiver = startArchiver({
    primary,
    backupDir,
    slot: 'kept',
    onEvent(event) {
      if (event.kind === 'lost') return complain('archive-lost', event.error)
      lastComplaint = ''
      if (event.gap) tell('info', 'archive-begun', 'the archive begins here: a base backup is taken now')
      else tell('debug', 'archive-continued', 'the archive continues where it stopped')
      gap ||= event.gap
      lookForBase()
    },
  })

  function complain(event: string, error: unknown): void {
    if (backupFailed.hasSubscribers) backupFailed.publish({ backupDir, error })
    if (messageOf(error) === lastComplaint) return
    lastComplaint = messageOf(error)
    tell('error', event, `backups fail and are tried again: ${lastComplaint}`, { err: error })
  }

  async function takeBaseIfDue(): Promise<void> {
    const { system } = archiver.state()
    if (system === undefined || (!gap && !(await isDue(backupDir, system)))) return
    const began = systemClock.ticks()
    const { id } = await backUp(source, { archived: archiver.reached, signal: over.signal })
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

  const stopLooking = every(lookEveryMs, lookForBase)
  return {
    state: archiver.state,
    async stop() {
      stopLooking()
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
      `The backup directory ${backupDir} cannot be written (${messageOf(cause)}). Create or mount it, or set RUNG_BACKUP_DIR to another one.`,
      { cause },
    )
  }
}

/** Whether no base backup leads to the current log, or the newest is a day old. */
async function isDue(backupDir: string, system: string): Promise<boolean> {
  const catalogue = await readCatalogue(backupDir, system)
  const timeline = currentTimeline(catalogue)
  const newest = timeline && windows(catalogue, timeline).at(-1)
  const current = timeline?.segments.at(-1)
  if (!newest || newest.segments.at(-1) !== current) return true
  return systemClock.now() - newest.base.finishedAt > baseEveryMs
}
