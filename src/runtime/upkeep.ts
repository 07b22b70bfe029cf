import { logKeptMs } from '../primitives/cache/follower.ts'
import { tellTrouble } from '../primitives/jobs/channels.ts'
import { pruneErrors } from '../primitives/upkeep/errors.ts'
import { pruneReports } from '../primitives/upkeep/reports.ts'
import type { UpkeepTask } from '../primitives/upkeep/upkeep.ts'
import type { Store } from './stores.ts'

/** Jobs with `keep` can be looked at for a week. Claims of other databases and reports of processes are kept as long. */
const keptMs = 7 * 86_400_000
const errorsKeptMs = 90 * 86_400_000
/** In one statement, so that it is short. */
const pruneMax = 5_000

/**
 * The upkeep of one database.
 * @param woken called when jobs were taken back from processes that died, and wait again
 */
export function upkeepOf(store: Store, woken: () => void): UpkeepTask[] {
  const { database, queue, foreignClaims, records, invalidations } = store
  return [
    {
      name: 'take jobs back',
      everyMs: 1_000,
      async run() {
        const count = await queue.reap(keptMs)
        if (count === 0) return
        tellTrouble({ database, event: 'reaped', count })
        woken()
      },
    },
    everyMinute('forget foreign claims', (stop) => pruneAll((max) => foreignClaims.prune(keptMs, max), stop)),
    everyMinute('delete idempotency records', (stop) => pruneAll(records.prune, stop)),
    everyMinute('forget reports', () => pruneReports(database, keptMs)),
    everyMinute('forget errors', () => pruneErrors(database, errorsKeptMs)),
    everyMinute('trim the log of invalidations', (stop) => pruneAll((max) => invalidations.trim(logKeptMs, max), stop)),
  ]
}

export function everyMinute(name: string, run: UpkeepTask['run']): UpkeepTask {
  return { name, everyMs: 60_000, run }
}

/** Repeats a deletion of at most `max` rows until there is nothing left, or until it is to stop. */
export async function pruneAll(prune: (max: number) => Promise<number>, stop: AbortSignal): Promise<void> {
  while (!stop.aborted && (await prune(pruneMax)) >= pruneMax);
}
