import { constants } from 'node:fs'
import { chown, copyFile, mkdir, open, readdir, rename, rm, stat, statfs, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { RungError } from '../../kernel/errors.ts'
import { syncFolder } from '../disk/atomic.ts'
import type { Launcher } from '../process/launcher.ts'
import { type ConnectionConfig, connectOnce } from './client.ts'

export interface CopyOptions {
  /** The primary's data directory, on this machine. */
  from: string
  /** As superuser of the primary. */
  primary: ConnectionConfig
  /** The folder beside which the copy is made, and which it replaces when it is complete. */
  to: string
  launcher: Launcher
  /** Called with the connection before the copy begins. */
  prepare(primary: Awaited<ReturnType<typeof connectOnce>>): Promise<void>
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
  /** Whether it need not survive a crash of the machine. */
  throwaway?: boolean | undefined
  over?: AbortSignal | undefined
}

/**
 * Copies the data directory of a running primary for a new replica. (PostgreSQL documentation, "Making a Base Backup Using the Low
 * Level API".) The log is not copied: the replica receives it.
 * @throws DATA_DISK_FULL, BACKUP_UNSUPPORTED
 */
export async function copyPrimary(options: CopyOptions): Promise<void> {
  const { to, launcher } = options
  const draft = `${to}.new-${process.pid}`
  const client = await connectOnce(options.primary)
  try {
    await options.prepare(client)
    await client.query(`select pg_backup_start('rung replica', fast => true)`)
    const { files, folders, totalBytes } = await list(options.from)
    await checkSpace(path.dirname(to), totalBytes)
    for (const folder of ['', ...folders]) {
      await mkdir(path.join(draft, folder), { mode: 0o700 })
      if (launcher.uid !== undefined) await chown(path.join(draft, folder), launcher.uid, launcher.gid!)
    }
    await copyFiles(options, draft, files, totalBytes)
    const { rows } = await client.query('select labelfile, spcmapfile from pg_backup_stop(wait_for_archive => false)')
    if (rows[0].spcmapfile) throw hasTablespaces()
    // The label tells the server where its recovery begins, so a copy without it is never used.
    await put(options, path.join(draft, 'standby.signal'), '')
    await put(options, path.join(draft, 'backup_label'), rows[0].labelfile)
    if (!options.throwaway) await syncFolders(draft, ['', ...folders])
    const aside = `${to}.old-${process.pid}`
    await rename(to, aside).catch(unlessMissing)
    await rename(draft, to)
    await rm(aside, { recursive: true, force: true, maxRetries: 5 })
  } catch (error) {
    await rm(draft, { recursive: true, force: true, maxRetries: 5 }).catch(() => {})
    throw error
  } finally {
    await client.end().catch(() => {})
  }
}

/** Removes what killed copies left. The caller owns the folder. */
export async function removeDrafts(to: string): Promise<void> {
  const prefix = path.basename(to)
  for (const name of await readdir(path.dirname(to))) {
    if (!new RegExp(`^${prefix}\\.(new|old)-\\d+$`).test(name)) continue
    await rm(path.join(path.dirname(to), name), { recursive: true, force: true, maxRetries: 5 })
  }
}

/** The contents of these folders belong to the running server (as in pg_basebackup, `excludeDirContents`), or are received. */
const emptied = /^(pg_wal|pg_replslot|pg_dynshmem|pg_notify|pg_serial|pg_snapshots|pg_stat_tmp|pg_subtrans)$/
/** As in pg_basebackup, `excludeFiles`, `noChecksumFiles`; `pgsql_tmp` holds what sorts write. */
const leftOut =
  /^(postmaster\.(pid|opts)|backup_label(\.old)?|tablespace_map(\.old)?|backup_manifest|standby\.signal|recovery\.signal|current_logfiles(\.tmp)?|postgresql\.auto\.conf\.tmp|pg_internal\.init.*|pgsql_tmp.*)$/

interface Listed {
  /** Relative paths, parents first. */
  folders: string[]
  files: string[]
  totalBytes: number
}

async function list(root: string): Promise<Listed> {
  const found: Listed = { folders: [], files: [], totalBytes: 0 }
  async function walk(folder: string): Promise<void> {
    for (const entry of await readdir(path.join(root, folder), { withFileTypes: true })) {
      if (leftOut.test(entry.name)) continue
      const name = path.join(folder, entry.name)
      if (entry.isSymbolicLink()) {
        if (folder === 'pg_tblspc') throw hasTablespaces()
      } else if (entry.isDirectory()) {
        found.folders.push(name)
        if (!emptied.test(name)) await walk(name)
      } else {
        found.files.push(name)
        found.totalBytes += await stat(path.join(root, name)).then(
          ({ size }) => size,
          () => 0, // dropped meanwhile
        )
      }
    }
  }
  await walk('')
  found.folders.push(...['archive_status', 'summaries'].map((name) => path.join('pg_wal', name)))
  return found
}

/** A copy that fills the disk would stop the primary's writes. */
const spareBytes = 512 * 1024 ** 2

async function checkSpace(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  if (bavail * bsize >= bytes + spareBytes) return
  const megabytes = Math.ceil((bytes + spareBytes) / 1024 ** 2)
  throw new RungError(
    'DATA_DISK_FULL',
    `The disk of ${folder} has no room for another copy of the database. Free ${megabytes} MB on it, or run fewer replicas.`,
  )
}

/** Node reads files in four threads. */
const copiersMax = 4
const pieceBytes = 1024 ** 2

async function copyFiles(options: CopyOptions, draft: string, files: readonly string[], total: number): Promise<void> {
  let done = 0
  let cloning = true
  const waiting = files.values()

  function progress(bytes: number): void {
    done += bytes
    options.onProgress?.(done, Math.max(total, done))
    options.over?.throwIfAborted()
  }

  async function copier(): Promise<void> {
    const piece = Buffer.allocUnsafe(pieceBytes)
    for (const name of waiting) {
      const [from, to] = [path.join(options.from, name), path.join(draft, name)]
      cloning &&= await clone(from, to)
      const source = await open(from, 'r').catch(unlessMissing)
      if (!source) {
        await rm(to, { force: true }) // dropped meanwhile
        continue
      }
      const target = await open(to, cloning ? 'r+' : 'w', 0o600)
      try {
        if (cloning) progress((await target.stat()).size)
        else await copyPieces(source, target, piece)
        await settle(options, target)
      } finally {
        await source.close()
        await target.close()
      }
    }
  }

  /** Up to the end of the file: the server may shorten it meanwhile, and replays the log of that. */
  async function copyPieces(source: FileHandle, target: FileHandle, piece: Buffer): Promise<void> {
    for (;;) {
      const { bytesRead } = await source.read(piece, 0, pieceBytes, null)
      if (bytesRead === 0) return
      for (let at = 0; at < bytesRead; ) at += (await target.write(piece, at, bytesRead - at, null)).bytesWritten
      progress(bytesRead)
    }
  }

  // All of them end before the error is thrown, because the folder is removed then.
  const outcomes = await Promise.allSettled(Array.from({ length: copiersMax }, copier))
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed) throw failed.reason
}

/** File systems such as APFS, Btrfs and XFS share the blocks of a copy. Returns whether this one does; a missing file says nothing. */
async function clone(from: string, to: string): Promise<boolean> {
  return copyFile(from, to, constants.COPYFILE_FICLONE_FORCE).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
  )
}

type FileHandle = Awaited<ReturnType<typeof open>>

async function settle({ launcher, throwaway }: CopyOptions, file: FileHandle): Promise<void> {
  if (launcher.uid !== undefined) await file.chown(launcher.uid, launcher.gid!)
  if (!throwaway) await file.datasync()
}

async function syncFolders(draft: string, folders: readonly string[]): Promise<void> {
  for (const folder of folders) await syncFolder(path.join(draft, folder))
}

async function put(options: CopyOptions, name: string, text: string): Promise<void> {
  await writeFile(name, text, { mode: 0o600 })
  const file = await open(name, 'r+')
  await settle(options, file).finally(() => file.close())
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}

function hasTablespaces(): RungError {
  return new RungError(
    'BACKUP_UNSUPPORTED',
    'This database has tablespaces outside its data directory, which Rung does not copy for a replica. Move their tables back, or run with --replicas 0.',
  )
}
