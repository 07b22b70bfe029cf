import { readdir } from 'node:fs/promises'
import path from 'node:path'
import { systemClock } from '../../kernel/clock.ts'
import { databaseConnections } from '../../topology/topology.ts'
import type { Engine, EngineEvents, RunningPart } from '../process/engine.ts'
import { runningPart } from './engine.ts'
import { appDatabase, appRole, replicaNames, socketDirFor } from './recipe.ts'
import { type FoundServer, findServer, stopFoundServer } from './server.ts'
import { filesOf, removeStandby, type StandbyOptions, startStandby } from './standby.ts'

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
    const options = {
      root,
      name,
      primary: { dataFolder: path.join(dataDir, 'postgres'), socketDir: socketDirFor(dataDir, tmpDir) },
      connectionsMax: databaseConnections(topology),
      endsWithOwner: true,
    }
    return {
      address: socketDir,
      dir: root,
      log: path.join(root, 'postgres.log'),
      options,
      environment: {
        DATABASE_READ_URL: `postgres://${appRole}@/${appDatabase}?host=${encodeURIComponent(socketDir)}`,
      },
      start: (events) => start(options, events),
      remove: () => removeStandby(options),
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
      const { data, socketDir } = filesOf(path.join(dataDir, name))
      const server = await findServer(data)
      return server && { data, socketDir, server }
    }),
  )
  return all.filter((one) => one !== undefined)
}

async function start(options: StandbyOptions, { report, note, over }: EngineEvents): Promise<RunningPart> {
  const progress = copyProgress(note)
  const server = await startStandby({
    ...options,
    over,
    onProgress: progress.tell,
    onEvent(event, detail) {
      if (event === 'copying') {
        progress.restart()
        note(`copies the primary, because ${detail}`)
      }
      if (event === 'copied') note(`has copied ${detail}`)
      if (event === 'lost') report(detail)
      if (event === 'recovered') report(undefined, server.pid())
    },
  })
  return runningPart(server)
}

const tellEveryMs = 2_000

/** Tells how far a copy is, every two seconds. */
function copyProgress(note: (text: string) => void) {
  let began = 0
  let toldAt = 0
  return {
    restart() {
      began = systemClock.ticks()
      toldAt = began
    },
    tell(doneBytes: number, totalBytes: number) {
      const at = systemClock.ticks()
      if (at - toldAt < tellEveryMs) return
      toldAt = at
      const [done, total] = [doneBytes / 1024 ** 2, totalBytes / 1024 ** 2]
      const rate = done / ((at - began) / 1000)
      note(`has copied ${done.toFixed(0)} of ${total.toFixed(0)} MB, at ${rate.toFixed(0)} MB/s`)
    },
  }
}
