import type { Database } from '../primitives/data/contract.ts'
import { readReports } from '../primitives/upkeep/reports.ts'

/** Something that a process of the app has seen of it. */
export interface Seen {
  /** `lock-wait`: it was given up, because a lock was not granted in time. */
  kind: 'n-plus-one' | 'slow' | 'lock-wait'
  statement: string
  /** How often it was seen. */
  count: number
  /** File, line and column in the app's code. */
  site: string
  /** The unit of work: `GET /api/articles`, a job's name … */
  route: string
  /** When it was last seen: ISO 8601. */
  at: string
  /** The longest run, ms. */
  worstMs?: number
  /** How the server would run it. */
  plan?: string
}

export const seenKind = 'seen'
/** More are not kept, of one process or of all. */
export const seenMax = 200
const keptMs = 7 * 86_400_000

/** Characters of a statement or a plan. A report of `seenMax` entries stays below some MB. */
const textMax = 4_096

/** Returns the entry as Postgres can keep it as JSON: its texts are cut, and without what is not Unicode or is NUL. Pure. */
export function storable(entry: Seen): Seen {
  const { statement, site, route, plan } = entry
  const texts = { statement: storableText(statement), site: storableText(site), route: storableText(route) }
  return { ...entry, ...texts, ...(plan !== undefined && { plan: storableText(plan) }) }
}

/** Returns a text as Postgres can keep it in JSON: cut, and without what is not Unicode or is NUL. Pure. */
export function storableText(text: string): string {
  const short = text.length > textMax ? `${text.slice(0, textMax)} …` : text
  return short.replaceAll('\0', '').toWellFormed()
}

/** Returns what all processes of the app have seen within the last week. */
export async function readSeen(database: Database): Promise<Seen[]> {
  const reports = await readReports<Seen[]>(database, seenKind, keptMs)
  return mergeSeen(
    [],
    reports.flatMap(({ content }) => content),
    seenMax,
  )
}

/**
 * Returns both lists as one: the same thing seen at the same place is one entry, with the counts added up. The `max` that were seen last
 * stay, the newest first, so that the list stays small however long the app runs. Pure.
 */
export function mergeSeen(existing: readonly Seen[], fresh: readonly Seen[], max: number): Seen[] {
  const merged = new Map<string, Seen>()
  for (const entry of [...existing, ...fresh]) {
    const key = [entry.kind, entry.statement, entry.site, entry.route].join('\0')
    const known = merged.get(key)
    merged.set(key, known ? joined(known, entry) : entry)
  }
  return [...merged.values()].sort((a, b) => Date.parse(b.at) - Date.parse(a.at)).slice(0, max)
}

function joined(a: Seen, b: Seen): Seen {
  const newest = Date.parse(b.at) >= Date.parse(a.at) ? b : a
  const plan = newest.plan ?? a.plan ?? b.plan
  const worstMs = Math.max(a.worstMs ?? 0, b.worstMs ?? 0)
  return {
    ...newest,
    count: a.count + b.count,
    ...(worstMs > 0 && { worstMs }),
    ...(plan !== undefined && { plan }),
  }
}
