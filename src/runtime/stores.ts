import type { Tx } from '../app/work.ts'
import { RungError } from '../kernel/errors.ts'
import type { InvalidationLog } from '../primitives/cache/contract.ts'
import type { Database } from '../primitives/data/contract.ts'
import { createData, type Data, type DataRoot, type Guard } from '../primitives/data/data.ts'
import type { Riding } from '../primitives/data/rides.ts'
import type { SqlTag } from '../primitives/data/sql.ts'
import type { EventLog, Outbox } from '../primitives/events/contract.ts'
import type { Records } from '../primitives/idempotency/contract.ts'
import type { ForeignClaims, Queue } from '../primitives/jobs/contract.ts'
import type { SearchStore } from '../primitives/search/contract.ts'
import {
  type EventsEngine,
  openForeignClaims,
  openInvalidationLog,
  openQueues,
  openRecords,
  openSearchStore,
} from './wire.ts'

/** What exists once for each database: the data of some modules, and all that rides their commits. */
export interface Store {
  readonly database: Database
  readonly data: DataRoot<Tx>
  readonly queue: Queue
  readonly foreignClaims: ForeignClaims
  readonly outbox: Outbox
  /** Events that go over a broker, or did. */
  readonly log: EventLog
  readonly records: Records
  readonly searchStore: SearchStore
  readonly invalidations: InvalidationLog
}

/** All databases of an app. A module has one of them; what belongs to no module is in the main one. */
export interface Stores {
  readonly events: EventsEngine
  readonly main: Store
  readonly all: readonly Store[]
  of(module: string | undefined): Store
  in(database: Database): Store
  named(name: string): Store | undefined
  /** The data primitive as the module sees it. */
  data(module: string | undefined): Data<Tx>
}

/** A database, and the modules whose tables are in it. The main one has those that no other one names. */
export interface StoreParts {
  database: Database
  modules?: readonly string[]
}

export interface StoresOptions {
  guard?: Guard | undefined
  /** What carries events. Default `table`. */
  events?: EventsEngine | undefined
  /** Search of one database. By default its documents are in that database. */
  search?: ((database: Database) => SearchStore) | undefined
  /** What the transactions of a store offer besides statements. */
  extend(riding: Riding, store: Store): Omit<Tx, keyof SqlTag>
}

/** @throws CONFIG_INVALID when two databases have one name, or a module has two */
export function openStores([main, ...others]: readonly [StoreParts, ...StoreParts[]], options: StoresOptions): Stores {
  const first = openStore(main.database, options)
  const stores = new Map([[main.database.name, first]])
  const byModule = new Map<string, Store>()
  for (const { database, modules = [] } of others) {
    if (stores.has(database.name)) throw invalid(`Two databases are named "${database.name}".`)
    const store = openStore(database, options)
    stores.set(database.name, store)
    for (const module of modules) {
      if (byModule.has(module)) throw invalid(`Module "${module}" is in two databases.`)
      byModule.set(module, store)
    }
  }
  const of = (module: string | undefined) => (module === undefined ? first : (byModule.get(module) ?? first))
  return {
    events: options.events ?? 'table',
    main: first,
    all: [...stores.values()],
    of,
    in: (database) => stores.get(database.name)!,
    named: (name) => stores.get(name),
    data: (module) => of(module).data.forModule(module),
  }
}

function openStore(
  database: Database,
  { guard, events = 'table', search = openSearchStore, extend }: StoresOptions,
): Store {
  const store: Store = {
    database,
    data: createData<Tx>(database, { guard, extend: (riding) => extend(riding, store) }),
    ...openQueues(database, events),
    foreignClaims: openForeignClaims(database),
    records: openRecords(database),
    searchStore: search(database),
    invalidations: openInvalidationLog(database),
  }
  return store
}

function invalid(message: string): RungError {
  return new RungError(
    'CONFIG_INVALID',
    `${message} Give each a database of its own name, and each module one database.`,
  )
}
