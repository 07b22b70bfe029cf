import { parseLsn } from '../kernel/position.ts'
import type { Catalogue, Segment, Timeline } from './catalogue.ts'
import type { History } from './history.ts'
import { type BaseManifest, indexOf, lsnOf, segmentName } from './layout.ts'

/** The times that one base backup can be restored to, with the log that follows it without a gap. In ms since the epoch. */
export interface Window {
  base: BaseManifest
  timeline: number
  from: number
  to: number
  /** From the start of the base backup, in order. */
  segments: Segment[]
}

/** Returns the timeline that was archived last. */
export function currentTimeline({ timelines }: Catalogue): Timeline | undefined {
  return timelines.toSorted((a, b) => lastAt(a) - lastAt(b)).at(-1)
}

/** What clocks of two machines may differ, and a failover may take, before two timelines count as two lives. */
const clocksApartMs = 60_000

/** Returns the timelines that were archived at the same time as this one: copies of the database that went on beside each other. */
export function rivals({ timelines }: Catalogue, chosen: Timeline): Timeline[] {
  const began = ({ segments }: Timeline) => segments[0]?.openedAt ?? 0
  const overlapMs = (a: Timeline, b: Timeline) => Math.min(lastAt(a), lastAt(b)) - Math.max(began(a), began(b))
  return timelines.filter((one) => one !== chosen && one.segments.length > 0 && overlapMs(one, chosen) > clocksApartMs)
}

/** Returns the newest archived timeline of a database's own history; the archive may hold others. */
export function archivedOf({ timelines }: Catalogue, { timelines: own }: History): Timeline | undefined {
  const archived = own.map((id) => timelines.find((one) => one.id === id && one.segments.length > 0))
  return archived.findLast((timeline) => timeline !== undefined)
}

export function lastAt({ position, segments }: Timeline): number {
  return Math.max(position?.at ?? 0, segments.at(-1)?.at ?? 0)
}

/** Returns what can be restored on a timeline, oldest first. A base backup whose own log is incomplete has no window. */
export function windows(catalogue: Catalogue, timeline: Timeline): Window[] {
  return catalogue.bases.flatMap((base) => {
    const segments = logAfter(base, catalogue, timeline)
    const last = segments.at(-1)
    if (!last || lsnOf(last.index, last.bytes, base.segmentBytes) < parseLsn(base.stopLsn)!) return []
    const from = base.finishedAt
    return [{ base, timeline: timeline.id, from, to: Math.max(from, last.at), segments }]
  })
}

/** Chooses the newest base backup before `time` whose log reaches it. */
export function choose(all: readonly Window[], time: number | 'latest'): Window | undefined {
  if (time === 'latest') return all.toSorted((a, b) => a.to - b.to || a.from - b.from).at(-1)
  return all.filter(({ from, to }) => from <= time && time <= to).at(-1)
}

/** Merges windows that overlap or touch. */
export function ranges(all: readonly Window[]): { from: number; to: number }[] {
  const merged: { from: number; to: number }[] = []
  for (const { from, to } of all.toSorted((a, b) => a.from - b.from)) {
    const last = merged.at(-1)
    if (last && from <= last.to) last.to = Math.max(last.to, to)
    else merged.push({ from, to })
  }
  return merged
}

/** Returns the segments from the base backup's first on, along the timelines that lead to `timeline`, up to the first gap. */
function logAfter(base: BaseManifest, { timelines }: Catalogue, timeline: Timeline): Segment[] {
  const { segmentBytes } = base
  const path = [...timeline.ancestors, { timeline: timeline.id, end: undefined }]
  const start = path.findIndex((part) => part.timeline === base.timeline)
  const left = path[start]?.end
  if (start === -1 || (left !== undefined && parseLsn(base.stopLsn)! > left)) return []
  const found: Segment[] = []
  let index = indexOf(parseLsn(base.startLsn)!, segmentBytes)
  for (const part of path.slice(start)) {
    const known = new Map(timelines.find(({ id }) => id === part.timeline)?.segments.map((one) => [one.index, one]))
    // The segment in which a timeline was left is repeated as the first of the next one.
    const end = part.end === undefined ? Number.POSITIVE_INFINITY : indexOf(part.end, segmentBytes)
    for (; index < end; index += 1) {
      const segment = known.get(index)
      if (!segment) return found
      found.push(segment)
      if (segment.bytes < segmentBytes) return found
    }
  }
  return found
}

