import { constants } from 'node:fs'
import { access, mkdir, realpath, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { every, sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { formatBytes, formatMs } from '../kernel/units.ts'
import { type Archiver, type ArchiveState, startArchiver } from './archiver.ts'
import { takeBase } from './base.ts'
import type { Bucket } from './bucket.ts'
import { type Catalogue, readCatalogue } from './catalogue.ts'
import { backupFailed } from './channels.ts'
import { folderPlace } from './folder.ts'
import { type BaseManifest, basesFolder, timelineFolder } from './layout.ts'
import type { Place } from './place.ts'
import { currentTimeline, expendable, lacking, windows, wouldReplaceLacking } from './policy.ts'
import { onSameDisk } from './same-disk.ts'
import { startUploader, type UploadEvent, type Uploader } from './uploader.ts'

/** A restore replays at most a day's log. */
const baseEveryMs = 86_400_000
const lookEveryMs = 60_000

export interface BackupSource {
  /** Returns a superuser's connection to a database that always exists, on the server that is the primary now. */
  primary(): Promise<ConnectionConfig>
  backupDir: string
  /** Files outside the database that a backup must include, such as the root of the keys. */
  alongside: readonly string[]
  /** Number of base backups that the folder keeps, with the log since the oldest of them. */
  keep: number
  /** Where the folder is copied to. */
  outside?: { bucket: Bucket; keep: number; bytesPerS: number | undefined } | undefined
}

/** Takes a base backup, then removes those that are no longer needed. */
export async function backUp(
  { keep, outside, ...source }: BackupSource,
  options: {
    archived: Archiver['reached']
    onProgress?: (doneBytes: number, totalBytes: number) => void
    signal?: AbortSignal
  },
): Promise<BaseManifest> {
  const base = await takeBase({ ...source, ...options })
  const catalogue = await readCatalogue(source.backupDir, base.system)
  await removeExpendable(catalogue, keep, outside && (await toUpload(catalogue, outside.bucket)))
  return base
}

/** Returns the names of the segments, and the ids of the base backups, that the bucket still needs; all of them if it cannot be asked. */
async function toUpload(here: Catalogue, bucket: Bucket): Promise<ReadonlySet<string>> {
  const all = { bases: here.bases, segments: here.timelines.flatMap(({ segments }) => segments) }
  const needed = await bucket.catalogue(here.system).then(
    (there) => here.timelines.map((timeline) => lacking(here, there, timeline)),
    () => [all],
  )
  return new Set(
    needed.flatMap(({ bases, segments }) => [...bases.map(({ id }) => id), ...segments.map(({ name }) => name)]),
  )
}

/** Removes the base backups before the newest `keep`, and the log that those do not need, but for `held`. */
async function removeExpendable(catalogue: Catalogue, keep: number, held?: ReadonlySet<string>): Promise<void> {
  const { bases, segments } = expendable(catalogue, keep)
  const folder = basesFolder(catalogue.folder)
  for (const { id } of bases) {
    if (held?.has(id)) continue
    const draft = path.join(folder, `.${id}-${process.pid}`) // the next backup removes it, even if this is killed
    await rename(path.join(folder, id), draft)
    await rm(draft, { recursive: true })
  }
  for (const { timeline, name } of segments) {
    if (held?.has(name)) continue
    const file = path.join(timelineFolder(catalogue.folder, timeline), name)
    await rm(`${file}.json`, { force: true })
    await rm(`${file}.zst`, { force: true })
  }
}

export interface JoinedArchive {
  /** Whether this process archives; otherwise it only reads how far another one has come. */
  readonly own: boolean
  reached: Archiver['reached']
  /** Resolves once the bucket has the log up to there; if this process archives, also the base backups. */
  uploaded(lsn: Lsn): Promise<void>
  stop(): Promise<void>
}

/** Archives the log of a database until `stop` is called, unless another process, usually the app itself, archives it already. */
export async function joinArchive({ primary, backupDir, outside }: BackupSource): Promise<JoinedArchive> {
  const archiver = startArchiver({ primary, backupDir, slot: 'temporary' })
  try {
    await archiver.streaming
    let uploader: Uploader | undefined
    return {
      own: true,
      reached: archiver.reached,
      async uploaded(lsn) {
        if (!outside) return
        await outside.bucket.check()
        uploader ??= startUploader({ ...outside, backupDir, archive: archiver.state })
        uploader.renew()
        await uploader.reached(lsn)
      },
      async stop() {
        await archiver.stop()
        await uploader?.stop()
        outside?.bucket.close()
      },
    }
  } catch (error) {
    await archiver.stop()
    if (!isRungError(error, 'BACKUP_RUNNING')) throw error
    const system = await systemOf(await primary())
    const folder = folderPlace(backupDir)
    return {
      own: false,
      reached: (lsn) => reachedByOther(folder, system, lsn),
      uploaded: async (lsn) => outside && reachedByOther(outside.bucket, system, lsn),
      stop: async () => outside?.bucket.close(),
    }
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
const lookAgainMs = 200

async function reachedByOther(place: Place, system: string, lsn: Lsn): Promise<void> {
  let giveUpAt = systemClock.ticks() + otherAnswersWithinMs
  let seenAt = 0
  for (;;) {
    const position = currentTimeline(await place.catalogue(system))?.position
    if (position && parseLsn(position.lsn)! >= lsn) return
    if (position && position.at > seenAt) {
      seenAt = position.at
      giveUpAt = systemClock.ticks() + otherAnswersWithinMs
    }
    if (systemClock.ticks() > giveUpAt) {
      throw new RungError(
        'BACKUP_FAILED',
        `The process that archives to ${place.name} has made no progress for ${otherAnswersWithinMs / 1000} s. Read its log, or stop it, and run this again.`,
      )
    }
    await sleep(lookAgainMs)
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
  if (!options.outside && (await onSameDisk(dataDir, backupDir))) {
    tell('warn', 'backup-same-disk', `${backupDir} is on the same disk as the data: if that disk fails, both are lost`)
  }
  const over = new AbortController()
  const uploader = options.outside && (await startUploads(options.outside))
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
      uploader?.renew()
      lookForBase()
    },
  })

  async function startUploads({ bucket, keep, bytesPerS }: NonNullable<BackupSource['outside']>): Promise<Uploader> {
    const away = await bucket.check()
    if (away !== undefined) tell('warn', 'upload-lost', `${bucket.name} cannot be used now and is tried again: ${away}`)
    return startUploader({ backupDir, bucket, keep, bytesPerS, archive: () => archiver.state(), onEvent: onUpload })
  }

  function onUpload(event: UploadEvent): void {
    const { name } = options.outside!.bucket
    if (event.kind === 'lost') complain('upload-lost', event.error)
    if (event.kind === 'caught-up') {
      lastComplaint = ''
      tell('info', 'upload-continued', `${name} has everything again`)
    }
    if (event.kind === 'behind') {
      const late = `${formatBytes(event.bytes)} and ${formatMs(event.ms)}`
      tell('warn', 'upload-behind', `${name} is ${late} behind; ${backupDir} grows until it is copied`)
    }
    if (event.kind === 'refused')
      tell('warn', 'upload-kept', `${name} refuses to remove old backups: let rules of the bucket remove them`)
  }

  function complain(event: string, error: unknown): void {
    if (backupFailed.hasSubscribers) backupFailed.publish({ backupDir, error })
    if (messageOf(error) === lastComplaint) return
    lastComplaint = messageOf(error)
    tell('error', event, `backups fail and are tried again: ${lastComplaint}`, { err: error })
  }

  async function takeBaseIfDue(): Promise<void> {
    const { system } = archiver.state()
    if (system === undefined || (!gap && !(await isBaseDue(source, system)))) return
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
        uploader?.lookForBases()
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
      await uploader?.stop()
      options.outside?.bucket.close()
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

/**
 * Whether no base backup leads to the current log, or the newest is a day old. The daily one waits as long as it would replace one that the bucket
 * lacks: otherwise a first copy that takes longer than a day would begin anew each day.
 */
export async function isBaseDue(
  { backupDir, keep, outside }: Pick<BackupSource, 'backupDir' | 'keep' | 'outside'>,
  system: string,
): Promise<boolean> {
  const catalogue = await readCatalogue(backupDir, system)
  const timeline = currentTimeline(catalogue)
  const newest = timeline && windows(catalogue, timeline).at(-1)
  const current = timeline?.segments.at(-1)
  if (!newest || newest.segments.at(-1) !== current) return true
  if (systemClock.now() - newest.base.finishedAt <= baseEveryMs) return false
  if (outside === undefined || catalogue.bases.length < keep) return true // it replaces none
  const there = await outside.bucket.catalogue(system).catch(() => undefined)
  return there !== undefined && !wouldReplaceLacking(catalogue, there, timeline, keep)
}
