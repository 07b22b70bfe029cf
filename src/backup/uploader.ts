import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { zstdCompress, zstdDecompress } from 'node:zlib'
import { after, sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, RungError } from '../kernel/errors.ts'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { backoffMs } from '../kernel/random.ts'
import type { ArchiveState } from './archiver.ts'
import { type Bucket, claim, holds } from './bucket.ts'
import { type Catalogue, readCatalogue, type Segment, type Timeline } from './catalogue.ts'
import { uploaded } from './channels.ts'
import { folderPlace } from './folder.ts'
import {
  basesFolder,
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
import { lacking } from './policy.ts'
import { unseal } from './sealed.ts'
import { readRange, retire, uploadBase } from './upload-base.ts'

const zstd = promisify(zstdCompress)
const unzstd = promisify(zstdDecompress)

/**
 * The second stage of the backups: copies what the archiver has made safe in the folder to a bucket. The folder says what there is, a listing of the
 * bucket says what is lacking, and nothing else is remembered: whenever it is killed, or the store fails, it begins a new round.
 *
 *   waiting ──archive streams──► compare ──same log──► claim ──► segments ──► follow the growing one
 *      ▲                            │                               └──► base backups, then retention
 *      ├──────── another log ◄──────┴──── a later claim ◄───────────┤
 *      └──────── back off ◄──── the store or the folder fails ◄─────┘
 */
export interface Uploader {
  /** Begins a round: the archive was begun, or continued, perhaps on another timeline. */
  renew(): void
  /** Looks for new base backups. */
  lookForBases(): void
  state(): UploadState
  /** Resolves once the log up to `lsn`, and every base backup that the folder has now, is in the bucket; rejects with what stops it. */
  reached(lsn: Lsn): Promise<void>
  /** Uploads what is archived by now, if the store answers, and ends. */
  stop(): Promise<void>
}

export interface UploadState {
  /** Everything committed until then is in the bucket; ms since the epoch, 0 if nothing is known yet. */
  at: number
  lsn: Lsn
  behindBytes: number
}

export interface UploaderOptions {
  backupDir: string
  bucket: Bucket
  /** Base backups that the bucket keeps. */
  keep: number
  /** Most bytes a second for base backups and complete segments. What is newest of the log is not held up. */
  bytesPerS: number | undefined
  archive(): Pick<ArchiveState, 'system' | 'timeline' | 'serverLsn'>
  onEvent?: (event: UploadEvent) => void
}

export type UploadEvent =
  | { kind: 'lost'; error: unknown }
  /** `refused`: the store keeps what was to be removed. */
  | { kind: 'caught-up' | 'refused' }
  | { kind: 'behind'; bytes: number; ms: number }

/** A loss is at most this, the flush of the archive (250 ms), and the time of one request. */
const pieceEveryMs = 500
const lookEveryMs = 100
/** From here on the next piece begins. Until then, each replaces the one before it. */
const pieceBytes = 256 * 1024
/** A small piece that takes longer is sent again on another connection. */
const pieceDeadlineMs = 5_000
const slowBytesPerMs = 200
/** On an idle database, the archived time advances in the bucket. */
const idleEveryMs = 60_000
/** A reader that has just listed the bucket finds what it lists for this long. */
const replacedKeptMs = 60_000
const claimCheckedEveryMs = 5_000
const mergeEveryMs = 1_000
const finishMsMax = 5_000
const tellBehindMs = 60_000
const tellAgainMs = 600_000

export function startUploader(options: UploaderOptions): Uploader {
  const { backupDir, bucket } = options
  const over = new AbortController()
  const state: UploadState = { at: 0, lsn: 0n, behindBytes: 0 }
  let finishing = false
  let begun = Promise.withResolvers<void>()
  let round = new AbortController()
  let basesWanted = Promise.withResolvers<void>()
  let basesDone = ''
  let lost: unknown
  let toldBehindAt = Number.NEGATIVE_INFINITY
  let currentSince = systemClock.now()

  async function run(): Promise<void> {
    await begun.promise
    for (let attempt = 0; !over.signal.aborted; attempt += 1) {
      begun = Promise.withResolvers()
      round = new AbortController()
      const signal = AbortSignal.any([round.signal, over.signal])
      try {
        await copy(options.archive().system!, signal, () => {
          attempt = 0
          lost = undefined
        })
        if (finishing) return
      } catch (error) {
        if (over.signal.aborted) return
        if (round.signal.aborted) continue
        lost = error
        options.onEvent?.({ kind: 'lost', error })
        await measure().catch(() => {})
        tell()
        if (finishing) return
        // It belongs to another database or another archiver now; only a new connection to the database makes it this one's again.
        if (isRungError(error, 'BACKUP_FOREIGN')) await begun.promise
        else await sleep(100 + backoffMs(attempt, 200, 5_000), signal).catch(() => {})
      }
    }
  }

  async function copy(system: string, signal: AbortSignal, onCurrent: () => void): Promise<void> {
    const ended = new AbortController()
    const own = AbortSignal.any([signal, ended.signal])
    const here = await readCatalogue(backupDir, system)
    const there = await bucket.catalogue(system)
    const timeline = here.timelines.find(({ id }) => id === options.archive().timeline)
    if (!timeline?.position) return sleep(lookEveryMs, signal) // the archive has just begun
    const segmentBytes = (here.bases[0] ?? there.bases[0])?.segmentBytes ?? 16 * 1024 ** 2
    await compare(here, there, timeline, segmentBytes, own)
    const log = new LogUpload(options, timeline, segmentBytes, there)
    const complete = new Set(timeline.segments.filter(({ growing }) => !growing).map(({ name }) => name))
    const theirs = there.timelines.find(({ id }) => id === timeline.id)?.segments ?? []
    const split = theirs.filter(({ name, bytes, pieces }) => {
      return complete.has(name) && bytes === segmentBytes && pieces!.length > 1
    })
    await log.begin(lacking(here, there, timeline).segments, split)
    const work = [follow(log, own, onCurrent), basesOf(log, timeline, own), log.merge(own), guard(log, own)]
    try {
      await Promise.race(work)
    } finally {
      ended.abort()
      await Promise.allSettled(work)
    }
  }

  /** Uploads the log; returns once there is nothing more and the end is wanted. */
  async function follow(log: LogUpload, signal: AbortSignal, onCurrent: () => void): Promise<void> {
    for (;;) {
      signal.throwIfAborted()
      const sent = await log.advance(signal)
      const { lsn, at, archivedLsn } = log.state
      Object.assign(state, { lsn, at, behindBytes: bytesTo(archivedLsn, lsn) + log.baseBytesLeft })
      if (lsn >= archivedLsn) {
        if (lost !== undefined) options.onEvent?.({ kind: 'caught-up' })
        onCurrent()
        currentSince = systemClock.now()
        if (finishing && !sent) return
      }
      tell()
      if (!log.hasMore) await sleep(sent ? pieceEveryMs : lookEveryMs, signal)
    }
  }

  /** While nothing is uploaded, the archive grows on. */
  async function measure(): Promise<void> {
    const { system, timeline } = options.archive()
    const folder = timelineFolder(systemFolder(backupDir, system!), timeline!)
    const position = unseal<PositionFile>(await readFile(path.join(folder, names.position), 'utf8'))
    if (position && state.lsn > 0n) state.behindBytes = bytesTo(parseLsn(position.lsn)!, state.lsn)
  }

  function tell(): void {
    if (uploaded.hasSubscribers) uploaded.publish({ backupDir, ...state })
    const ms = systemClock.now() - currentSince
    if (ms < tellBehindMs || systemClock.ticks() - toldBehindAt < tellAgainMs) return
    toldBehindAt = systemClock.ticks()
    options.onEvent?.({ kind: 'behind', bytes: state.behindBytes, ms })
  }

  /** Uploads base backups, and removes what the bucket keeps no longer. */
  async function basesOf(log: LogUpload, timeline: Timeline, signal: AbortSignal): Promise<void> {
    const folder = basesFolder(systemFolder(backupDir, log.system))
    const ended = aborted(signal)
    ended.catch(() => {})
    for (;;) {
      basesWanted = Promise.withResolvers()
      const ids = (await readdir(folder).catch(() => [])).filter((id) => !id.startsWith('.')).join()
      if (ids !== basesDone) {
        const there = await bucket.catalogue(log.system)
        const { bases } = lacking(await readCatalogue(backupDir, log.system), there, timeline)
        for (const base of bases) await uploadBase({ bucket, folder, base, log, signal })
        if (!(await retire(bucket, log.system, options.keep))) options.onEvent?.({ kind: 'refused' })
        basesDone = ids
      }
      await Promise.race([basesWanted.promise, ended])
    }
  }

  async function guard(log: LogUpload, signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(claimCheckedEveryMs, signal)
      await log.checkClaim()
      await log.sweep()
    }
  }

  /**
   * Makes sure that the log in the bucket is an earlier state of the log here, and not that of a copy of this database, or of a later state to which
   * this one was set back.
   * @throws BACKUP_FOREIGN
   */
  async function compare(
    here: Catalogue,
    there: Catalogue,
    { id }: Timeline,
    segmentBytes: number,
    signal: AbortSignal,
  ): Promise<void> {
    const ours = new Map(here.timelines.flatMap(({ segments }) => segments.map((one) => [one.name, one])))
    const [folder, remote] = [folderPlace(backupDir), await bucket.histories(here.system)]
    for (const [name, text] of await folder.histories(here.system)) {
      const theirs = remote.get(name)
      if (theirs === text) continue
      const timeline = Number.parseInt(name, 16)
      // A restore has reserved it, and nothing was archived on it: then it is free.
      if (theirs !== undefined && there.timelines.some((one) => one.id === timeline)) {
        throw foreign(`timeline ${timeline} branched off elsewhere`)
      }
      await bucket.put(`${here.system}/wal/${name}`, Buffer.from(text))
    }
    for (const theirs of there.timelines.flatMap(({ segments }) => segments)) {
      const own = ours.get(theirs.name)
      if (own?.bytes === theirs.bytes && own.sha256 !== theirs.sha256 && !own.growing) {
        throw foreign(`it has another ${theirs.name}`)
      }
    }
    const last = there.timelines.find((one) => one.id === id)?.segments.at(-1)
    if (!last) return
    const end = lsnOf(last.index, last.bytes, segmentBytes)
    for (;;) {
      const now = (await readCatalogue(backupDir, here.system)).timelines.find((one) => one.id === id)!
      const reached = now.position && parseLsn(now.position.lsn)!
      if (reached !== undefined && reached >= end) {
        const own = now.segments.find(({ index }) => index === last.index)
        if (own && (await hashOf(folder.readSegment(own), last.bytes)) !== last.sha256) {
          throw foreign(`it has another ${last.name}`)
        }
        return
      }
      const { serverLsn } = options.archive()
      if (serverLsn > 0n && end > serverLsn) throw foreign('its log is ahead of this database')
      await sleep(lookEveryMs, signal)
    }
  }

  function foreign(why: string): RungError {
    return new RungError(
      'BACKUP_FOREIGN',
      `In ${bucket.name} are backups of another copy of this database: ${why}. Nothing is copied there now. If this copy is the one that counts, name another folder of the bucket in RUNG_BACKUP_S3_URL; otherwise restore from there.`,
    )
  }

  const running = run()
  return {
    renew() {
      begun.resolve()
      round.abort()
    },
    lookForBases: () => basesWanted.resolve(),
    state: () => state,
    async reached(lsn) {
      const folder = basesFolder(systemFolder(backupDir, options.archive().system!))
      const ids = (await readdir(folder)).filter((id) => !id.startsWith('.')).join()
      basesWanted.resolve()
      while (state.lsn < lsn || basesDone !== ids) {
        if (lost !== undefined) throw lost
        await sleep(lookEveryMs)
      }
    },
    async stop() {
      finishing = true
      if (options.archive().system === undefined) over.abort()
      begun.resolve()
      const forget = after(finishMsMax, () => over.abort())
      await running
      forget()
    },
  }
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
    { bucket, backupDir, bytesPerS }: UploaderOptions,
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
   */
  async begin(pending: Segment[], split: Segment[]): Promise<void> {
    this.#toMerge = split.map((segment) => ({ segment, pieces: segment.pieces! }))
    const who = { host: hostname(), pid: process.pid, at: systemClock.now() }
    this.#token = await claim(this.#bucket, this.system, this.#timeline, who)
    this.#pending = pending
    if (this.state.lsn === 0n) this.state.lsn = lsnOf(pending[0]?.index ?? this.#next, 0, this.#segmentBytes)
    const pieces = await this.#bucket.pieces(this.system)
    this.#forget(replaced(this.system, pieces, this.#segmentBytes).map(pieceName), '')
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

const bytesTo = (end: Lsn, from: Lsn) => Math.max(0, Number(end - from))

async function completeIn(folder: string): Promise<string[]> {
  const found = await readdir(folder)
  return found.flatMap((name) => /^([0-9A-F]{24})\.json$/.exec(name)?.[1] ?? []).sort()
}

const partialIn = (folder: string, { name }: SegmentManifest) => path.join(folder, `${name}.partial`)
const completeFile = (folder: string, name: string) => path.join(folder, `${name}.zst`)

async function restOf(file: string, from: number): Promise<Buffer> {
  return (await unzstd(await readFile(file))).subarray(from)
}

async function hashOf(content: AsyncIterable<Buffer>, bytes: number): Promise<string> {
  const hash = createHash('sha256')
  let left = bytes
  for await (const chunk of content) {
    hash.update(chunk.subarray(0, left))
    left -= Math.min(left, chunk.length)
    if (left === 0) break
  }
  return hash.digest('hex')
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

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}
