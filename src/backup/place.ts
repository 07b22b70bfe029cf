import { isRungError } from '../kernel/errors.ts'
import type { Catalogue, Segment } from './catalogue.ts'
import type { BaseManifest, StoredFile } from './layout.ts'

/**
 * Where backups are: a folder (`folder.ts`) or a bucket (`bucket.ts`). What is listed, chosen, verified, restored and drilled is read through it.
 * What it yields is not checked: see `checked`. Its errors are `DamagedFile` where something is missing or cannot be read.
 */
export interface Place {
  /** For messages: `/mnt/backups`, `the bucket backups at s3.example.org`. */
  readonly name: string
  /** The identifiers of the databases of which there is something here. */
  systems(): Promise<string[]>
  catalogue(system: string): Promise<Catalogue>
  /** Yields the content of a file of a base backup, as it was before compression. */
  readFile(base: BaseManifest, file: StoredFile): AsyncIterable<Buffer>
  /** Yields the first `segment.bytes` of a segment. */
  readSegment(segment: Segment): AsyncIterable<Buffer>
  /** Yields what has arrived of a growing segment beyond that, and may be torn. */
  readBehind(segment: Segment): AsyncIterable<Buffer>
  /** Returns a growing segment as it is by now, perhaps complete; the same object if it has not moved. */
  renewed(segment: Segment): Promise<Segment>
  /** Returns the histories of timelines: `00000002.history`, and its text. */
  histories(system: string): Promise<ReadonlyMap<string, string>>
  /** Keeps a history, and with it the number of the timeline. @returns false if there is one of this name */
  reserve(system: string, name: string, text: string): Promise<boolean>
}

/**
 * Reads the backups of every database in a place, or of one. What is encrypted with another key is left out where others can be read.
 * @throws BACKUP_KEY_WRONG if none can be read
 */
export async function cataloguesOf(place: Place, only?: string): Promise<Catalogue[]> {
  const systems = await place.systems()
  const wanted = only !== undefined && systems.includes(only) ? [only] : systems
  const read = await Promise.allSettled(wanted.map((system) => place.catalogue(system)))
  const failed = read.filter((one) => one.status === 'rejected')
  const found = read.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  const hindrance = failed.find(({ reason }) => found.length === 0 || !isRungError(reason, 'BACKUP_KEY_WRONG'))
  if (hindrance) throw hindrance.reason
  return found
}
