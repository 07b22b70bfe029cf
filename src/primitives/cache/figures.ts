import { every, systemClock } from '../../kernel/clock.ts'
import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { sql } from '../data/sql.ts'
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
  /** Of the entries that were surveyed. */
  hottest: EntryFacts[]
  largest: EntryFacts[]
}

export interface ProcessFigures extends Figures {
  process: string
  at: Date
}

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
  let writing: Promise<void> | undefined

  async function write(): Promise<void> {
    const groups = core.groups.all()
    const { entries } = core.size
    if (groups.length === 0 && entries === 0) return
    const up = core.shared?.up
    const now = JSON.stringify([groups, entries, up, core.warmed])
    if (now === last && systemClock.ticks() - writtenAt < aliveMs) return
    await save(database, process, await figuresOf(core))
    last = now
    writtenAt = systemClock.ticks()
  }

  const end = every(everyMs, () => {
    writing ??= write()
      .catch(failed)
      .finally(() => {
        writing = undefined
      })
  })
  return async () => {
    end()
    await writing
    if (last !== '')
      await runAlone(database, sql`delete from rung.cache_figures where process = ${process}`).catch(failed)
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
    shared: shared ? { up: shared.up, facts: shared.up ? await shared.facts().catch(() => null) : null } : null,
    hottest: most((a, b) => b.uses - a.uses), // a stable sort: of equals, the one that was used last
    largest: most((a, b) => b.bytes - a.bytes),
  }
}

async function save(database: Database, process: string, figures: Figures): Promise<void> {
  await runAlone(
    database,
    sql`with gone as (
        delete from rung.cache_figures
        where at < clock_timestamp() - ${goneMs}::float8 * interval '1 millisecond' and process <> ${process}
      )
      insert into rung.cache_figures (process, at, figures)
      values (${process}, clock_timestamp(), ${JSON.stringify(figures)}::text::jsonb)
      on conflict (process) do update set at = excluded.at, figures = excluded.figures`,
  )
}

/** Returns the figures of all processes that run now. */
export async function readFigures(database: Database): Promise<ProcessFigures[]> {
  const [known] = await runAlone<{ yes: boolean }>(
    database,
    sql`select to_regclass('rung.cache_figures') is not null as yes`,
  )
  if (!known!.yes) return [] // no app of this version has run here
  const rows = await runAlone<{ process: string; at: Date; figures: Figures }>(
    database,
    sql`select process, at, figures from rung.cache_figures
      where at > clock_timestamp() - ${goneMs}::float8 * interval '1 millisecond' order by process`,
  )
  return rows.map(({ process, at, figures }) => ({ process, at, ...figures }))
}
