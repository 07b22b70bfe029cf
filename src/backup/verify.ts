import { existsSync } from 'node:fs'
import path from 'node:path'
import type { Catalogue, Fault, Segment } from './catalogue.ts'
import { checked, DamagedFile } from './content.ts'
import { basesFolder, type StoredFile, timelineFolder } from './layout.ts'
import { missing } from './policy.ts'

/**
 * Reads every file of a database's backups, compares it with its checksum, and looks for gaps in the log.
 * @param onProgress called with the number of files checked, and of all files
 */
export async function verify(
  catalogue: Catalogue,
  onProgress?: (done: number, total: number) => void,
): Promise<Fault[]> {
  const faults = [...catalogue.faults]
  const all: { at: string; stored: StoredFile; segment?: Segment }[] = [
    ...catalogue.bases.flatMap(({ id, files }) =>
      files.map((file) => ({ at: path.join(basesFolder(catalogue.folder), id, file.name), stored: file })),
    ),
    ...catalogue.timelines.flatMap(({ segments }) =>
      segments.map((segment) => ({ at: segmentFile(catalogue.folder, segment), stored: segment, segment })),
    ),
  ]
  for (const [done, { at, stored, segment }] of all.entries()) {
    onProgress?.(done, all.length)
    const what = await whatIsWrong(at, stored)
    if (what === undefined) continue
    // The growing segment may have been completed meanwhile: the next verification reads it.
    if (segment?.growing && existsSync(sealedFile(catalogue.folder, segment))) continue
    faults.push({ file: path.relative(catalogue.folder, at), what })
  }
  const named = new Set(faults.map(({ file }) => path.basename(file)))
  for (const name of missing(catalogue)) {
    const timeline = Number.parseInt(name.slice(0, 8), 16)
    const file = path.join(timelineFolder(catalogue.folder, timeline), `${name}.zst`)
    if (!named.has(`${name}.zst`) && !named.has(`${name}.json`)) {
      faults.push({ file: path.relative(catalogue.folder, file), what: 'is missing: the log has a gap' })
    }
  }
  return faults
}

export function segmentFile(folder: string, segment: Segment): string {
  if (!segment.growing) return sealedFile(folder, segment)
  return path.join(timelineFolder(folder, segment.timeline), `${segment.name}.partial`)
}

function sealedFile(folder: string, { timeline, name }: Segment): string {
  return path.join(timelineFolder(folder, timeline), `${name}.zst`)
}

async function whatIsWrong(file: string, stored: StoredFile): Promise<string | undefined> {
  try {
    for await (const _ of checked(file, stored));
    return undefined
  } catch (error) {
    if (error instanceof DamagedFile) return error.what
    throw error
  }
}
