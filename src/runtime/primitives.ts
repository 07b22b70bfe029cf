import type { Tx } from '../app/work.ts'
import { requestTimeoutDefaultMs } from '../kernel/http-facts.ts'
import { CacheCore } from '../primitives/cache/cache.ts'
import { tellCache } from '../primitives/cache/channels.ts'
import type { Database } from '../primitives/data/contract.ts'
import { type DataRoot, type Guard, inTransaction } from '../primitives/data/data.ts'
import { publishIn } from '../primitives/events/events.ts'
import { enqueueIn } from '../primitives/jobs/jobs.ts'
import type { SearchStore } from '../primitives/search/contract.ts'
import { indexingIn } from '../primitives/search/search.ts'
import type { Signals } from '../primitives/signals/signals.ts'
import { rung1k } from '../topology/rungs/1k.ts'
import { purgeItems } from './purge-cdn.ts'
import { openStores, type StoreParts, type Stores } from './stores.ts'
import type { CacheLayers, EventsEngine } from './wire.ts'

/** What a process has to work with. */
export interface Primitives {
  /** One store for each database. */
  readonly stores: Stores
  /** The data primitive over all databases. */
  readonly data: DataRoot<Tx>
  readonly signals: Signals
  readonly cache: CacheCore
  /** The workers of this process, if it has some: they take what it pushes without a signal. */
  worker: Waking | undefined
  close(): Promise<void>
}

export interface Waking {
  /** There may be something to do in these queues, or in any. Returns whether somebody is free for it. */
  wake(queues?: ReadonlySet<string>): boolean
}

export interface PrimitivesOptions {
  /** The main database first. */
  databases: readonly [StoreParts, ...StoreParts[]]
  signals: Signals
  guard?: Guard | undefined
  cache?: CacheLayers
  /** Default `table`. */
  events?: EventsEngine
  /** Search of one database. By default its documents are in that database. */
  search?: ((database: Database) => SearchStore) | undefined
}

export function openPrimitives({
  databases,
  signals,
  guard,
  cache: layers = {},
  events = 'table',
  search,
}: PrimitivesOptions): Primitives {
  const { requestTimeoutMs = requestTimeoutDefaultMs } = layers
  const stores = openStores(databases, {
    guard,
    events,
    search,
    extend: (riding, { database, queue, outbox, searchStore }) => ({
      ...enqueueIn(riding, queue, pushed),
      ...publishIn(riding, outbox, pushed),
      ...indexingIn(riding, searchStore),
      ...cache.invalidatingIn(riding, database.name),
    }),
  })
  const cache = new CacheCore({
    bytesMax: rung1k.cache.memoryBytesMax,
    ...layers,
    signals,
    logs: stores.all.map(({ database, invalidations, queue }) => ({
      database: database.name,
      log: invalidations,
      // Nobody is woken: they are for later.
      outbox: layers.cdn ? (names) => queue.push(purgeItems(names, requestTimeoutMs)) : undefined,
    })),
    inTransaction,
    failed: (error) => tellCache({ database: stores.main.database, event: 'log-failed', error }),
  })

  function pushed(queues: ReadonlySet<string>): void {
    if (!primitives.worker?.wake(queues)) signals.send('jobs', queues)
  }

  const primitives: Primitives = {
    stores,
    data: { forModule: stores.data, inTransaction, databases: stores.all.map(({ database }) => database) },
    cache,
    signals,
    worker: undefined,
    async close() {
      await cache.close()
      await signals.close()
    },
  }
  return primitives
}
