import type { EntryFacts } from './bounded.ts'
import type { ProcessFigures } from './figures.ts'
import type { LayerFacts } from './layer.ts'
import type { GroupStats } from './stats.ts'

/** The figures of all processes together, for people and programs. */
export interface CacheSummary {
  /** The most requested kind of key first. */
  groups: GroupStats[]
  hottest: EntryFacts[]
  largest: EntryFacts[]
  processes: readonly ProcessFigures[]
}

const shownMax = 10

/** Adds up the figures of the processes. Pure. */
export function summarise(processes: readonly ProcessFigures[]): CacheSummary {
  const groups = new Map<string, GroupStats>()
  for (const one of processes.flatMap((process) => process.groups)) {
    const name = `${one.module}/${one.group}`
    const sum = groups.get(name)
    if (!sum) groups.set(name, { ...one })
    else for (const [key, n] of Object.entries(one)) if (typeof n === 'number') sum[key as 'hits'] += n
  }
  const first = (entries: EntryFacts[], by: 'uses' | 'bytes') => {
    const byKey = new Map(entries.toSorted((a, b) => a[by] - b[by]).map((one) => [one.key, one]))
    return [...byKey.values()].sort((a, b) => b[by] - a[by]).slice(0, shownMax)
  }
  return {
    groups: [...groups.values()].sort((a, b) => requestsOf(b) - requestsOf(a)),
    hottest: first(
      processes.flatMap((one) => one.hottest),
      'uses',
    ),
    largest: first(
      processes.flatMap((one) => one.largest),
      'bytes',
    ),
    processes,
  }
}

/** How often the group was answered without a load of its own. */
export function savedLoadsOf(one: GroupStats): number {
  return one.hits + one.sharedHits + one.graces + one.coalesced
}

/** How often the group was asked for. */
export function requestsOf(one: GroupStats): number {
  return savedLoadsOf(one) + one.loads + one.bypassed
}

/** What the shared layer holds, as the first process that can reach it says. */
export function sharedFactsOf({ processes }: CacheSummary): LayerFacts | undefined {
  return processes.find(({ shared }) => shared?.facts)?.shared?.facts ?? undefined
}
