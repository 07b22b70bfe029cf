import { everyAlone, systemClock } from '../../kernel/clock.ts'
import type { Database } from '../data/contract.ts'
import { readReports, removeReport, saveReport } from '../upkeep/reports.ts'
import type { EntryFacts } from './bounded.ts'
import type { CacheCore } from './cache.ts'
import type { LayerFacts } from './layer.ts'
import type { GroupStats, Warmed } from './stats.ts'

/** What people are shown of the cache of one process. Counts are since its start. */
export interface Figures {
  groups: GroupStats[]
  entries: number
  bytes: number
  bytesMax: number
  /** Whether the shared layer is used, and what it holds. `null` if there is none. */
  shared: { up: boolean; facts: LayerFacts | null } | null
  /** What the last warming did. */
  warmed: Warmed | null
  /** The most used of the entries that were surveyed. */
  hottest: EntryFacts[]
  largest: EntryFacts[]
}

export interface ProcessFigures extends Figures {
  process: string
  at: Date
}

const kind = 'cache'
const everyMs = 5_000
/** Figures are written at least this often. A process that has not written for three times as long is gone. */
const aliveMs = 10_000
const goneMs = 30_000
/** Finding the hottest and the largest of so many takes some 2 ms. */
const surveyMax = 20_000
const shownMax = 10

/**
 * Writes the figures of this process to the database now and then, so that a tool with access to the database sees those of all
 * processes. A process that does not use its cache writes nothing.
 */
export function keepFigures(
  core: CacheCore,
  database: Database,
  { process, failed }: { process: string; failed(error: unknown): void },
): () => Promise<void> {
  let last = ''
  let writtenAt = Number.NEGATIVE_INFINITY

  async function write(): Promise<void> {
    const groups = core.groups.all()
    const { entries } = core.size
    if (groups.length === 0 && entries === 0) return
    const up = core.shared?.up
    const now = JSON.stringify([groups, entries, up, core.warmed])
    if (now === last && systemClock.ticks() - writtenAt < aliveMs) return
    await saveReport(database, process, kind, await figuresOf(core))
    last = now
    writtenAt = systemClock.ticks()
  }

  const endWriting = everyAlone(everyMs, () => write().catch(failed))
  return async () => {
    await endWriting()
    if (last !== '') await removeReport(database, process, kind).catch(failed)
  }
}

async function figuresOf(core: CacheCore): Promise<Figures> {
  const seen = core.survey(surveyMax)
  const most = (compare: (a: EntryFacts, b: EntryFacts) => number) => [...seen].sort(compare).slice(0, shownMax)
  const { shared } = core
  return {
    groups: core.groups.all(),
    ...core.size,
    warmed: core.warmed ?? null,
    shared: shared ? { up: shared.up, facts: (await shared.facts()) ?? null } : null,
    hottest: most((a, b) => b.uses - a.uses), // a stable sort: of equals, the one that was used last
    largest: most((a, b) => b.bytes - a.bytes),
  }
}

/** Returns the figures of all processes that run now. */
export async function readFigures(database: Database): Promise<ProcessFigures[]> {
  const reports = await readReports<Figures>(database, kind, goneMs)
  return reports
    .map(({ process, at, content }) => ({ process, at, ...content }))
    .sort((a, b) => a.process.localeCompare(b.process))
}
