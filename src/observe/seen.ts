import { readFile } from 'node:fs/promises'
import path from 'node:path'

/** What a running app saw of itself; it keeps a list of these in its data directory. */
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

export function seenFile(dataDir: string): string {
  return path.join(dataDir, 'seen.json')
}

/** The list of an app. It is a help, never a condition: without the file, or with one that is damaged, it is empty. */
export async function readSeen(dataDir: string): Promise<Seen[]> {
  const text = await readFile(seenFile(dataDir), 'utf8').catch(() => '[]')
  return parseSeen(text)
}

/** Entries that are whole; anything else is left out. Pure. */
export function parseSeen(text: string): Seen[] {
  try {
    const list: unknown = JSON.parse(text)
    return Array.isArray(list) ? list.filter(isSeen) : []
  } catch {
    return []
  }
}

function isSeen(entry: unknown): entry is Seen {
  const { kind, statement, count, site, route, at, worstMs, plan } = (entry ?? {}) as Record<string, unknown>
  const texts = [statement, site, route, at].every((text) => typeof text === 'string')
  const extras = /^(undefined|number)$/.test(typeof worstMs) && /^(undefined|string)$/.test(typeof plan)
  return (
    (kind === 'n-plus-one' || kind === 'slow' || kind === 'lock-wait') &&
    texts &&
    extras &&
    Number.isFinite(count) &&
    !Number.isNaN(Date.parse(at as string))
  )
}

/**
 * Both lists as one: the same thing seen at the same place is one entry, with the counts added up. The `max` that were
 * seen last stay, newest first, so that the file stays small however long the app runs. Pure.
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
