import { chown, rm, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { RungError } from '../../kernel/errors.ts'
import type { Balancing, Routing } from '../process/engine.ts'
import { filesMax } from '../process/files-max.ts'
import { findLauncher } from '../process/launcher.ts'
import { findProgram, isAtLeast } from '../process/program.ts'
import { type ServerProcess, startServer } from '../process/server-process.ts'
import { askHaproxy } from './client.ts'
import {
  addServerCommands,
  adminSocket,
  backend,
  backendsOf,
  callsFile,
  callsMap,
  groupBackends,
  type HaproxySettings,
  haproxyConfig,
  haproxyDefaults,
  haproxyLeast,
  haproxyVersion,
  haproxyVersionFlag,
  pemBytesMax,
  pemFile,
  routesFile,
  routesMap,
  serverIn,
  serverPaths,
} from './recipe.ts'

export interface InstalledHaproxy {
  path: string
  version: string
}

export function installedHaproxy(): InstalledHaproxy | undefined {
  const program = findProgram(['haproxy'], haproxyVersionFlag)
  const version = program && haproxyVersion(program.versionText)
  return version === undefined ? undefined : { path: program!.path, version }
}

/** Returns why the installed program cannot be used, or `undefined` if it can. */
export function haproxyProblem(installed: InstalledHaproxy | undefined): string | undefined {
  if (!installed) return 'HAProxy is not installed'
  return isAtLeast(installed.version, haproxyLeast) ? undefined : `HAProxy ${installed.version} is too old`
}

export interface BalancerOptions extends Partial<HaproxySettings> {
  dir: string
  listen: HaproxySettings['listen']
  servers: HaproxySettings['servers']
  isEntry: boolean
  routing?: Routing
}

const noRouting: Routing = { groups: [], rules: [] }

export interface BalancerServer extends ServerProcess {
  readonly url: string
  readonly version: string
  /** Sends a command of the runtime API. */
  ask(command: string): Promise<string>
  isHealthy(withinMs?: number): Promise<boolean>
  readonly balancing: Balancing
  /** Uses another certificate and key for new connections. @throws CERTIFICATE_INVALID */
  useCertificate(pem: string): Promise<void>
}

const threadsMax = 4

/** Each client may need a connection to a server, and HAProxy some files of its own. */
function clientsMax(files = filesMax()): number {
  return files === undefined ? 10_000 : Math.max(100, Math.min(10_000, Math.floor((files - 500) / 2)))
}

/**
 * Starts an HAProxy that ends with this process, however that ends.
 * @throws ENGINE_MISSING, ENGINE_START_FAILED, PORT_IN_USE, DATA_DIR_IN_USE
 */
export async function startBalancer(options: BalancerOptions): Promise<BalancerServer> {
  const installed = installedHaproxy()
  const problem = haproxyProblem(installed)
  if (!installed || problem !== undefined) {
    throw new RungError(
      'ENGINE_MISSING',
      `${problem}. This topology needs HAProxy ${haproxyLeast} or newer. Run: rung engines install haproxy`,
    )
  }
  const launcher = findLauncher({
    program: installed.path,
    versionFlag: haproxyVersionFlag,
    name: 'HAProxy',
    advice: 'leave the balancer out',
  })
  const { routing = noRouting, ...given } = options
  const settings: HaproxySettings = {
    ...haproxyDefaults,
    clientsMax: clientsMax(),
    threads: Math.min(threadsMax, availableParallelism()),
    ...given,
    dir: path.resolve(options.dir),
  }
  const { dir, listen } = settings
  const socket = path.join(dir, adminSocket)
  const configFile = path.join(dir, 'haproxy.cfg')
  const answers = async (pid: number, withinMs?: number) =>
    new RegExp(`^Pid: ${pid}$`, 'm').test(await askHaproxy(socket, 'show info', withinMs))

  const server = await startServer({
    name: 'HAProxy',
    dir,
    program: installed.path,
    args: ['-C', dir, '-db', '-f', configFile],
    launcher,
    async prepare() {
      await rm(socket, { force: true })
      const files = [[configFile, haproxyConfig(settings)] as const]
      if (settings.tls) files.push([path.join(dir, pemFile), settings.tls.pem])
      if (settings.calls) {
        const backends = backendsOf(settings.servers)
        const backendOf = (group: string | undefined) => (group === undefined ? backend : backends.get(group)!)
        files.push([path.join(dir, routesFile), routesMap(routing, backendOf)])
        files.push([path.join(dir, callsFile), callsMap(routing, backendOf)])
      }
      for (const [file, text] of files) {
        await writeFile(file, text, { mode: 0o600 })
        if (launcher.uid !== undefined) await chown(file, launcher.uid, launcher.gid!)
      }
    },
    isReady: (pid) => answers(pid),
    stopSignal: 'SIGUSR1', // finishes requests in progress
    stopTimeoutMs: settings.requestTimeoutMs + 5_000, // HAProxy itself waits as long as a request may take
    address:
      settings.tls?.plainPort === undefined ? `port ${listen.port}` : `ports ${listen.port}, ${settings.tls.plainPort}`,
  })
  return {
    ...server,
    url: `${settings.tls ? 'https' : 'http'}://${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${listen.port}`,
    version: installed.version,
    ask: (command) => askHaproxy(socket, command),
    stop: () => server.stop().finally(() => rm(socket, { force: true })), // HAProxy leaves it
    isHealthy: (withinMs) => answers(server.pid, withinMs).catch(() => false),
    balancing: balancingOf(settings, (command) => askHaproxy(socket, command)),
    useCertificate: (pem) => useCertificate(pem, path.join(dir, pemFile), (command) => askHaproxy(socket, command)),
  }
}

/** Both commands or none: HAProxy takes the new certificate only once it has found that certificate and key belong together. */
async function useCertificate(pem: string, name: string, ask: (command: string) => Promise<string>): Promise<void> {
  const refuse = (why: string) =>
    new RungError('CERTIFICATE_INVALID', `HAProxy refuses the certificate: ${why}. It goes on with the one before.`)
  if (Buffer.byteLength(pem) > pemBytesMax) throw refuse(`it has more than ${pemBytesMax} bytes`)
  const said = await ask(`set ssl cert ${name} <<\n${pem.trim()}\n`)
  if (!/^Transaction (created|updated)/.test(said)) throw refuse(said)
  const outcome = await ask(`commit ssl cert ${name}`)
  if (/Success!/.test(outcome)) return
  await ask(`abort ssl cert ${name}`)
  throw refuse(outcome)
}

const noServer = /^No such server/

function balancingOf(settings: HaproxySettings, ask: (command: string) => Promise<string>): Balancing {
  const groups = new Map(settings.servers.map(({ name, group }) => [name, group]))
  const backends = backendsOf(settings.servers)
  const pathsOf = (name: string) => serverPaths(name, backendOf(groups.get(name)))

  /** A new group gets the first backend that no other one has. */
  function backendOf(group: string | undefined): string {
    if (group === undefined) return backend
    const free = groupBackends.find((one) => ![...backends.values()].includes(one))
    const found = backends.get(group) ?? free
    if (found === undefined)
      throw new RungError('ENGINE_START_FAILED', `The balancer has places for ${groupBackends.length} groups.`)
    backends.set(group, found)
    return found
  }

  /** Replaces all lines of a map at once. */
  async function replaceMap(file: string, lines: string): Promise<void> {
    const said = await ask(`prepare map ${file}`)
    const version = /^New version created: (\d+)/.exec(said)?.[1]
    if (version === undefined) throw refused(`prepare map ${file}`, said)
    // A command for each line: all of them together would not fit into a buffer.
    for (const line of lines.split('\n').filter(Boolean)) await tell(`add map @${version} ${file} <<\n${line}\n`)
    await tell(`commit map @${version} ${file}`)
  }

  /** An answer to these commands is a complaint. */
  async function tell(...commands: string[]): Promise<void> {
    for (const command of commands) {
      const complaint = await ask(command)
      if (complaint !== '') throw refused(command, complaint)
    }
  }
  return {
    async admit(upstream) {
      const { name, address, group } = upstream
      groups.set(name, group)
      for (const { server, command } of addServerCommands(settings, upstream, backendOf(group))) {
        const said = await ask(command)
        if (/^Already exists/.test(said)) {
          const port = address.slice(address.lastIndexOf(':') + 1)
          await ask(`set server ${server} addr ${address.slice(0, -port.length - 1)} port ${port}`)
        } else if (!/^New server registered/.test(said)) throw refused(command, said)
      }
      const [checked, lastResort] = pathsOf(name)
      await tell(`enable health ${checked}`, stateOf(checked, 'ready'), stateOf(lastResort, 'ready'))
    },
    async drain(name) {
      for (const server of pathsOf(name)) {
        const command = stateOf(server, 'drain')
        const said = await ask(command)
        if (said !== '' && !noServer.test(said)) throw refused(command, said)
      }
    },
    look: async (name) => serverIn(await ask('show stat'), name),
    async forget(name) {
      for (const server of pathsOf(name)) {
        const said = await ask(stateOf(server, 'maint'))
        if (noServer.test(said)) continue
        const command = `del server ${server}`
        const outcome = await ask(command)
        if (!/^Server deleted/.test(outcome) && !noServer.test(outcome)) throw refused(command, outcome)
      }
      groups.delete(name)
    },
    async route(routing) {
      if (!settings.calls) return
      const present = new Set(routing.groups.map(({ name }) => name))
      await replaceMap(routesFile, routesMap(routing, backendOf))
      await replaceMap(callsFile, callsMap(routing, backendOf))
      // Processes of a group that has gone are forgotten one by one; its place may then be another one's.
      for (const name of backends.keys()) {
        if (!present.has(name) && ![...groups.values()].includes(name)) backends.delete(name)
      }
    },
  }
}

function stateOf(server: string, state: string): string {
  return `set server ${server} state ${state}`
}

function refused(command: string, answer: string): RungError {
  return new RungError(
    'ENGINE_START_FAILED',
    `HAProxy refused "${command}": ${answer.split('\n')[0]}. Changes of a running balancer need HAProxy 2.5 or newer.`,
  )
}
