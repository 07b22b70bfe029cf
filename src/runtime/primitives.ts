import type { Tx } from '../app/work.ts'
import { requestTimeoutDefaultMs } from '../kernel/http-facts.ts'
import { ownText } from '../kernel/own-text.ts'
import { CacheCore } from '../primitives/cache/cache.ts'
import { tellCache } from '../primitives/cache/channels.ts'
import type { Database } from '../primitives/data/contract.ts'
import { createData, type DataRoot, type Guard } from '../primitives/data/data.ts'
import { type Migration, systemMigration } from '../primitives/data/migrations.ts'
import type { Outbox } from '../primitives/events/contract.ts'
import { publishIn } from '../primitives/events/events.ts'
import type { Records } from '../primitives/idempotency/contract.ts'
import type { Queue } from '../primitives/jobs/contract.ts'
import { enqueueIn } from '../primitives/jobs/jobs.ts'
import type { SearchStore } from '../primitives/search/contract.ts'
import { indexingIn } from '../primitives/search/search.ts'
import type { Signals } from '../primitives/signals/signals.ts'
import { rung1k } from '../topology/rungs/1k.ts'
import { purgeItems } from './purge-cdn.ts'
import { type CacheLayers, openMemoryCache, openQueues, openRecords, openSearchStore } from './wire.ts'

/** The primitives with tables of their own, in the order of dependency: each has one migration, `schema.sql`. */
const withTables = ['jobs', 'events', 'idempotency', 'limits', 'sessions', 'search', 'cache'] as const

/** Migrations of Rung's own tables, which are applied before those of any module. */
export const systemMigrations: readonly Migration[] = withTables.map((primitive, index) =>
  systemMigration(`000${index + 1}_${primitive}`, ownText(import.meta.url, `./../primitives/${primitive}/schema.sql`)),
)

/** What a process has to work with: the primitives on one database. */
export interface Primitives {
  data: DataRoot<Tx>
  queue: Queue
  outbox: Outbox
  searchStore: SearchStore
  signals: Signals
  records: Records
  cache: CacheCore
  /** Who works in this process, and takes what it pushes without being rung for. Gives whether a hand was free. */
  worker: { wake(queues: ReadonlySet<string>): boolean } | undefined
  close(): Promise<void>
}

export function openPrimitives(
  database: Database,
  signals: Signals,
  guard?: Guard,
  layers: CacheLayers = openMemoryCache({ cdn: undefined }, database),
): Primitives {
  const { queue, outbox } = openQueues(database)
  const searchStore = openSearchStore(database)

  function pushed(queues: ReadonlySet<string>): void {
    if (!primitives.worker?.wake(queues)) signals.send('jobs', queues)
  }

  const cache = new CacheCore({
    bytesMax: rung1k.cache.memoryBytesMax,
    ...layers,
    signals,
    database: database.name,
    // Nobody is woken: they are for later.
    outbox: layers.cdn
      ? (names) => queue.push(purgeItems(names, layers.requestTimeoutMs ?? requestTimeoutDefaultMs))
      : undefined,
    inTransaction: () => primitives.data.inTransaction(),
    failed: (error) => tellCache({ database, event: 'log-failed', error }),
  })
  const primitives: Primitives = {
    data: createData<Tx>(database, {
      guard,
      extend: (riding) => ({
        ...enqueueIn(riding, queue, pushed),
        ...publishIn(riding, outbox, pushed),
        ...indexingIn(riding, searchStore),
        ...cache.invalidatingIn(riding),
      }),
    }),
    cache,
    queue,
    outbox,
    searchStore,
    signals,
    records: openRecords(database),
    worker: undefined,
    async close() {
      await cache.close()
      await signals.close()
    },
  }
  return primitives
}
