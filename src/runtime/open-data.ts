import type { Data } from '../app/define-module.ts'
import { RungError } from '../kernel/errors.ts'
import { loadMigrations, migrate } from '../migrations/migrate.ts'
import { type Search, searchFor } from '../primitives/search/search.ts'
import { toolBindingsOf } from '../topology/bindings.ts'
import { boundaryGuard } from './guard.ts'
import { loadSettings } from './load-settings.ts'
import { createLog } from './log.ts'
import { systemMigrations } from './migrations.ts'
import { openPrimitives } from './primitives.ts'
import { openPrimary, openSearchServer, openSignals, startDatabaseServer } from './wire.ts'

/** The data primitive and search alone, for a program that is not a Rung app. */
export interface OpenData {
  /** As one of the modules has it. */
  data(module: string): Data
  search(module: string): Search
  close(): Promise<void>
}

export interface OpenDataOptions {
  name: string
  /** The modules that have tables; each has the Postgres schema of its name. */
  modules: readonly { name: string; migrations?: URL; reads?: readonly string[] }[]
  /** Instead of the environment of the process. It wins over `rung.config.ts`, which is read as by every command. */
  env?: Readonly<Record<string, string | undefined>>
  /** `own` (default) starts the database and refuses one in use; `attach` joins a running app's. */
  server?: 'own' | 'attach'
  /** How long a request of the app may take, in ms: a CDN is purged again after it. Default 30 s. */
  requestTimeoutMs?: number
  /** Ms; 0 for none. Default: what the topology says. */
  statementTimeoutMs?: number
}

/**
 * Starts or finds the database as `rung start` would, applies the migrations, and returns the data primitive.
 * @throws what `rung start` would
 */
export async function openData(options: OpenDataOptions): Promise<OpenData> {
  const cwd = process.cwd()
  const bindings = toolBindingsOf(await loadSettings({ env: options.env ?? process.env }, cwd), cwd)
  const log = createLog(options.name, bindings.log.level)
  const server = await startDatabaseServer(bindings, log, options.server)
  try {
    const sources = options.modules.flatMap(({ name, migrations, reads }) =>
      migrations ? [{ module: name, folder: migrations, reads: reads ?? [] }] : [],
    )
    await migrate({
      connection: server.connection,
      migrations: [...systemMigrations, ...(await loadMigrations(sources))],
    })
    const { statementTimeoutMs = bindings.data.statementTimeoutMs } = options
    const database = openPrimary({ ...bindings.data, statementTimeoutMs }, server.connection)
    const reads = new Map(options.modules.map((module) => [module.name, module.reads ?? []] as const))
    const { requestTimeoutMs } = options
    const apart = openSearchServer(bindings, (connection) => migrate({ connection, migrations: systemMigrations }))
    const primitives = openPrimitives({
      databases: [{ database }],
      search: apart?.of,
      signals: await openSignals(database, server.primary),
      guard: boundaryGuard(bindings.mode, reads, log),
      cache: { cdn: bindings.cdn !== undefined, ...(requestTimeoutMs !== undefined && { requestTimeoutMs }) },
    })
    function known(module: string): string {
      if (reads.has(module)) return module
      throw new RungError('APP_INVALID', `"${options.name}" has no module "${module}".`)
    }
    return {
      data: (module) => primitives.data.forModule(known(module)),
      search: (module) => searchFor(known(module), primitives.stores.main.searchStore),
      async close() {
        await primitives.close()
        await apart?.close()
        await database.close()
        await server.stop()
      },
    }
  } catch (error) {
    await server.stop()
    throw error
  }
}
