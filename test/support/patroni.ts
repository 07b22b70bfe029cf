import { existsSync, readFileSync } from 'node:fs'
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { installedHaproxy } from '../../src/engines/haproxy/server.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import type { Packages } from '../../src/engines/process/debian.ts'
import { findLauncher } from '../../src/engines/process/launcher.ts'
import { endAllIn, processesIn } from '../../src/engines/process/processes-in.ts'
import { type ServerOptions, type ServerProcess, startServer } from '../../src/engines/process/server-process.ts'
import { freePort } from './ports.ts'
import { ended, sendTo, until } from './process.ts'

/** Patroni with etcd, Postgres 15 and HAProxy, as `docs/guides/failover-machines.md` says: its files are read from there. */

const needed = { etcd: ['etcd-server'], patroni: ['patroni', 'python3-etcd'], postgresql: ['postgresql-15'] }
/** With the services that Debian would start. */
export const patroniPackages: readonly Packages[] = Object.entries(needed).map(([service, debian]) => ({
  debian,
  debianServices: [service],
  brew: [],
  dockerImage: '',
}))

const etcd = '/usr/bin/etcd'
const patroni = '/usr/bin/patroni'
const postgresBin = '/usr/lib/postgresql/15/bin'
/** For `{ skip: noPatroni }`: the reason, where there is none. */
export const noPatroni: string | false =
  [etcd, patroni, postgresBin].every((file) => existsSync(file)) && installedHaproxy()
    ? false
    : `Patroni is not installed: apt install haproxy ${Object.values(needed).flat().join(' ')}`

const machines = [1, 2, 3] as const
export type Machine = (typeof machines)[number]

/** What Patroni says of a member. */
interface Member {
  /** `pg-1`. */
  name: string
  /** `leader`, `sync_standby`, `replica`. */
  role: string
  state: string
  timeline: number
}

export interface PatroniCluster {
  /** The app's environment, by the addresses of all servers. */
  readonly direct: Record<string, string>
  /** With HAProxy in front of the primary. */
  readonly balanced: Record<string, string>
  primary(): Promise<Machine | undefined>
  /** Waits until there are a primary, a synchronous standby and another replica. Returns the primary. */
  untilWhole(): Promise<Machine>
  /** The processes of Postgres; the postmaster is the first. */
  postgres(machine: Machine): Promise<number[]>
  /** Ends everything on a machine at once, as when it loses its power. */
  lose(machine: Machine): Promise<void>
  start(machine: Machine): Promise<void>
  /** Ends Patroni alone: its Postgres goes on. */
  losePatroni(machine: Machine): Promise<void>
  /** Makes the synchronous standby the primary. */
  switchover(): Promise<void>
  stop(): Promise<void>
}

const guide = readFileSync(new URL('../../docs/guides/failover-machines.md', import.meta.url), 'utf8')

/** Returns a file of the guide. */
function inGuide(name: string): string {
  const [, text] = new RegExp(`<!-- file: ${name} -->\n\`\`\`\\w+\n(.*?)\`\`\``, 's').exec(guide) ?? []
  if (text === undefined) throw new Error(`the guide has no file ${name}`)
  return text
}

function variables(text: string): Record<string, string> {
  return Object.fromEntries(Array.from(text.matchAll(/^(\w+)=(.*)$/gm), ([, name, value]) => [name, value]))
}

/** The file of the first machine as that of another one. Lines that name several machines are the same on all. */
function onMachine(machine: Machine, text: string): string {
  const own = (line: string) => line.replaceAll('pg-1', `pg-${machine}`).replaceAll('10.0.0.11', `10.0.0.1${machine}`)
  return text
    .split('\n')
    .map((line) => (line.includes('10.0.0.12') ? line : own(line)))
    .join('\n')
}

