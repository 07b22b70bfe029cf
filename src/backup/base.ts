import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, readdir, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createZstdCompress, type ZstdOptions } from 'node:zlib'
import { syncFolder, writeWholeSynced } from '../engines/disk/atomic.ts'
import {
  type ConnectionConfig,
  connectOnce,
  connectReplication,
  type ReplicationClient,
} from '../engines/postgres/client.ts'
import { isRunning } from '../engines/process/is-running.ts'
import { systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { baseTaken } from './channels.ts'
import { type BaseManifest, baseId, basesFolder, names, type StoredFile, systemFolder } from './layout.ts'
import { seal } from './sealed.ts'
import { readBackupMessage } from './wire.ts'

export interface BaseOptions {
  /** Returns where the primary is, as a superuser. */
  primary(): Promise<ConnectionConfig>
  backupDir: string
  /** Small files outside the database that a restored one needs. */
  alongside: readonly string[]
  /** Waits until the log is archived up to there: without it the copy cannot be restored. */
  archived(lsn: Lsn): Promise<void>
  /** The total is the size of the databases, nearly that of the data directory. */
  onProgress?: (doneBytes: number, totalBytes: number) => void
  signal?: AbortSignal
}

/**
 * Takes a base backup while the app runs. The server copies itself (`BASE_BACKUP`): it leaves out what must not be copied, and
 * verifies the checksum of every page.
 * @throws BACKUP_FAILED, BACKUP_UNSUPPORTED
 */
export async function takeBase(options: BaseOptions): Promise<BaseManifest> {
  const startedTicks = systemClock.ticks()
  const connection = await options.primary()
  const sql = await connectOnce(connection)
  let replication: ReplicationClient | undefined
  let draft: string | undefined
  const cancel = () => void replication?.end().catch(() => {})
  options.signal?.addEventListener('abort', cancel, { once: true })
  try {
    replication = await connectReplication(connection)
    options.signal?.throwIfAborted()
    const { systemid } = await replication.command('IDENTIFY_SYSTEM')
    const bases = basesFolder(systemFolder(options.backupDir, systemid!))
    await mkdir(bases, { recursive: true, mode: 0o700 })
    await removeAbandoned(bases)
    const { rows } = await sql.query(
      `select sum(pg_database_size(oid))::float8 as total, current_setting('server_version') as postgres,
        (select setting::int from pg_settings where name = 'wal_segment_size') as segment_bytes,
        (select count(*) from pg_tablespace where spcname !~ '^pg_')::int as tablespaces from pg_database`,
    )
    if (rows[0].tablespaces > 0) {
      throw new RungError(
        'BACKUP_UNSUPPORTED',
        'This database has tablespaces outside its data directory, which rung backup does not copy. Move their tables back, or use pg_basebackup.',
      )
    }
    const startedAt = await serverTime(sql)
    const id = baseId(startedAt)
    draft = path.join(await realpath(bases), `.${id}-${process.pid}`)
    await mkdir(draft, { mode: 0o700 })
    const { tar, fileList } = await copyAll(replication, path.join(draft, names.tar), (doneBytes) =>
      options.onProgress?.(doneBytes, Math.max(rows[0].total, doneBytes)),
    )
    const files = [tar, await keep(draft, names.fileList, fileList)]
    for (const file of options.alongside) {
      const content = await readFile(file).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error // the keys may come from the environment
      })
      if (content) files.push(await keep(draft, path.basename(file), content))
    }
    const finishedAt = await serverTime(sql)
    const range = rangeOf(fileList)
    await options.archived(parseLsn(range.stopLsn)!)
    const { postgres, segment_bytes: segmentBytes } = rows[0]
    const system = systemid!
    const manifest: BaseManifest = { id, system, postgres, ...range, startedAt, finishedAt, segmentBytes, files }
    await writeWholeSynced(path.join(draft, names.manifest), seal(manifest))
    await rename(draft, path.join(bases, id))
    await syncFolder(bases)
    const durationMs = systemClock.ticks() - startedTicks
    if (baseTaken.hasSubscribers) baseTaken.publish({ backupDir: options.backupDir, id, finishedAt, durationMs })
    return manifest
  } catch (error) {
    if (draft) await rm(draft, { recursive: true, force: true }).catch(() => {})
    if (error instanceof RungError) throw error
    throw new RungError(
      'BACKUP_FAILED',
      `The base backup was not finished (${messageOf(error)}). The backups before it are untouched; run rung backup again.`,
      { cause: error },
    )
  } finally {
    options.signal?.removeEventListener('abort', cancel)
    await replication?.end().catch(() => {})
    await sql.end().catch(() => {})
  }
}

