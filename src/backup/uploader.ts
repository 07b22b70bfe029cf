import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { after, sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { backoffMs } from '../kernel/random.ts'
import type { ArchiveState } from './archiver.ts'
import type { Bucket } from './bucket.ts'
import { type Catalogue, readCatalogue, type Timeline } from './catalogue.ts'
import { uploaded } from './channels.ts'
import { folderPlace } from './folder.ts'
import { basesFolder, lsnOf, names, type PositionFile, systemFolder, timelineFolder } from './layout.ts'
import { lacking } from './policy.ts'
import { unseal } from './sealed.ts'
import { retire, uploadBase } from './upload-base.ts'
import { type Claim, LogUpload } from './upload-log.ts'

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
const claimCheckedEveryMs = 5_000
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
  let baseLost: unknown
  let claimed: Claim | undefined
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
    claimed = await log.begin(lacking(here, there, timeline).segments, split, claimed)
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
        const isBack = lost !== undefined && baseLost === undefined
        onCurrent()
        if (isBack) options.onEvent?.({ kind: 'caught-up' })
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
    const copyBases = async (ids: string) => {
      for (let base = await nextBase(); base; base = await nextBase()) {
        await uploadBase({ bucket, folder, base, log, signal })
      }
      if (!(await retire(bucket, log.system, options.keep))) options.onEvent?.({ kind: 'refused' })
      basesDone = ids
    }
    const nextBase = async () => {
      const there = await bucket.catalogue(log.system)
      return lacking(await readCatalogue(backupDir, log.system), there, timeline).bases[0]
    }
    for (let attempt = 0; ; attempt += 1) {
      basesWanted = Promise.withResolvers()
      const ids = await idsIn(folder)
      try {
        if (ids !== basesDone) await copyBases(ids)
        if (baseLost !== undefined && lost === undefined) options.onEvent?.({ kind: 'caught-up' })
        baseLost = undefined
        attempt = 0
        await Promise.race([basesWanted.promise, ended])
      } catch (error) {
        // The log goes on meanwhile.
        if (signal.aborted || isRungError(error, 'BACKUP_FOREIGN')) throw error
        if (baseLost === undefined || messageOf(error) !== messageOf(baseLost))
          options.onEvent?.({ kind: 'lost', error })
        baseLost = error
        await Promise.race([basesWanted.promise, sleep(100 + backoffMs(attempt, 200, 30_000), signal)])
      }
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
      const ids = await idsIn(folder)
      basesWanted.resolve()
      while (state.lsn < lsn || basesDone !== ids) {
        if (lost !== undefined) throw lost
        if (baseLost !== undefined) throw baseLost
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

/** The ids of the base backups in a folder, which may not be there yet. */
async function idsIn(folder: string): Promise<string> {
  return (await readdir(folder).catch(() => [])).filter((id) => !id.startsWith('.')).join()
}

const bytesTo = (end: Lsn, from: Lsn) => Math.max(0, Number(end - from))

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

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}
