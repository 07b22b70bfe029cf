import { tmpdir } from 'node:os'
import path from 'node:path'
import { databaseConnections } from '../../topology/topology.ts'
import { placeOf } from '../../topology/urls.ts'
import { type Engine, type EngineEvents, type RunningPart, stateOf } from '../process/engine.ts'
import { installedPostgres } from './binaries.ts'
import { type ConnectionConfig, connectOnce } from './client.ts'
import { findRunning, stopFound } from './embedded.ts'
import { rolesOf } from './lag.ts'
import { type MemberPartOptions, startMemberPart } from './member-part.ts'
import { firstMember, memberFiles } from './members.ts'
import { appDatabase, appRole, replicaNames, socketDirFor } from './recipe.ts'
import { adminAt } from './server.ts'
import { dropOtherSlots } from './slots.ts'

/** The database: it comes with Rung, and restarts itself. */
export const postgres: Engine = {
  name: 'postgres',
  product: 'Postgres',
  check: 'database',
  part: 'postgres',
  isSpread: true,
  side: 'behind',
  look() {
    const found = installedPostgres()
    return stateOf('Postgres', found, found ? undefined : 'Postgres is missing from the installation')
  },
  use: ({ data }) => (data.engine === 'embedded' ? 'managed' : 'external'),
  describe: ({ data: { url } }) =>
    url === undefined ? 'Postgres 18, in the data directory' : `Postgres at ${placeOf(url)}`,
  place({ dataDir, tmpDir, topology }) {
    const socketDir = socketDirFor(dataDir, tmpDir)
    const options = { dataDir, name: firstMember, connectionsMax: databaseConnections(topology) }
    const replicas = replicaNames(topology.data.replicas)
    return {
      address: socketDir,
      dir: dataDir,
      log: path.join(dataDir, 'postgres.log'),
      options,
      // Only its owner may enter the folder of the socket, so the role of the app has no password.
      environment: {
        DATABASE_URL: `postgres://${appRole}@/${appDatabase}?host=${encodeURIComponent(socketDir)}`,
      },
      start: (events) => start(options, replicas, events),
    }
  },
  async findLeftover(dataDir) {
    const found = await findRunning(dataDir)
    return found && { ...found, address: path.join(dataDir, 'run'), stop: () => stopFound(dataDir, found) }
  },
  roles(parts, dataDir, withinMs) {
    const socketDirOf = (name: string) =>
      socketDirFor(name === postgres.part ? dataDir : path.join(dataDir, name), tmpdir())
    const own = parts.filter(({ name }) => /^postgres(-\d+)?$/.test(name))
    return rolesOf(new Map(own.map(({ name }) => [name, socketDirOf(name)])), withinMs)
  },
}

/** Whichever role it has: replicas may be added while it runs. */
async function start(
  options: MemberPartOptions,
  replicas: readonly string[],
  events: EngineEvents,
): Promise<RunningPart> {
  const running = await startMemberPart(options, events)
  await forgetOthers(adminAt(memberFiles(options.dataDir, options.name).socketDir), replicas).catch(() => {}) // they are bounded in size and time anyway
  return running
}

async function forgetOthers(admin: ConnectionConfig, replicas: readonly string[]): Promise<void> {
  const client = await connectOnce(admin)
  await dropOtherSlots(client, replicas).finally(() => client.end())
}
