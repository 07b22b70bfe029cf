import { existsSync } from 'node:fs'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import type { Database } from '../primitives/data/contract.ts'
import { createLog } from '../runtime/log.ts'
import { type DatabaseServer, openPrimary, startDatabaseServer } from '../runtime/wire.ts'
import type { ToolBindings } from '../topology/bindings.ts'
import type { Input } from './command.ts'
import { toolBindings } from './input-settings.ts'

/**
 * Runs a function on the app's database server: the one that serves the running app, otherwise one that is started for
 * this call and stopped afterwards.
 * @throws CONFIG_INVALID where the data directory holds no database: starting a server would make one
 */
export async function withServer<T>(
  bindings: ToolBindings,
  cwd: string,
  fn: (server: DatabaseServer) => Promise<T>,
  how: 'attach' | 'join' = 'attach',
): Promise<T> {
  const { data, dataDir } = bindings
  if (data.engine === 'embedded' && !existsSync(path.join(dataDir, 'postgres'))) {
    const place = path.relative(cwd, dataDir) || '.'
    throw new RungError(
      'CONFIG_INVALID',
      `There is no database in ${place}. Start the app first, or set RUNG_DATA or DATABASE_URL.`,
    )
  }
  const server = await startDatabaseServer(bindings, createLog('rung', 'silent'), how)
  return fn(server).finally(() => server.stop())
}

export interface OpenDatabase {
  bindings: ToolBindings
  database: Database
  connection: DatabaseServer['connection']
  adminConnection: DatabaseServer['adminConnection']
}

/** Like `withServer`, with a pool on the app's database. */
export async function withOpenDatabase<T>(input: Input, fn: (open: OpenDatabase) => Promise<T>): Promise<T> {
  const bindings = await toolBindings(input)
  return withServer(bindings, input.cwd, async ({ connection, adminConnection }) => {
    const database = openPrimary(bindings.data, connection)
    return fn({ bindings, database, connection, adminConnection }).finally(() => database.close())
  })
}