async function serverTime(sql: Awaited<ReturnType<typeof connectOnce>>): Promise<number> {
  const { rows } = await sql.query('select ceil(extract(epoch from clock_timestamp()) * 1000)::float8 as at')
  return rows[0].at
}

/** The server sends 32 KiB at a time; pausing after each would cost a third of the speed. */
const blocks = { chunkSize: 256 * 1024, highWaterMark: 1024 ** 2 } as ZstdOptions

/** Compresses and hashes the tar on its way to the disk; returns it with Postgres' list of its files. */
async function copyAll(replication: ReplicationClient, file: string, onProgress: (doneBytes: number) => void) {
  const hash = createHash('sha256')
  const zstd = createZstdCompress(blocks)
  const written = pipeline(zstd, createWriteStream(file, { mode: 0o600, flush: true }))
  written.catch(() => replication.end().catch(() => {})) // a full disk: the rest is not needed
  const list: Buffer[] = []
  let part: 'data' | 'list' = 'data'
  let bytes = 0
  let waiting = false
  const command = `BASE_BACKUP (LABEL 'rung backup', PROGRESS true, CHECKPOINT 'fast', WAIT false, MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256')`
  try {
    await replication.stream(command, (chunk) => {
      const message = readBackupMessage(chunk)
      if (message?.kind === 'progress') onProgress(message.bytes)
      if (message?.kind === 'manifest') part = 'list'
      if (message?.kind !== 'piece') return
      const piece = Buffer.from(message.bytes)
      if (part === 'list') return void list.push(piece)
      hash.update(piece)
      bytes += piece.length
      if (zstd.write(piece) || waiting) return // chunks that were already read still arrive
      waiting = true
      replication.pause()
      zstd.once('drain', () => {
        waiting = false
        replication.resume()
      })
    })
  } catch (error) {
    zstd.destroy()
    await written // throws the disk's error, if that was the cause
    throw error
  }
  zstd.end()
  await written
  return { tar: { name: names.tar, bytes, sha256: hash.digest('hex') }, fileList: Buffer.concat(list) }
}

async function keep(folder: string, name: string, content: Buffer): Promise<StoredFile> {
  await writeWholeSynced(path.join(folder, name), content)
  return { name, bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') }
}

/** Which part of the log the copy needs, from Postgres' list. */
function rangeOf(fileList: Buffer): Pick<BaseManifest, 'timeline' | 'startLsn' | 'stopLsn'> {
  const list: { 'WAL-Ranges': { Timeline: number; 'Start-LSN': string; 'End-LSN': string }[] } = JSON.parse(
    fileList.toString(),
  )
  const last = list['WAL-Ranges'].at(-1)!
  return { timeline: last.Timeline, startLsn: last['Start-LSN'], stopLsn: last['End-LSN'] }
}

/** Removes the drafts of killed base backups. */
async function removeAbandoned(bases: string): Promise<void> {
  for (const name of await readdir(bases)) {
    const pid = Number(/^\..*-(\d+)$/.exec(name)?.[1])
    if (!(pid > 0) || (await isBusy(pid, path.join(bases, name)))) continue
    await rm(path.join(bases, name), { recursive: true, force: true })
  }
}

/** Process ids are reused: a draft that has not grown for an hour is abandoned. */
async function isBusy(pid: number, draft: string): Promise<boolean> {
  if (!isRunning(pid)) return false
  const { mtimeMs } = await stat(path.join(draft, names.tar)).catch(() => stat(draft))
  return systemClock.now() - mtimeMs < 3_600_000
}
