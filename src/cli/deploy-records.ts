import type { ConnectionConfig } from '../engines/postgres/client.ts'
import { createLog } from '../runtime/log.ts'
import { startDatabaseServer } from '../runtime/wire.ts'
import { toolBindingsOf } from '../topology/bindings.ts'
import type { Settings } from '../topology/read-settings.ts'

/** Lends the database of a running fleet to its supervisor, which keeps no connection of its own. */
export async function withFleetDatabase<T>(
  settings: Settings,
  cwd: string,
  work: (connection: ConnectionConfig) => Promise<T>,
): Promise<T> {
  const server = await startDatabaseServer(toolBindingsOf(settings, cwd), createLog('rung', 'silent'), 'join')
  try {
    return await work(server.connection)
  } finally {
    await server.stop()
  }
}
