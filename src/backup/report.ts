import path from 'node:path'
import { parseLsn } from '../kernel/position.ts'
import type { Fault } from './catalogue.ts'
import type { BaseManifest } from './layout.ts'
import { cataloguesOf, type Place } from './place.ts'
import { currentTimeline, ranges, windows } from './policy.ts'
import { verify } from './verify.ts'

/** Times that can be restored: ISO 8601, UTC. */
export interface RestorableRange {
  from: string
  to: string
}

/** The backups of one database. */
export interface BackupList {
  /** The database's system identifier. */
  system: string
  /** The timeline that was archived last. */
  timeline: number | null
  /** Oldest first, with the times that each can be restored to; none where its log is not complete. */
  bases: (BaseManifest & { restores: (RestorableRange & { timeline: number })[] })[]
  /** What can be restored on the current timeline. */
  ranges: RestorableRange[]
  faults: Fault[]
}

/** Lists the backups of every database in a place. */
export async function listBackups(place: Place): Promise<BackupList[]> {
  return (await cataloguesOf(place)).map((catalogue) => {
    const { system, timelines, bases, faults } = catalogue
    const current = currentTimeline(catalogue)
    const found = timelines.flatMap((timeline) => windows(catalogue, timeline))
    return {
      system,
      timeline: current?.id ?? null,
      bases: bases.map((base) => ({
        ...base,
        restores: found.filter((one) => one.base === base).map((one) => ({ timeline: one.timeline, ...inIso(one) })),
      })),
      ranges: ranges(found.filter(({ timeline }) => timeline === current?.id)).map(inIso),
      faults,
    }
  })
}

/** How far the copy of a folder in a bucket is. */
export interface Outside {
  bucket: string
  bases: number
  /** Everything committed until then is in the bucket: ISO 8601, UTC. */
  until: string | null
  behindBytes: number
  behindMs: number
}

/** Compares what a folder has of one database with what is in the bucket. */
export async function outsideOf(folder: Place, bucket: Place, system: string): Promise<Outside> {
  const [here, there] = await Promise.all([folder.catalogue(system), bucket.catalogue(system)])
  const timeline = currentTimeline(here)
  const own = timeline?.position
  const copied = there.timelines.find(({ id }) => id === timeline?.id)?.position
  const behindBytes = own ? Math.max(0, Number(parseLsn(own.lsn)! - (copied ? parseLsn(copied.lsn)! : 0n))) : 0
  const until = (behindBytes === 0 ? own : copied)?.at
  return {
    bucket: bucket.name,
    bases: there.bases.length,
    until: until === undefined ? null : new Date(until).toISOString(),
    behindBytes,
    behindMs: own && copied && behindBytes > 0 ? Math.max(0, own.at - copied.at) : 0,
  }
}

export function inIso({ from, to }: { from: number; to: number }): RestorableRange {
  return { from: new Date(from).toISOString(), to: new Date(to).toISOString() }
}

/** Reads every file of a place. Returns how many there are, and what is wrong with which. */
export async function verifyBackups(
  place: Place,
  onProgress: (done: number, total: number) => void,
): Promise<{ databases: number; files: number; faults: Fault[] }> {
  const catalogues = await cataloguesOf(place)
  const faults: Fault[] = []
  let files = 0
  for (const catalogue of catalogues) {
    const found = await verify(place, catalogue, (done, total) => {
      if (done === 0) files += total
      onProgress(done, total)
    })
    faults.push(...found.map(({ file, what }) => ({ file: path.join(catalogue.system, file), what })))
  }
  return { databases: catalogues.length, files, faults }
}
