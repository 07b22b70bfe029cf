import { createHash, type Hash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { type FileHandle, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createZstdCompress } from 'node:zlib'
import { syncFolder, writeWhole, writeWholeSynced } from '../engines/disk/atomic.ts'
import { systemClock } from '../kernel/clock.ts'
import { formatLsn, type Lsn, parseLsn } from '../kernel/position.ts'
import { indexOf, lsnOf, names, type PositionFile, type SegmentManifest, segmentIndex, segmentName } from './layout.ts'
import { seal, unseal } from './sealed.ts'

/**
 * The log of one timeline on disk. A segment grows as `.partial`; once complete it is compressed, then its manifest is written, then
 * the position advances, then the partial file is removed. After a kill between any two of these steps each segment exists at
 * least once.
 */
export interface Archive {
  /** Where the last writer stopped, if everything up to there is intact. */
  readonly resumable: Lsn | undefined
  /** Continues at `resumable`, or begins at the start of any segment. */
  begin(lsn: Lsn): Promise<void>
  append(bytes: Buffer): Promise<void>
  /** Syncs what was appended so far. Everything committed until `at` (ms since the epoch) is in it. May run beside an `append`. */
  flush(at: number): Promise<Lsn>
  /** Position after what was appended. */
  end(): Lsn
  close(): Promise<void>
}

interface Growing {
  index: number
  handle: FileHandle
  bytes: number
  hash: Hash
  openedAt: number
  continues: boolean
}

export async function openArchive(folder: string, timeline: number, segmentBytes: number): Promise<Archive> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const nameOf = (index: number) => segmentName(timeline, index, segmentBytes)
  const found = await recall()
  let at = found?.at ?? 0
  let growing: Growing | undefined
  let flushing: Promise<unknown> | undefined
  let appending: Promise<void> | undefined
  let turning: Promise<void> | undefined
  let closed = false

  /** Returns what the position file says, if the partial segment confirms it. */
  async function recall(): Promise<PositionFile | undefined> {
    const position = unseal<PositionFile>(await readFile(path.join(folder, names.position), 'utf8').catch(() => ''))
    if (!position) return undefined
    const index = segmentIndex(position.name, segmentBytes)
    if (await isComplete(index)) {
      const empty = createHash('sha256').digest('hex')
      const lsn = formatLsn(lsnOf(index + 1, 0, segmentBytes))
      return { ...position, name: nameOf(index + 1), bytes: 0, sha256: empty, continues: true, lsn }
    }
    if (position.bytes === 0) return position
    const hash = await hashOf(partialOf(index), position.bytes).catch(() => undefined)
    return hash?.digest('hex') === position.sha256 ? position : undefined
  }

  async function isComplete(index: number): Promise<boolean> {
    const file = path.join(folder, nameOf(index))
    const manifest = unseal<SegmentManifest>(await readFile(`${file}.json`, 'utf8').catch(() => ''))
    if (manifest?.bytes !== segmentBytes) return false
    return stat(`${file}.zst`).then(
      () => true,
      () => false,
    )
  }

  function partialOf(index: number): string {
    return path.join(folder, `${nameOf(index)}.partial`)
  }

  async function begin(lsn: Lsn): Promise<void> {
    if (found && lsn === parseLsn(found.lsn)) {
      const { bytes, openedAt, continues } = found
      const index = segmentIndex(found.name, segmentBytes)
      const handle = await open(partialOf(index), bytes === 0 ? 'w' : 'r+', 0o600)
      await handle.truncate(bytes) // bytes behind it were never confirmed
      growing = { index, handle, bytes, hash: await hashOf(partialOf(index), bytes), openedAt, continues }
      return
    }
    const index = indexOf(lsn, segmentBytes)
    const left = found && segmentIndex(found.name, segmentBytes)
    // The log in between is lost. The part of the old segment stays, for restores to a time before that.
    if (found && found.bytes > 0 && left !== index) await store(partialOf(left!), found)
    await openNext(index)
    await flush(at)
  }

  async function openNext(index: number): Promise<void> {
    const handle = await open(partialOf(index), 'w', 0o600)
    const continues = await isComplete(index - 1)
    growing = { index, handle, bytes: 0, hash: createHash('sha256'), openedAt: systemClock.now(), continues }
  }

  function manifestOf({ index, bytes, hash, openedAt, continues }: Growing): SegmentManifest {
    return { name: nameOf(index), bytes, sha256: hash.copy().digest('hex'), openedAt, at, continues }
  }

  /** Compresses a partial file, and writes its manifest. */
  async function store(partial: string, { name, bytes, sha256, openedAt, at, continues }: SegmentManifest) {
    const file = path.join(folder, name)
    const draft = `${file}.zst.draft`
    await pipeline(
      createReadStream(partial, { end: bytes - 1 }),
      createZstdCompress(),
      createWriteStream(draft, { mode: 0o600, flush: true }),
    )
    await rename(draft, `${file}.zst`)
    await writeWholeSynced(`${file}.json`, seal({ name, bytes, sha256, openedAt, at, continues }))
  }

  async function append(data: Buffer): Promise<void> {
    for (let rest = data; rest.length > 0 && !closed; ) {
      const piece = rest.subarray(0, segmentBytes - growing!.bytes)
      await growing!.handle.write(piece, 0, piece.length, growing!.bytes)
      growing!.hash.update(piece)
      growing!.bytes += piece.length
      rest = rest.subarray(piece.length)
      if (growing!.bytes < segmentBytes) continue
      turning = turnOver()
      await turning
    }
  }

  async function turnOver(): Promise<void> {
    const done = growing!
    await flushing?.catch(() => {}) // it needs the file open; the next one waits for this turn
    await done.handle.close()
    await store(partialOf(done.index), manifestOf(done))
    await openNext(done.index + 1)
    await flush(at)
    await rm(partialOf(done.index))
  }

  async function flush(now: number): Promise<Lsn> {
    const { handle, bytes } = growing!
    at = Math.max(at, now)
    const lsn = end()
    const position: PositionFile = { ...manifestOf(growing!), lsn: formatLsn(lsn) } // before the sync: later bytes may not be safe yet
    await handle.datasync()
    await writeWhole(path.join(folder, names.position), seal(position))
    if (bytes === 0) await syncFolder(folder)
    return lsn
  }

  function end(): Lsn {
    return lsnOf(growing!.index, growing!.bytes, segmentBytes)
  }

  return {
    resumable: found && parseLsn(found.lsn),
    begin,
    append(bytes) {
      appending = append(bytes)
      return appending
    },
    async flush(now) {
      await turning
      const safe = flush(now)
      flushing = safe
      return safe
    },
    end,
    async close() {
      closed = true
      await Promise.allSettled([flushing, appending])
      await growing?.handle.close()
    },
  }
}

/** Returns the hash of a file's first bytes, so that it can be continued. */
async function hashOf(file: string, bytes: number): Promise<Hash> {
  const hash = createHash('sha256')
  if (bytes > 0) for await (const chunk of createReadStream(file, { end: bytes - 1 })) hash.update(chunk)
  return hash
}
