import path from 'node:path'
import { type Fault, readCatalogues } from './catalogue.ts'
import type { BaseManifest } from './layout.ts'
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

/** Lists the backups of every database in a backup directory. */
export async function listBackups(backupDir: string): Promise<BackupList[]> {
  return (await readCatalogues(backupDir)).map((catalogue) => {
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

export function inIso({ from, to }: { from: number; to: number }): RestorableRange {
  return { from: new Date(from).toISOString(), to: new Date(to).toISOString() }
}

/** Reads every file of a backup directory. Returns how many there are, and what is wrong with which. */
export async function verifyBackups(
  backupDir: string,
  onProgress: (done: number, total: number) => void,
): Promise<{ databases: number; files: number; faults: Fault[] }> {
  const catalogues = await readCatalogues(backupDir)
  const faults: Fault[] = []
  let files = 0
  for (const catalogue of catalogues) {
    const found = await verify(catalogue, (done, total) => {
      if (done === 0) files += total
      onProgress(done, total)
    })
    faults.push(...found.map(({ file, what }) => ({ file: path.join(catalogue.system, file), what })))
  }
  return { databases: catalogues.length, files, faults }
}
