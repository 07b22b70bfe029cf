import { readdir } from 'node:fs/promises'
import path from 'node:path'
import { databaseConnections } from '../../topology/topology.ts'
import type { Engine } from '../process/engine.ts'
import { startMemberPart } from './member-part.ts'
import { memberFiles, primaryPlace } from './members.ts'
import { appDatabase, appRole, replicaNames, socketDirFor } from './recipe.ts'
import { type FoundServer, findServer, stopFoundServer } from './server.ts'
import { removeStandby } from './standby.ts'

/** Replicas of the database that Rung runs. They restart themselves. */
export const postgresReplica: Engine = {
  name: 'postgres-replica',
  product: 'Postgres',
  part: 'replica',
  isSpread: true,
  side: 'behind',
  needs: ['postgres'],
  use({ data }) {
    if (data.replicas === 0) return 'none'
    return data.engine === 'embedded' ? 'managed' : 'external'
  },
  instances: ({ data }) => replicaNames(data.replicas),
  describe: ({ data }) =>
    data.url === undefined
      ? 'copies of the database that follow it, in the data directory'
      : `${data.readUrls.length} running ${data.readUrls.length === 1 ? 'replica' : 'replicas'} of Postgres`,
  place({ name, dataDir, tmpDir, topology }) {
    const root = path.join(dataDir, name)
    const socketDir = socketDirFor(root, tmpDir)
    const options = { dataDir, name, connectionsMax: databaseConnections(topology) }
    return {
      address: socketDir,
      dir: root,
      log: path.join(root, 'postgres.log'),
      options,
      environment: {
        DATABASE_READ_URL: `postgres://${appRole}@/${appDatabase}?host=${encodeURIComponent(socketDir)}`,
      },
      start: (events) => startMemberPart(options, events),
      remove: () => removeStandby({ root, name, primary: () => primaryPlace(dataDir) }),
    }
  },
  async findLeftover(dataDir) {
    const found = await leftoversIn(dataDir)
    const [first] = found
    return (
      first && {
        pid: first.server.pid,
        address: first.socketDir,
        owned: found.some(({ server }) => server.owned),
        async stop() {
          await Promise.all(found.map(({ data, server }) => stopFoundServer(data, server)))
        },
      }
    )
  },
}

async function leftoversIn(dataDir: string): Promise<{ data: string; socketDir: string; server: FoundServer }[]> {
  const names = (await readdir(dataDir).catch(() => [])).filter((name) => /^postgres-\d+$/.test(name))
  const all = await Promise.all(
    names.map(async (name) => {
      const { data, socketDir } = memberFiles(dataDir, name)
      const server = await findServer(data)
      return server && { data, socketDir, server }
    }),
  )
  return all.filter((one) => one !== undefined)
}
