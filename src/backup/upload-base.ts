import { open, stat } from 'node:fs/promises'
import path from 'node:path'
import { codeOf } from '../engines/disk/atomic.ts'
import { sleep } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { type Bucket, fileObject, manifestObject } from './bucket.ts'
import { sealBytes } from './cipher.ts'
import type { BaseManifest, BucketManifest } from './layout.ts'
import { pieceName } from './pieces.ts'
import { expendable } from './policy.ts'

/** What is in memory of a file is twice this for each of `atOnce`. */
const pieceBytes = 4 * 1024 ** 2
const atOnce = 2

/** The log on its way beside the base backups. */
interface Log {
  readonly system: string
  baseBytesLeft: number
  pace(bytes: number, signal: AbortSignal): Promise<void>
  /** Whether the bucket has the log up to there. */
  has(timeline: number, lsn: Lsn): boolean
}

/** Copies a base backup to the bucket. What an earlier attempt has copied stays; its description is written last, when the log is there too. */
export async function uploadBase(options: {
  bucket: Bucket
  /** The folder of the base backups. */
  folder: string
  base: BaseManifest
  log: Log
  signal: AbortSignal
}): Promise<void> {
  const { bucket, folder, base, log, signal } = options
  const there = await bucket.list(`${log.system}/base/${base.id}/`)
  const pieces: Record<string, number> = {}
  const all: { object: string; file: string; start: number; bytes: number }[] = []
  for (const { name } of base.files) {
    const file = path.join(folder, base.id, name)
    const { size } = await stat(file)
    pieces[name] = Math.ceil(size / pieceBytes)
    for (let n = 0; n < pieces[name]; n += 1) {
      const start = n * pieceBytes
      const bytes = Math.min(pieceBytes, size - start)
      all.push({ object: fileObject(log.system, base.id, name, n), file, start, bytes })
    }
  }
  const left = all.filter(({ object, bytes }) => there.get(object) !== bytes + sealBytes)
  const sizeOf = (some: typeof all) => some.reduce((sum, { bytes }) => sum + bytes, 0)
  log.baseBytesLeft = sizeOf(left)
  const worker = async () => {
    for (let next = left.shift(); next; next = left.shift()) {
      const { object, file, start, bytes } = next
      await log.pace(bytes, signal)
      const content = await readRange(file, start, start + bytes)
      if (!content) throw new RungError('BACKUP_FAILED', `${file} was removed while it was copied. Nothing is lost.`)
      await bucket.put(object, content)
      log.baseBytesLeft -= bytes
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  while (!log.has(base.timeline, parseLsn(base.stopLsn)!)) await sleep(100, signal)
  const now = await bucket.list(`${log.system}/base/${base.id}/`)
  const missing = all.find(({ object }) => !now.has(object))
  if (missing) {
    throw new RungError(
      'BACKUP_FAILED',
      `${missing.object} was removed from ${bucket.name} by another. It is copied again.`,
    )
  }
  const manifest: BucketManifest = { ...base, pieces }
  await bucket.put(manifestObject(log.system, base.id), Buffer.from(JSON.stringify(manifest)))
}

/** Returns the bytes of a file from one position to another, or undefined if they are not there any more. */
export async function readRange(file: string, start: number, end: number): Promise<Buffer | undefined> {
  const handle = await open(file).catch((error) => {
    if (codeOf(error) !== 'ENOENT') throw error
  })
  if (!handle) return undefined
  try {
    const bytes = Buffer.alloc(end - start)
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, start)
    return bytesRead === bytes.length ? bytes : undefined
  } finally {
    await handle.close()
  }
}

/**
 * Removes the base backups before the newest `keep`, the log that those do not need, and what is left of base backups that were never finished.
 * @returns false if the store keeps what was to be removed
 */
export async function retire(bucket: Bucket, system: string, keep: number): Promise<boolean> {
  const catalogue = await bucket.catalogue(system)
  const { bases, segments } = expendable(catalogue, keep)
  const [oldest] = catalogue.bases.filter((base) => !bases.includes(base))
  if (!oldest) return true
  const objects = [...(await bucket.list(`${system}/base/`)).keys()]
  const byId = Map.groupBy(objects, (object) => object.split('/')[2]!)
  for (const [id, own] of byId) {
    const manifest = manifestObject(system, id)
    const isGone = bases.some((base) => base.id === id) || (id < oldest.id && !own.includes(manifest))
    // First of all what makes it a backup; if that must stay, all of it stays.
    if (!isGone) continue
    if (!(await bucket.remove(own.filter((object) => object === manifest)))) return false
    if (!(await bucket.remove(own.filter((object) => object !== manifest)))) return false
  }
  const gone = new Set(segments.map(({ name }) => name))
  const pieces = (await bucket.pieces(system)).filter(({ name }) => gone.has(name))
  return bucket.remove(pieces.map((piece) => `${system}/${pieceName(piece)}`))
}
