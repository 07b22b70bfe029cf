import { type FileHandle, link, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import path from 'node:path'
import { systemClock } from '../../kernel/clock.ts'
import { uuid } from '../../kernel/random.ts'
import { isRunning } from '../process/is-running.ts'

/**
 * Writes files completely or not at all, whenever a process or the machine dies:
 *
 *     draft ── write ── fsync ── rename (or link) ──► target ── fsync of its folder
 *
 * A crash leaves a draft at most, which the next start removes.
 */
export interface Place {
  /** Folder of the drafts, on the same file system as the target. */
  drafts: string
  target: string
  /** False: an existing target is an error, `EEXIST`. */
  replace: boolean
}

/** Writes a file. @throws the errors of `fill`, or Node's with their `code` */
export async function writeAtomically(place: Place, fill: (file: FileHandle) => Promise<void>): Promise<void> {
  await makeFolder(place.drafts)
  const draft = path.join(place.drafts, [...own, uuid()].join('.'))
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await fill(file)
      await file.sync()
    } finally {
      await file.close()
    }
    await moveInto(draft, place)
  } finally {
    await rm(draft, { force: true }).catch(() => {}) // otherwise the next start removes it
  }
}

/** Writes the whole chunk; `FileHandle.write` may write only a part. */
export async function writeAll(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, done, chunk.length - done, position + done)
    done += bytesWritten
  }
}

/** Another process may remove an empty folder just before it is used. */
const attemptsMax = 10

async function moveInto(draft: string, { target, replace }: Place): Promise<void> {
  const folder = path.dirname(target)
  for (let attempt = 1; ; attempt += 1) {
    try {
      await makeFolder(folder)
      await (replace ? rename(draft, target) : link(draft, target))
      break
    } catch (error) {
      if (codeOf(error) !== 'ENOENT' || attempt === attemptsMax) throw error
    }
  }
  await syncFolder(folder)
}

/** Creates a folder and its parents, and syncs them to the disk. */
async function makeFolder(folder: string): Promise<void> {
  const first = await mkdir(folder, { recursive: true, mode: 0o700 })
  if (first === undefined) return
  for (let made = folder; made.length >= first.length; made = path.dirname(made)) await syncFolder(path.dirname(made))
}

/** Writes a file whose only writer is this process: it exists completely or not at all, also after a power failure. */
export async function writeWhole(file: string, data: string | Uint8Array): Promise<void> {
  const draft = `${file}.draft`
  const handle = await open(draft, 'w', 0o600)
  try {
    await handle.writeFile(data)
    await handle.datasync()
  } finally {
    await handle.close()
  }
  await rename(draft, file)
}

/** As `writeWhole`; once it resolves, the file stays also after a power failure. */
export async function writeWholeSynced(file: string, data: string | Uint8Array): Promise<void> {
  await writeWhole(file, data)
  await syncFolder(path.dirname(file))
}

/** Syncs a folder, and with it the names of its files. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch((error) => {
    if (codeOf(error) !== 'ENOENT') throw error
  })
  await handle?.sync().finally(() => handle.close())
}

/** Owner of a draft: the machine, the process, and this start of it, because a container's process has the same number at every start. */
const own = [hostname().replace(/[^A-Za-z0-9-]/g, '-'), String(process.pid), uuid().slice(0, 8)] as const
/** A draft of another machine is abandoned if nothing was written for this long. */
const abandonedAfterMs = 24 * 3_600_000

/** Removes the drafts of processes that have ended. */
export async function removeAbandoned(drafts: string): Promise<void> {
  const names = await readdir(drafts).catch((error) => {
    if (codeOf(error) === 'ENOENT') return []
    throw error
  })
  for (const name of names) {
    const file = path.join(drafts, name)
    if (await isAbandoned(file)) await rm(file, { force: true })
  }
}

async function isAbandoned(file: string): Promise<boolean> {
  const [host, pid, life] = path.basename(file).split('.')
  if (host === own[0] && life !== own[2] && (pid === own[1] || !isRunning(Number(pid)))) return true
  const changed = await stat(file).catch(() => undefined)
  return changed !== undefined && systemClock.now() - changed.mtimeMs > abandonedAfterMs
}

export function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code
}