export async function startPatroni(dir: string): Promise<PatroniCluster> {
  // A network of its own for each run, in 127.0.0.0/8, all of which leads to this machine; and ports that nobody else has.
  const byte = () => 1 + Math.floor(Math.random() * 254)
  const network = `127.${byte()}.${byte()}.`
  const ports = new Map<string, number>()
  for (const port of ['2379', '2380', '5000', '5432', '8008']) ports.set(port, await freePort())
  const here = (text: string, machineDir = dir) =>
    text
      .replaceAll('10.0.0.', network)
      .replace(/(?<=:|port )(2379|2380|5000|5432|8008)\b/g, (port) => String(ports.get(port)))
      .replaceAll(/\/var\/(lib|run)\/(etcd|postgresql)/g, machineDir)
  const addressOf = (machine: Machine) => here(`10.0.0.1${machine}`)
  const dirOf = (machine: Machine, program: string) => path.join(dir, `pg-${machine}`, program)
  const dataDir = (machine: Machine) => path.join(dirOf(machine, 'patroni'), '15', 'app')
  const rest = (machine: Machine, question: string, init?: RequestInit) =>
    fetch(`http://${here(`10.0.0.1${machine}:8008`)}${question}`, { ...init, signal: AbortSignal.timeout(60_000) })

  await chmod(dir, 0o755) // where there are no user namespaces, the programs run as another user
  const startTimeoutMs = 300_000 // for what hangs
  const running = new Map<string, ServerProcess>()

  type Options = Omit<ServerOptions, 'name' | 'dir' | 'launcher' | 'prepare'> & {
    file?: { name: string; text: string }
  }
  /** Runs a program in a folder, in which its configuration is. */
  async function launch(name: string, at: string, { file, ...options }: Options): Promise<void> {
    const launcher = findLauncher({ program: options.program, name, advice: 'leave it out' })
    await mkdir(path.dirname(at), { recursive: true })
    async function prepare(): Promise<void> {
      if (!file) return
      const where = path.join(at, file.name)
      await writeFile(where, file.text, { mode: 0o600 })
      if (launcher.uid !== undefined) await chown(where, launcher.uid, launcher.gid!)
    }
    running.set(at, await startServer({ startTimeoutMs, ...options, name, dir: at, launcher, prepare }))
  }

  async function startEtcd(machine: Machine): Promise<void> {
    const at = dirOf(machine, 'etcd')
    await launch('etcd', at, {
      program: etcd,
      args: [],
      env: { ...process.env, ...variables(here(onMachine(machine, inGuide('etcd')), at)) },
      address: addressOf(machine),
      isReady: async () => (await fetch(`http://${here(`10.0.0.1${machine}:2379`)}/health`)).ok,
    })
  }

  async function startMember(machine: Machine): Promise<void> {
    const at = dirOf(machine, 'patroni')
    await launch('Patroni', at, {
      program: patroni,
      args: ['config.yml'],
      file: { name: 'config.yml', text: here(onMachine(machine, inGuide('patroni.yml')), at) },
      address: addressOf(machine),
      isReady: async () => (await rest(machine, '/readiness')).ok,
    })
  }

  async function startBalancer(): Promise<void> {
    await launch('HAProxy', path.join(dir, 'haproxy'), {
      program: installedHaproxy()!.path,
      args: ['-db', '-f', 'haproxy.cfg'],
      file: { name: 'haproxy.cfg', text: here(inGuide('haproxy.cfg')) },
      address: here('127.0.0.1:5000'),
      isReady: async () => true,
    })
  }

  async function members(): Promise<Member[]> {
    const answers = await Promise.allSettled(machines.map((machine) => rest(machine, '/cluster')))
    const answer = answers.find((one) => one.status === 'fulfilled')
    return answer ? ((await answer.value.json()) as { members: Member[] }).members : []
  }
  const leaderIn = (all: readonly Member[]) => all.find(({ role }) => role === 'leader')
  const machineOf = ({ name }: Member) => Number(name.slice('pg-'.length)) as Machine

  async function postgres(machine: Machine): Promise<number[]> {
    const [line] = readFileSync(path.join(dataDir(machine), 'postmaster.pid'), 'utf8').split('\n')
    const postmaster = Number(line)
    return [postmaster, ...(await processesIn(dataDir(machine))).filter((pid) => pid !== postmaster)]
  }

  /** Kills it at once. */
  async function end(at: string): Promise<void> {
    const one = running.get(at)
    one?.kill()
    await one?.stop()
  }

  async function lose(machine: Machine): Promise<void> {
    const pids = await postgres(machine)
    for (const pid of pids) sendTo(pid, 'SIGKILL')
    await Promise.all(['etcd', 'patroni'].map((program) => end(dirOf(machine, program))))
    for (const pid of await processesIn(dataDir(machine))) {
      sendTo(pid, 'SIGKILL')
      await ended(pid)
    }
  }

  const cluster: PatroniCluster = {
    direct: variables(here(inGuide('direct.env'))),
    balanced: variables(here(inGuide('balanced.env'))),
    async primary() {
      const leader = leaderIn(await members())
      return leader && machineOf(leader)
    },
    async untilWhole() {
      const all = await until(async () => {
        const found = await members()
        const timeline = leaderIn(found)?.timeline
        const isWhole =
          found.length === machines.length &&
          found.some(({ role }) => role === 'sync_standby') &&
          found.every((one) => one.timeline === timeline && /^(running|streaming)$/.test(one.state))
        return isWhole && found
      }, 'all three members run, one of them as the synchronous standby')
      return machineOf(leaderIn(all)!)
    },
    postgres,
    lose,
    async start(machine) {
      if (!running.get(dirOf(machine, 'etcd'))?.isAlive()) await startEtcd(machine)
      await startMember(machine)
    },
    losePatroni: (machine) => end(dirOf(machine, 'patroni')),
    async switchover() {
      const all = await members()
      const [leader, candidate] = ['leader', 'sync_standby'].map((role) => all.find((one) => one.role === role)!.name)
      const answer = await rest(1, '/switchover', { method: 'POST', body: JSON.stringify({ leader, candidate }) })
      if (!answer.ok) throw new Error(`Patroni refuses the switchover: ${await answer.text()}`)
    },
    async stop() {
      await Promise.all(Array.from(running.keys(), end)) // Patroni too, or it would start its Postgres again
      await Promise.all(machines.map((machine) => endAllIn(dataDir(machine))))
    },
  }

  try {
    await Promise.all(machines.map(startEtcd)) // each answers once two of them run
    await startMember(1)
    await Promise.all([startMember(2), startMember(3), startBalancer()])
    await cluster.untilWhole()
    await createApp()
  } catch (error) {
    await cluster.stop()
    throw error
  }
  return cluster

  /** As `postgres` on the primary: the first machine has made the database. */
  async function createApp(): Promise<void> {
    const [, password] = /superuser: .*password: ([\w-]+)/.exec(inGuide('patroni.yml'))!
    const url = here(`postgres://postgres:${password}@10.0.0.11:5432/postgres`)
    const client = await connectOnce({ url })
    try {
      for (const line of inGuide('app.sql').trim().split('\n')) await client.query(line)
    } finally {
      await client.end()
    }
  }
}
