import { logKeptMs } from '../primitives/cache/follower.ts'
import { drainLogs } from '../primitives/events/mesh.ts'
import { tellTrouble } from '../primitives/jobs/channels.ts'
import { pruneErrors } from '../primitives/upkeep/errors.ts'
import { pruneReports } from '../primitives/upkeep/reports.ts'
import type { UpkeepTask } from '../primitives/upkeep/upkeep.ts'
import type { Store, Stores } from './stores.ts'

/** Jobs with `keep` can be looked at for a week. Claims of other databases and reports of processes are kept as long. */
const keptMs = 7 * 86_400_000
const errorsKeptMs = 90 * 86_400_000
/** In one statement, so that it is short. */
const pruneMax = 5_000

/** What becomes of the events of a log. */
export interface EventUpkeep {
  stores: Stores
  /** Default: a day. */
  keptMs?: number | undefined
  /** Without a broker: called when events that were published while there was one were added to these queues. */
  woken?: ((queues: ReadonlySet<string>) => void) | undefined
}

/**
 * The upkeep of one database.
 * @param woken called when jobs were taken back from processes that died, and wait again
 */
export function upkeepOf(store: Store, woken: () => void, events?: EventUpkeep): UpkeepTask[] {
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
    ...(events ? eventUpkeep(store, events) : []),
    everyMinute('forget foreign claims', (stop) => pruneAll((max) => foreignClaims.prune(keptMs, max), stop)),
    everyMinute('delete idempotency records', (stop) => pruneAll(records.prune, stop)),
    everyMinute('forget reports', () => pruneReports(database, keptMs)),
    everyMinute('forget errors', () => pruneErrors(database, errorsKeptMs)),
    everyMinute('trim the log of invalidations', (stop) => pruneAll((max) => invalidations.trim(logKeptMs, max), stop)),
  ]
}

const eventsKeptMs = 86_400_000
const drainEveryMs = 5_000

function eventUpkeep(
  { database, log }: Store,
  { stores, keptMs: forMs = eventsKeptMs, woken }: EventUpkeep,
): UpkeepTask[] {
  const logs = new Map(stores.all.map((one) => [one.database.name, one.log]))
  /** Returns the number up to which everybody has the events of this log. */
  async function taken(): Promise<number> {
    const { sent } = await log.state()
    const marks = await Promise.all(stores.all.map((one) => one.log.marks()))
    const own = marks.flat().filter(({ source }) => source === database.name)
    return Math.min(...(woken ? [] : [sent]), ...own.map(({ n }) => n))
  }
  return [
    everyMinute('forget events', async (stop) => {
      const upTo = await taken()
      if (Number.isFinite(upTo)) await pruneAll((max) => log.prune(upTo, forMs, max), stop)
    }),
    ...(woken
      ? [
          {
            name: 'take events of a broker that is gone',
            everyMs: drainEveryMs,
            run: () => drainLogs({ database, log, logs, woken }),
          },
        ]
      : []),
  ]
}

export function everyMinute(name: string, run: UpkeepTask['run']): UpkeepTask {
  return { name, everyMs: 60_000, run }
}

/** Repeats a deletion of at most `max` rows until there is nothing left, or until it is to stop. */
export async function pruneAll(prune: (max: number) => Promise<number>, stop: AbortSignal): Promise<void> {
  while (!stop.aborted && (await prune(pruneMax)) >= pruneMax);
}
