import { isRungError } from '../kernel/errors.ts'
import type { Catalogue, Fault } from './catalogue.ts'
import { checked, DamagedFile } from './content.ts'
import { type StoredFile, segmentFile } from './layout.ts'
import type { Place } from './place.ts'
import { missing } from './policy.ts'

/**
 * Reads every file of a database's backups, compares it with its checksum, and looks for gaps in the log.
 * @param onProgress called with the number of files checked, and of all files
 */
export async function verify(
  place: Place,
  catalogue: Catalogue,
  onProgress?: (done: number, total: number) => void,
): Promise<Fault[]> {
  const faults = [...catalogue.faults]
  const files = catalogue.bases.flatMap((base) => base.files.map((stored) => ({ base, stored })))
  const segments = catalogue.timelines.flatMap((timeline) => timeline.segments)
  const total = files.length + segments.length
  let done = 0
  for (const { base, stored } of files) {
    onProgress?.(done++, total)
    const what = await whatIsWrong(place.readFile(base, stored), stored)
    if (what !== undefined) faults.push({ file: `base/${base.id}/${stored.name}`, what })
  }
  for (const segment of segments) {
    onProgress?.(done++, total)
    let what = await whatIsWrong(place.readSegment(segment), segment)
    const now = what !== undefined && segment.growing ? await place.renewed(segment) : segment
    // The growing segment has moved meanwhile.
    if (now !== segment) what = await whatIsWrong(place.readSegment(now), now)
    if (what !== undefined) faults.push({ file: segmentFile(segment), what })
  }
  const named = new Set(faults.map(({ file }) => /[^/]+$/.exec(file)![0]))
  for (const name of missing(catalogue)) {
    const file = segmentFile({ timeline: Number.parseInt(name.slice(0, 8), 16), name, growing: false })
    if (!named.has(`${name}.zst`) && !named.has(`${name}.json`)) {
      faults.push({ file, what: 'is missing: the log has a gap' })
    }
  }
  return faults
}

async function whatIsWrong(content: AsyncIterable<Buffer>, stored: StoredFile): Promise<string | undefined> {
  try {
    for await (const _ of checked(content, stored));
    return undefined
  } catch (error) {
    if (error instanceof DamagedFile) return error.what
    if (isRungError(error, 'BACKUP_KEY_WRONG')) return 'is encrypted with another key'
    throw error
  }
}
