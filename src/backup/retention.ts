import { rename, rm } from 'node:fs/promises'
import path from 'node:path'
import type { Catalogue } from './catalogue.ts'
import { basesFolder, timelineFolder } from './layout.ts'
import { expendable } from './policy.ts'

/** Removes the base backups before the newest `keep`, and the log that those do not need. */
export async function removeExpendable(catalogue: Catalogue, keep: number): Promise<void> {
  const { bases, segments } = expendable(catalogue, keep)
  for (const { id } of bases) {
    const folder = path.join(basesFolder(catalogue.folder), id)
    const gone = path.join(basesFolder(catalogue.folder), `.${id}-${process.pid}`) // at once; a draft is removed even if this is killed
    await rename(folder, gone)
    await rm(gone, { recursive: true })
  }
  for (const { timeline, name } of segments) {
    const file = path.join(timelineFolder(catalogue.folder, timeline), name)
    await rm(`${file}.json`, { force: true })
    await rm(`${file}.zst`, { force: true })
  }
}
