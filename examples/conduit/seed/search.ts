import { setTimeout as sleep } from 'node:timers/promises'
import { type Data, isRungError, type Search } from 'rung'
import { fillOf, leaveUnfilled, type OnFilled, rebuild, setFilled } from '../articles/reindex.ts'
import type { OnProgress, Seeded } from './plan.ts'

const againMs = 1_000

/**
 * Seeds, then puts all articles into the search; without `search` they stay out of it, also when the app starts. Gives whether
 * they are in it. A running app keeps out of it meanwhile, and a seed that was interrupted is made up for by the next.
 */
export async function fillSearch(
  data: Data,
  search: Search | undefined,
  seed: () => Promise<Seeded>,
  onProgress: OnProgress,
): Promise<[seeded: Seeded, searched: boolean]> {
  const before = await fillOf(data)
  await leaveUnfilled(data)
  const seeded = await seed()
  if (before === 'filled' && Object.values(seeded).every((count) => count === 0)) {
    await setFilled(data)
    return [seeded, true]
  }
  if (!search) return [seeded, false]
  await rebuildInTurn(data, search, (done, total) => onProgress('search', done, total))
  await setFilled(data)
  return [seeded, true]
}

/** The app may have begun before it was told to leave it. */
async function rebuildInTurn(data: Data, search: Search, onFilled: OnFilled): Promise<void> {
  for (;;) {
    try {
      return await rebuild(data, search, onFilled)
    } catch (error) {
      if (!isRungError(error, 'SEARCH_REBUILDING')) throw error
      await sleep(againMs)
    }
  }
}
