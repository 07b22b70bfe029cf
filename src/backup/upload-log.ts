import { readdir, readFile, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { zstdCompress, zstdDecompress } from 'node:zlib'
import { sleep, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { type Bucket, claim, holds } from './bucket.ts'
import type { Catalogue, Segment, Timeline } from './catalogue.ts'
import {
  lsnOf,
  names,
  type PositionFile,
  type SegmentManifest,
  segmentIndex,
  segmentName,
  systemFolder,
  timelineFolder,
} from './layout.ts'
import { beforeDigits, pieceName, replaced, unknownBefore } from './pieces.ts'
import { unseal } from './sealed.ts'
import { readRange } from './upload-base.ts'

const zstd = promisify(zstdCompress)
const unzstd = promisify(zstdDecompress)

/** From here on the next piece begins. Until then, each replaces the one before it. */
const pieceBytes = 256 * 1024
/** A small piece that takes longer is sent again on another connection. */
const pieceDeadlineMs = 5_000
const slowBytesPerMs = 200
/** On an idle database, the archived time advances in the bucket. */
const idleEveryMs = 60_000
/** A reader that has just listed the bucket finds what it lists for this long. */
const replacedKeptMs = 60_000
const mergeEveryMs = 1_000

export interface Claim {
  readonly timeline: number
  readonly token: string
}

/** The log of one timeline on its way to the bucket. */
export class LogUpload {
  readonly system: string
  state: { lsn: Lsn; at: number; archivedLsn: Lsn } = { lsn: 0n, at: 0, archivedLsn: 0n }
  /** Of base backups that are on their way. */
  baseBytesLeft = 0
  readonly pace: (bytes: number, signal: AbortSignal) => Promise<void>
  readonly #bucket: Bucket
  readonly #folder: string
  readonly #timeline: number
  readonly #segmentBytes: number
  /** SHA-256 of complete segments in the bucket. */
  readonly #known: Map<string, string>
  #token = ''
  /** Pieces that others have replaced, and since when. */
  #replaced: { name: string; since: number }[] = []
  #pending: Segment[] = []
  #toMerge: { segment: Segment; pieces: readonly string[] }[] = []
  #next: number
  #tail = { index: -1, from: 0, to: 0, sentAt: 0, pieces: [] as string[] }

  constructor(
    { bucket, backupDir, bytesPerS }: { bucket: Bucket; backupDir: string; bytesPerS: number | undefined },
    { id, segments }: Timeline,
    segmentBytes: number,
    there: Catalogue,
  ) {
    this.system = there.system
    this.pace = pacer(bytesPerS)
    this.#bucket = bucket
    this.#folder = systemFolder(backupDir, there.system)
    this.#timeline = id
    this.#segmentBytes = segmentBytes
    this.#next = 1 + (segments.findLast(({ growing }) => !growing)?.index ?? -1)
    const uploaded = there.timelines.flatMap((timeline) => timeline.segments)
    const complete = uploaded.filter(({ bytes }) => bytes === segmentBytes)
    this.#known = new Map(complete.map(({ name, sha256 }) => [name, sha256]))
    const last = uploaded.filter(({ timeline }) => timeline === id).at(-1)
    if (last) this.state = { ...this.state, at: last.at, lsn: lsnOf(last.index, last.bytes, segmentBytes) }
  }

  /**
   * @param pending complete segments that the bucket lacks, oldest first
   * @param split those that it has in pieces
   * @param earlier the claim of an earlier round, which is good as long as it is the latest
   * @returns the claim
   */
  async begin(pending: Segment[], split: Segment[], earlier: Claim | undefined): Promise<Claim> {
    this.#toMerge = split.map((segment) => ({ segment, pieces: segment.pieces! }))
    const who = { host: hostname(), pid: process.pid, at: systemClock.now() }
    const mayGoOn =
      earlier?.timeline === this.#timeline && (await holds(this.#bucket, this.system, this.#timeline, earlier.token))
    this.#token = mayGoOn ? earlier.token : await claim(this.#bucket, this.system, this.#timeline, who)
    this.#pending = pending
    if (this.state.lsn === 0n) this.state.lsn = lsnOf(pending[0]?.index ?? this.#next, 0, this.#segmentBytes)
    const pieces = await this.#bucket.pieces(this.system)
    this.#forget(replaced(this.system, pieces, this.#segmentBytes).map(pieceName), '')
    return { timeline: this.#timeline, token: this.#token }
  }

  /** Whether complete segments wait. */
  get hasMore(): boolean {
    return this.#pending.length > 0
  }

  /** Uploads one segment, or what is new of the growing one. @returns whether there was anything */
  async advance(signal: AbortSignal): Promise<boolean> {
    const folder = timelineFolder(this.#folder, this.#timeline)
    const position = unseal<PositionFile>(await readFile(path.join(folder, names.position), 'utf8'))
    if (!position) throw new RungError('BACKUP_FAILED', `${folder} has no position. The archiver writes it again.`)
    this.state.archivedLsn = parseLsn(position.lsn)!
    const index = segmentIndex(position.name, this.#segmentBytes)
    if (this.#next < index) {
      for (const name of await completeIn(folder)) {
        const own = segmentIndex(name, this.#segmentBytes)
        if (own < this.#next || own >= index) continue
        const manifest = unseal<SegmentManifest>(await readFile(path.join(folder, `${name}.json`), 'utf8'))
        if (!manifest)
          throw new RungError('BACKUP_DAMAGED', `${name}.json in ${folder} was changed. Take a new base backup.`)
        this.#pending.push({ ...manifest, system: this.system, timeline: this.#timeline, index: own, growing: false })
      }
      this.#next = index
    }
    const segment = this.#pending[0]
    if (!segment)
      return this.#sendPiece(position, index, (from, end) => readRange(partialIn(folder, position), from, end))
    if (segment.timeline === this.#timeline && segment.index === this.#tail.index) {
      await this.#sendPiece(segment, segment.index, (from) => restOf(completeFile(folder, segment.name), from))
      if (this.#tail.pieces.length > 1) this.#toMerge.push({ segment, pieces: this.#tail.pieces })
    } else {
      await this.pace((await stat(this.#fileOf(segment))).size, signal)
      await this.#sendWhole(segment)
    }
    this.#pending.shift()
    return true
  }

  /** Replaces the pieces of segments that have become complete: the newest log does not wait for that. */
  async merge(signal: AbortSignal): Promise<never> {
    for (;;) {
      const next = this.#toMerge[0]
      if (!next) {
        await sleep(mergeEveryMs, signal)
        continue
      }
      await this.pace((await stat(this.#fileOf(next.segment))).size, signal)
      this.#forget(next.pieces, await this.#sendWhole(next.segment))
      this.#toMerge.shift()
    }
  }

  /** Whether every complete segment is in the bucket, and the growing one up to there. */
  has(timeline: number, lsn: Lsn): boolean {
    return (
      this.#tail.index !== -1 && this.#pending.length === 0 && (timeline !== this.#timeline || this.state.lsn >= lsn)
    )
  }

  /** @throws BACKUP_FOREIGN if another archiver has claimed the log since */
  async checkClaim(): Promise<void> {
    if (await holds(this.#bucket, this.system, this.#timeline, this.#token)) return
    throw new RungError(
      'BACKUP_FOREIGN',
      `Another process archives timeline ${this.#timeline} of this database to ${this.#bucket.name} since a moment ago. This one stops copying there: end one of the two, or name another folder of the bucket.`,
    )
  }

  /** Removes pieces that were replaced long enough ago. */
  async sweep(): Promise<void> {
    const due = this.#replaced.filter(({ since }) => systemClock.ticks() - since >= replacedKeptMs)
    await this.#bucket.remove(due.map(({ name }) => `${this.system}/${name}`))
    this.#replaced = this.#replaced.filter((one) => !due.includes(one))
  }

  #fileOf({ timeline, name }: Segment): string {
    return completeFile(timelineFolder(this.#folder, timeline), name)
  }

  /** Uploads a segment as one object. @returns its name */
  async #sendWhole(segment: Segment): Promise<string> {
    const { timeline, index, name, bytes, sha256, at } = segment
    const content = await readFile(this.#fileOf(segment))
    const token = this.#tokenOf(timeline)
    const piece = pieceName({ ...segment, token, from: 0, before: await this.#before(timeline, index) })
    await this.#bucket.put(`${this.system}/${piece}`, content)
    if (bytes === this.#segmentBytes) this.#known.set(name, sha256)
    if (timeline === this.#timeline) this.#reach(lsnOf(index, bytes, this.#segmentBytes), at)
    return piece
  }

  /**
   * Uploads what is new of the segment that grows.
   * @param read returns its bytes from one position to another, or undefined if they are elsewhere by now
   */
  async #sendPiece(
    { name, bytes, sha256, openedAt, at, continues }: SegmentManifest,
    index: number,
    read: (from: number, end: number) => Promise<Buffer | undefined>,
  ): Promise<boolean> {
    const tail = this.#tail.index === index ? this.#tail : { index, from: 0, to: -1, sentAt: 0, pieces: [] }
    if (bytes === tail.to && systemClock.ticks() - tail.sentAt < idleEveryMs) {
      this.state.at = at // nothing was written since
      return false
    }
    const from = bytes > tail.to && tail.to - tail.from >= pieceBytes ? tail.to : tail.from
    const content = await read(from, bytes)
    if (!content) return false
    const timeline = this.#timeline
    const before = await this.#before(timeline, index)
    const facts = { name, bytes, sha256, openedAt, at, continues, timeline, token: this.#token, from, before }
    const piece = pieceName(facts)
    const compressed = await zstd(content)
    const deadlineMs = pieceDeadlineMs + compressed.length / slowBytesPerMs
    await this.#bucket.put(`${this.system}/${piece}`, compressed, { deadlineMs })
    if (from === tail.from) this.#forget(tail.pieces.splice(-1), piece)
    this.#tail = { index, from, to: bytes, sentAt: systemClock.ticks(), pieces: [...tail.pieces, piece] }
    if (bytes === this.#segmentBytes) this.#known.set(name, sha256)
    this.#reach(lsnOf(index, bytes, this.#segmentBytes), at)
    return true
  }

  #reach(lsn: Lsn, at: number): void {
    if (lsn >= this.state.lsn) this.state = { ...this.state, lsn, at }
  }

  /** An object of the same name is the same. */
  #forget(pieces: readonly string[], by: string): void {
    const others = pieces.filter((name) => name !== by)
    this.#replaced.push(...others.map((name) => ({ name, since: systemClock.ticks() })))
  }

  /** What led to this timeline is the same for all that continue it, so nobody need claim it. */
  #tokenOf(timeline: number): string {
    return timeline === this.#timeline ? this.#token : '000000-0'
  }

  /** Returns the first digits of the SHA-256 of the segment before this one. */
  async #before(timeline: number, index: number): Promise<string> {
    const name = segmentName(timeline, index - 1, this.#segmentBytes)
    let sha256 = this.#known.get(name)
    if (sha256 === undefined) {
      const file = path.join(timelineFolder(this.#folder, timeline), `${name}.json`)
      const manifest = unseal<SegmentManifest>(await readFile(file, 'utf8').catch(() => ''))
      sha256 = manifest?.bytes === this.#segmentBytes ? manifest.sha256 : undefined
    }
    return sha256?.slice(0, beforeDigits) ?? unknownBefore
  }
}

async function completeIn(folder: string): Promise<string[]> {
  const found = await readdir(folder)
  return found.flatMap((name) => /^([0-9A-F]{24})\.json$/.exec(name)?.[1] ?? []).sort()
}

const partialIn = (folder: string, { name }: SegmentManifest) => path.join(folder, `${name}.partial`)
const completeFile = (folder: string, name: string) => path.join(folder, `${name}.zst`)

async function restOf(file: string, from: number): Promise<Buffer> {
  return (await unzstd(await readFile(file))).subarray(from)
}

/** Returns a function that waits until so many bytes may be sent. */
function pacer(bytesPerS: number | undefined): LogUpload['pace'] {
  let freeAt = 0
  return async (bytes, signal) => {
    if (bytesPerS === undefined) return signal.throwIfAborted()
    const now = systemClock.ticks()
    const waitMs = Math.max(0, freeAt - now)
    freeAt = now + waitMs + (bytes / bytesPerS) * 1000
    await sleep(waitMs, signal)
  }
}
