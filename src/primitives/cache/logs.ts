import type { Ride } from '../data/rides.ts'
import type { Invalidation, InvalidationLog, Mark } from './contract.ts'

/** The log of one database. */
export interface DatabaseLog {
  /** The name of the database, under which positions are kept. */
  database: string
  log: InvalidationLog
  /** What else rides a commit with invalidations: for caches that can only be told later. */
  outbox?: ((names: readonly string[]) => readonly Ride[]) | undefined
}

/** The marks of all logs as one text. */
export function joinMarks(marks: ReadonlyMap<string, Mark>): string {
  return JSON.stringify(Object.fromEntries(marks))
}

/**
 * Reads all logs from a joined mark on. Without a mark: no rows, only where to go on.
 * @returns `isWhole`: false if the mark lacks a database, or is of another history of one, so that rows may be missing
 */
export async function readLogs(
  logs: readonly DatabaseLog[],
  joined: string | undefined,
): Promise<{ rows: Invalidation[]; mark: string; isWhole: boolean }> {
  const marks = joined === undefined ? new Map<string, Mark>() : splitMarks(joined)
  const read = await Promise.all(logs.map(({ database, log }) => log.since(marks.get(database))))
  const ends = new Map(logs.map(({ database }, index) => [database, read[index]!.mark]))
  const isWhole = logs.every(({ database }, index) => marks.has(database) && read[index]!.isWhole)
  return { rows: read.flatMap(({ rows }) => rows), mark: joinMarks(ends), isWhole }
}

/** Another version may have written something else: then there are no marks. */
function splitMarks(joined: string): Map<string, Mark> {
  try {
    const marks: Record<string, unknown> = JSON.parse(joined)
    return new Map(Object.entries(marks).filter((one): one is [string, Mark] => typeof one[1] === 'string'))
  } catch {
    return new Map()
  }
}
