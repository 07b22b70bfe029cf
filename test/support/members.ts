import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import { type Member, startMember } from '../../src/engines/postgres/member.ts'
import { memberFiles, readPrimacy } from '../../src/engines/postgres/members.ts'
import { appDatabase, appRole, serverNames } from '../../src/engines/postgres/recipe.ts'
import { adminAt } from '../../src/engines/postgres/server.ts'
import { processesIn } from '../../src/engines/process/processes-in.ts'
import { type Failover, openFailover } from '../../src/fleet/failover.ts'
import { until } from './process.ts'

/** Servers of one database with failover, as `rung up` runs them, without the rest of the fleet. */
export interface Members {
  readonly names: readonly string[]
  readonly notes: readonly string[]
  member(name: string): Member
  connection(name: string): ConnectionConfig
  admin(name: string): ConnectionConfig
  /** The name of the primary, as it is written down. */
  primary(): Promise<string>
  /** Resolves when each commit waits for all of these: any of them may become the primary. */
  untilSynchronous(names?: readonly string[]): Promise<void>
  setLeaving: Failover['setLeaving']
  /** All processes of a server. */
  processes(name: string): Promise<number[]>
  stop(): Promise<void>
}

export interface MembersOptions {
  count: number
  /** Nothing survives a crash of the machine. Default: true. */
  throwaway?: boolean
}

export async function startMembers(dataDir: string, { count, throwaway = true }: MembersOptions): Promise<Members> {
  const members = new Map<string, Member>()
  const notes: string[] = []
  const failover = openFailover({ dataDir, members: () => members, note: (text) => void notes.push(text) })
  const names = serverNames(count)
  async function start(name: string): Promise<void> {
    const member = await startMember({
      dataDir,
      name,
      connectionsMax: 100,
      throwaway,
      mayReturn: failover.mayReturn,
      onEvent: (event, detail) => void notes.push(`${name} ${event}: ${detail}`),
    })
    members.set(name, member)
  }
  const [first, ...others] = names
  await start(first!)
  await Promise.all(others.map(start))
  const admin = (name: string) => adminAt(memberFiles(dataDir, name).socketDir)
  const primary = async () => (await readPrimacy(dataDir)).primary
  return {
    names,
    notes,
    member: (name) => members.get(name)!,
    admin,
    connection: (name) => ({ ...admin(name), user: appRole, database: appDatabase }),
    primary,
    async untilSynchronous(all = names) {
      await until(
        async () => {
          const found = await readPrimacy(dataDir)
          const others = all.filter((name) => name !== found.primary)
          return found.synchronous.length === others.length && others.every((name) => found.synchronous.includes(name))
        },
        () => `commits wait for ${all}: ${notes.join('; ')}`,
      )
    },
    setLeaving: failover.setLeaving,
    processes: (name) => processesIn(memberFiles(dataDir, name).data),
    async stop() {
      await failover.stop()
      await Promise.all(others.map((name) => members.get(name)!.stop()))
      await members.get(first!)!.stop()
    },
  }
}