/** Returns the segments that a restore to `time` reads. A commit is timed a moment before its record arrives here. */
export function neededUntil(segments: readonly Segment[], time: number | 'latest'): Segment[] {
  if (time === 'latest') return [...segments]
  const past = segments.findIndex(({ openedAt }) => openedAt > time + 60_000)
  return past === -1 ? [...segments] : segments.slice(0, past + 1)
}

/**
 * Returns the base backups before the newest `keep` that can be restored, and the log that no other one needs. Copies of the database that went on
 * beside each other each keep their own, as long as they are archived.
 */
export function expendable(catalogue: Catalogue, keep: number): { bases: BaseManifest[]; segments: Segment[] } {
  const current = currentTimeline(catalogue)
  const newest = (timeline: Timeline) => windows(catalogue, timeline).slice(-keep)
  const oldest = current && newest(current)[0]?.base
  if (!oldest) return { bases: [], segments: [] }
  const living = rivals(catalogue, current).filter((one) => lastAt(one) >= oldest.finishedAt)
  const ofOthers = new Set(living.flatMap(newest).map(({ base }) => base))
  const bases = catalogue.bases.filter((base) => base.id < oldest.id && !ofOthers.has(base))
  const kept = catalogue.bases.filter((base) => !bases.includes(base))
  const segments = catalogue.timelines
    .flatMap((timeline) => timeline.segments)
    .filter((segment) => !segment.growing && !isNeeded(kept, segment))
  return { bases, segments }
}

function isNeeded(bases: readonly BaseManifest[], { timeline, index }: Segment): boolean {
  return bases.some((base) => base.timeline <= timeline && index >= firstIndex(base))
}

/**
 * Returns what a second place lacks of one timeline and of those that led to it, oldest first. It begins with the newest base backup, or with the one
 * that an earlier attempt has begun to copy, and then gets everything that follows. What it has removed because of its age is not copied again.
 */
export function lacking(
  here: Catalogue,
  there: Catalogue,
  { id, ancestors }: Pick<Timeline, 'id' | 'ancestors'>,
): { bases: BaseManifest[]; segments: Segment[] } {
  const line = new Set([id, ...ancestors.map(({ timeline }) => timeline)])
  const own = here.bases.filter(({ timeline }) => line.has(timeline))
  const has = new Set(there.bases.map(({ id }) => id))
  const [oldest] = there.bases
  const begun = own.filter((base) => there.unfinished?.includes(base.id))
  const first = begun.length > 0 ? begun : own
  const bases = oldest ? own.filter((base) => base.id > oldest.id && !has.has(base.id)) : first.slice(-1)
  const known = new Map(there.timelines.flatMap(({ segments }) => segments.map(({ name, bytes }) => [name, bytes])))
  const segments = here.timelines
    .flatMap((timeline) => (line.has(timeline.id) ? timeline.segments : []))
    .filter(
      (one) => !one.growing && (known.get(one.name) ?? -1) < one.bytes && isNeeded([...there.bases, ...bases], one),
    )
  return { bases, segments }
}

/** Whether a further base backup here would replace one that the second place still lacks. */
export function wouldReplaceLacking(here: Catalogue, there: Catalogue, timeline: Timeline, keep: number): boolean {
  const replaced = new Set(here.bases.slice(0, Math.max(0, here.bases.length + 1 - keep)))
  return lacking(here, there, timeline).bases.some((base) => replaced.has(base))
}

function firstIndex({ startLsn, segmentBytes }: BaseManifest): number {
  return indexOf(parseLsn(startLsn)!, segmentBytes)
}

/** Returns the names of missing segments that were archived once and that a base backup needs. */
export function missing({ bases, timelines }: Catalogue): string[] {
  return timelines.flatMap(({ id, segments }) =>
    segments.flatMap((segment, position) => {
      if (!segment.continues) return []
      const previous = segments[position - 1]
      const first = previous ? previous.index + 1 : segment.index - 1
      if (previous?.index === segment.index - 1) return []
      const [base] = bases.filter((one) => one.timeline === id)
      if (!base) return []
      const from = Math.max(first, firstIndex(base))
      return Array.from({ length: Math.max(0, segment.index - from) }, (_, n) =>
        segmentName(id, from + n, base.segmentBytes),
      )
    }),
  )
}
