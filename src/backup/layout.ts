import path from 'node:path'
import type { Lsn } from '../kernel/position.ts'

/**
 * The layout of a backup directory. Databases are told apart by their system identifiers, so several may share one directory; a log
 * is kept by timeline, so that a restored database and the original never mix.
 *
 *   7710800039879746486/            the system identifier
 *     base/20261103T101112.345Z/    a base backup
 *       base.tar.zst                the data directory
 *       backup_manifest             Postgres' own list of its files, each with a SHA-256
 *       secret                      root of the app's keys, where it is kept beside the data
 *       backup.json                 sealed, written last: without it there is no backup
 *     wal/00000001/                 the log of timeline 1
 *       000000010000000000000004.zst   a segment that is complete
 *       000000010000000000000004.json  sealed: its SHA-256 and its times
 *       000000010000000000000005.partial   the segment that is being written
 *       position.json               sealed: how far the partial segment is safe on disk
 *     wal/00000002.history          where timeline 2 branched off
 */

export interface StoredFile {
  name: string
  /** Before compression, as the checksum. */
  bytes: number
  sha256: string
}

/** `backup.json`. Times are the server's, ms since the epoch; LSNs are text. */
export interface BaseManifest {
  id: string
  system: string
  postgres: string
  timeline: number
  /** The log is needed from here … */
  startLsn: string
  /** … at least to here. */
  stopLsn: string
  startedAt: number
  finishedAt: number
  segmentBytes: number
  files: StoredFile[]
}

/** What a base backup is in a bucket: the numbers of objects that its files consist of, by their names. */
export type BucketManifest = BaseManifest & { pieces: Readonly<Record<string, number>> }

/** `<segment>.json`; `position.json` has the same about the partial one. */
export interface SegmentManifest {
  name: string
  /** Bytes received: a whole segment, or less if the log was not followed any further. */
  bytes: number
  sha256: string
  /** When its first byte arrived, ms. */
  openedAt: number
  /** Everything committed until then, by the server's clock, is in the log up to here. */
  at: number
  /** The segment before it was complete in the archive, and must exist as long as a backup needs it. */
  continues: boolean
}

export type PositionFile = SegmentManifest & { lsn: string }

export const names = {
  tar: 'base.tar.zst',
  fileList: 'backup_manifest',
  manifest: 'backup.json',
  position: 'position.json',
} as const

export function systemFolder(backupDir: string, system: string): string {
  return path.join(backupDir, system)
}

export function basesFolder(folder: string): string {
  return path.join(folder, 'base')
}

export function walFolder(folder: string): string {
  return path.join(folder, 'wal')
}

export function timelineFolder(folder: string, timeline: number): string {
  return path.join(walFolder(folder), timelineName(timeline))
}

export function timelineName(timeline: number): string {
  return hex8(timeline)
}

/** Returns where a segment is, in the folder of its database. */
export function segmentFile({ timeline, name, growing }: { timeline: number; name: string; growing: boolean }): string {
  return `wal/${timelineName(timeline)}/${name}.${growing ? 'partial' : 'zst'}`
}

export function historyName(timeline: number): string {
  return `${hex8(timeline)}.history`
}

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, '0')
}

/** Postgres counts segments within 4 GiB: `000000010000000A000000FF` is number 0xAFF at 16 MiB each. */
export function segmentName(timeline: number, index: number, segmentBytes: number): string {
  const perId = 2 ** 32 / segmentBytes
  return `${hex8(timeline)}${hex8(Math.floor(index / perId))}${hex8(index % perId)}`
}

export function segmentIndex(name: string, segmentBytes: number): number {
  return Number.parseInt(name.slice(8, 16), 16) * (2 ** 32 / segmentBytes) + Number.parseInt(name.slice(16), 16)
}

export function indexOf(lsn: Lsn, segmentBytes: number): number {
  return Number(lsn / BigInt(segmentBytes))
}

export function lsnOf(index: number, bytes: number, segmentBytes: number): Lsn {
  return BigInt(index) * BigInt(segmentBytes) + BigInt(bytes)
}

/** Names a base backup by when it began, to the millisecond. */
export function baseId(startedAt: number): string {
  return new Date(startedAt).toISOString().replace(/[-:]/g, '')
}
