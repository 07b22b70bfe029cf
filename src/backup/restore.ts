import { chown, type FileHandle, mkdir, open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { findBinaries, findPostgresLauncher } from '../engines/postgres/binaries.ts'
import { type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { writeMarker } from '../engines/postgres/data-dir.ts'
import type { Launcher } from '../engines/process/launcher.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import type { Catalogue, Segment } from './catalogue.ts'
import { checked, DamagedFile } from './content.ts'
import { type BaseManifest, historyName, names } from './layout.ts'
import type { Place } from './place.ts'
import { neededUntil, type Window } from './policy.ts'
import { endedBeforeTarget, recover, type Target } from './recover.ts'
import { readTar } from './tar.ts'

export interface RestoreOptions {
  place: Place
  catalogue: Catalogue
  /** The base backup to begin with, and the log after it. */
  window: Window
  target: Target
  /** A folder that does not exist or is empty; it becomes a data directory of Rung. */
  into: string
  /** Whether the result is for trials: without the keys and the settings of the server, marked so that it reaches nothing outside, and its timeline is not reserved. */
  isolated: boolean
  onProgress?: (stage: 'copy' | 'log' | 'replay', done: number | string, total?: number) => void
  /** Called with the recovered server before it is stopped. */
  look?: (connection: ConnectionConfig) => Promise<void>
}

export interface Restored {
  base: string
  timeline: number
  /** Time of the last transaction that was replayed, ms since the epoch; undefined if none followed the base backup. */
  lastTransactionAt: number | undefined
  /** Whether the root of the app's keys was in the backup. */
  withSecret: boolean
}

/**
 * Creates a data directory from a base backup and the log. Its marker (`rung.json`) is written last: a directory that was not
 * finished cannot be started by mistake.
 * @throws RESTORE_NOT_EMPTY, BACKUP_DAMAGED, RESTORE_FAILED
 */
export async function restore(options: RestoreOptions): Promise<Restored> {
  const { into, window, place, catalogue } = options
  const binaries = findBinaries()
  const launcher = findPostgresLauncher(binaries)
  await makeEmpty(into)
  try {
    const data = path.join(into, 'postgres')
    const { base } = window
    await makeFolder(data, launcher)
    await unpack(place, base, data, launcher, (done, total) => options.onProgress?.('copy', done, total))
    if (options.isolated) await isolateSettings(data)
    const needed = neededUntil(window.segments, options.target.kind === 'time' ? options.target.at : 'latest')
    for (const [done, segment] of needed.entries()) {
      options.onProgress?.('log', done + 1, needed.length)
      await placeSegment(place, segment, base.segmentBytes, path.join(data, 'pg_wal'), launcher)
    }
    for (const [name, text] of await place.histories(catalogue.system)) {
      const file = path.join(data, 'pg_wal', name)
      await writeFile(file, text, { mode: 0o600 })
      if (launcher.uid !== undefined) await chown(file, launcher.uid, launcher.gid!)
    }
    const beside = base.files.filter(({ name }) => name !== names.tar && name !== names.fileList)
    const secrets = options.isolated ? [] : beside
    for (const file of secrets) {
      const handle = await open(path.join(into, file.name), 'wx', 0o600)
      for await (const chunk of checked(place.readFile(base, file), file)) await handle.write(chunk)
      await handle.sync()
      await handle.close()
    }
    const facts = await replay(options, binaries, launcher)
    if (!options.isolated) await reserveTimeline(options, data, facts.timeline)
    await writeMarker(into, options)
    return { base: base.id, ...facts, withSecret: secrets.length > 0 }
  } catch (error) {
    for (const name of await readdir(into)) await rm(path.join(into, name), { recursive: true, force: true })
    if (!(error instanceof DamagedFile)) throw error
    throw new RungError(
      'BACKUP_DAMAGED',
      `In ${catalogue.folder}, ${error.message}. Nothing was restored; rung backup verify names every damaged file, and an older time may still be possible.`,
      { cause: error },
    )
  }
}

/** What was set in the original could lead outside or run commands, here and in whatever is started later. What dates and texts mean stays. */
async function isolateSettings(data: string): Promise<void> {
  await writeFile(path.join(data, 'postgresql.auto.conf'), 'archive_mode = off\n')
  const file = path.join(data, 'postgresql.conf')
  const lines = (await readFile(file, 'utf8').catch(() => '')).split('\n')
  const kept = lines.filter((line) => /^(timezone|datestyle|lc_\w+|default_text_search_config) *=/.test(line))
  await writeFile(file, `${kept.join('\n')}\n`)
}

async function makeEmpty(into: string): Promise<void> {
  let existing: string[]
  try {
    await mkdir(into, { recursive: true, mode: 0o700 })
    existing = await readdir(into)
  } catch (cause) {
    throw new RungError('RESTORE_FAILED', `${into} cannot be created (${messageOf(cause)}). Name another folder.`, {
      cause,
    })
  }
  if (existing.length === 0) return
  throw new RungError(
    'RESTORE_NOT_EMPTY',
    `${into} is not empty (it holds ${existing.slice(0, 3).join(', ')}). Name a folder that does not exist yet: a restore never overwrites.`,
  )
}

async function makeFolder(folder: string, owner: Launcher): Promise<void> {
  await mkdir(folder, { mode: 0o700 })
  if (owner.uid !== undefined) await chown(folder, owner.uid, owner.gid!)
}

async function openNew(file: string, owner: Launcher): Promise<FileHandle> {
  const handle = await open(file, 'wx', 0o600)
  if (owner.uid !== undefined) await handle.chown(owner.uid, owner.gid!)
  return handle
}

async function unpack(
  place: Place,
  base: BaseManifest,
  data: string,
  owner: Launcher,
  onProgress: (done: number, total: number) => void,
): Promise<void> {
  const tar = base.files.find(({ name }) => name === names.tar)!
  const content = () => checked(place.readFile(base, tar), tar)
  let file: FileHandle | undefined
  let done = 0
  try {
    for await (const part of readTar(content())) {
      if (Buffer.isBuffer(part)) {
        await file!.write(part)
        done += part.length
        continue
      }
      await file?.close()
      file = undefined
      onProgress(done, tar.bytes)
      const target = path.resolve(data, part.name)
      if (target !== data && !target.startsWith(data + path.sep)) throw new DamagedFile(names.tar, `names ${part.name}`)
      if (part.kind === 'link') throw new DamagedFile(names.tar, `holds a link (${part.name})`)
      if (part.kind === 'file') file = await openNew(target, owner)
      else if (target !== data) await makeFolder(target, owner)
    }
  } catch (error) {
    // Damage can cause any error, and the checksum that proves it comes after the damaged bytes.
    for await (const _ of content());
    throw error
  } finally {
    await file?.close()
  }
}

/** Puts a segment in place as a whole file: Postgres takes zeros as the end of the log. */
async function placeSegment(place: Place, segment: Segment, segmentBytes: number, wal: string, owner: Launcher) {
  const stored = await place.renewed(segment) // it may have been completed while earlier ones were copied
  const handle = await openNew(path.join(wal, stored.name), owner)
  try {
    for await (const chunk of checked(place.readSegment(stored), stored)) await handle.write(chunk)
    // Bytes that were not confirmed yet: each record has a checksum of its own, and the log ends before the first wrong one.
    for await (const chunk of place.readBehind(stored)) await handle.write(chunk)
    await handle.truncate(segmentBytes)
  } finally {
    await handle.close()
  }
}

async function replay(options: RestoreOptions, binaries: ReturnType<typeof findBinaries>, launcher: Launcher) {
  const { into: root, window, target } = options
  const attempt = (aim: Target) =>
    recover(
      {
        binaries,
        launcher,
        root,
        timeline: window.timeline,
        target: aim,
        onReplay: (lsn) => options.onProgress?.('replay', lsn),
      },
      async (connection) => {
        const facts = await positionOf(connection)
        await options.look?.(connection)
        return facts
      },
    )
  try {
    return await attempt(target)
  } catch (error) {
    // Nothing was committed between that time and the end of the archive: then the end is that time.
    if (target.kind !== 'time' || !endedBeforeTarget.test(messageOf(error))) throw error
    return attempt({ kind: 'end' })
  }
}

async function positionOf(connection: ConnectionConfig) {
  const sql = await connectOnce(connection)
  try {
    const { rows } = await sql.query(
      `select ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int as timeline,
        (extract(epoch from pg_last_xact_replay_timestamp()) * 1000)::float8 as at`,
    )
    return { timeline: rows[0].timeline as number, lastTransactionAt: (rows[0].at ?? undefined) as number | undefined }
  } finally {
    await sql.end()
  }
}

/** Reserves the timeline, so that the next restore from this archive gets another number. */
async function reserveTimeline({ place, catalogue }: RestoreOptions, data: string, timeline: number): Promise<void> {
  const name = historyName(timeline)
  const text = await readFile(path.join(data, 'pg_wal', name), 'utf8')
  if (await place.reserve(catalogue.system, name, text)) return
  throw new RungError(
    'RESTORE_FAILED',
    `Another restore from ${catalogue.folder} took timeline ${timeline} meanwhile. Restore again: the next one is free.`,
  )
}
