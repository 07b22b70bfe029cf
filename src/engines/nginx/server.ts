import { existsSync } from 'node:fs'
import { chown, mkdir, rm, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { sleep } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { secret, uuid } from '../../kernel/random.ts'
import type { Balancing, Upstream } from '../process/engine.ts'
import { filesMax } from '../process/files-max.ts'
import { findLauncher, type Launcher } from '../process/launcher.ts'
import { findProgram, isAtLeast } from '../process/program.ts'
import { type ServerProcess, startServer } from '../process/server-process.ts'
import {
  appsOf,
  leavePort,
  type PageCacheAddress,
  pageCacheInstance,
  purgeTags,
  requestsAt,
  sendCertificate,
} from './client.ts'
import { appLua, purgeLua, tlsLua } from './lua.ts'
import {
  answerTimeoutMs,
  appModule,
  configName,
  type NginxSettings,
  nginxArgs,
  nginxConfig,
  nginxDefaults,
  nginxLeast,
  nginxPrograms,
  nginxVersion,
  nginxVersionFlag,
  pemFile,
  purgeModule,
  tlsModule,
} from './recipe.ts'

export interface InstalledNginx {
  path: string
  product: 'nginx' | 'OpenResty'
  version: string
  /** Files to load for Lua: empty if it is built in, `undefined` if it is missing. */
  modules: readonly string[] | undefined
}

/** As an nginx hands its sockets to the one that replaces it: their descriptors are in the environment. */
const inheritance = ['env', 'NGINX=3;']
/** Time for clients of idle connections to send a request, which is answered as the last one of its connection. */
const idleMs = 1_000

const luaModules = ['ndk_http_module.so', 'ngx_http_lua_module.so'] // the second needs the first
const moduleFolders = ['/usr/lib/nginx/modules', '/usr/lib64/nginx/modules', '/usr/share/nginx/modules']

/** Returns the installed nginx or OpenResty, preferably one with Lua. */
export function installedNginx(): InstalledNginx | undefined {
  const all = nginxPrograms.flatMap((name): InstalledNginx[] => {
    const program = findProgram([name], nginxVersionFlag)
    const facts = program && nginxVersion(program.versionText)
    if (!facts) return []
    const { product, version, hasLua, modulesPath } = facts
    return [{ path: program.path, product, version, modules: hasLua ? [] : modulesIn(modulesPath) }]
  })
  return all.find(({ modules }) => modules) ?? all[0]
}

function modulesIn(folder: string | undefined): string[] | undefined {
  return [...(folder === undefined ? [] : [folder]), ...moduleFolders]
    .map((one) => luaModules.map((name) => path.join(one, name)))
    .find((files) => files.every((file) => existsSync(file)))
}

/** Returns why the installed nginx cannot be used, or `undefined` if it can. */
export function nginxProblem(installed: InstalledNginx | undefined): string | undefined {
  if (!installed) return 'nginx is not installed'
  if (!installed.modules) return `${installed.path} has no Lua module, which purges pages`
  if (isAtLeast(installed.version, nginxLeast)) return undefined
  return `${installed.product} ${installed.version} is too old`
}

export interface PageCacheOptions
  extends Partial<Omit<NginxSettings, 'dir' | 'modules' | 'instance' | 'filesMax' | 'http2Directive' | 'secret'>> {
  secret?: string
  dir: string
  listen: NginxSettings['listen']
  adminPort: number
  upstreams: readonly string[]
}

export interface PageCacheServer extends ServerProcess {
  /** The address for clients. */
  readonly url: string
  readonly version: string
  /** The address for `purgeTags`, also from other processes. */
  readonly admin: PageCacheAddress
  purge(tags: readonly string[]): Promise<void>
  /** Uses another certificate and key for new connections. @throws CERTIFICATE_INVALID */
  useCertificate(pem: string): Promise<void>
  isHealthy(withinMs?: number): Promise<boolean>
  /** Sends all requests to these from now on; those in progress end where they are. */
  sendTo(upstreams: readonly string[]): Promise<void>
  /** Leaves the port to other processes that share it, and resolves when nearly no client has a connection here any more. */
  retire(): Promise<void>
  /** Changes the processes that get requests. `servers` are those of the start, with their names. */
  balancing(servers: readonly Upstream[]): Balancing
}

/**
 * Starts an nginx that ends with this process, however that ends. The cache begins empty, because purges may have been missed.
 * @throws ENGINE_MISSING, ENGINE_START_FAILED, PORT_IN_USE, DATA_DIR_IN_USE
 */
export async function startPageCache(options: PageCacheOptions): Promise<PageCacheServer> {
  const installed = usable(installedNginx())
  const launcher = findLauncher({
    program: installed.path,
    versionFlag: nginxVersionFlag,
    name: installed.product,
    advice: 'leave the page cache out',
  })
  const settings: NginxSettings & { secret: string } = {
    ...nginxDefaults,
    workers: availableParallelism(),
    secret: secret(),
    ...options,
    dir: path.resolve(options.dir),
    modules: installed.modules,
    instance: uuid(),
    filesMax: filesMax(),
    http2Directive: isAtLeast(installed.version, '1.25.1'),
  }
  const {
    dir,
    listen: { socketFd },
  } = settings
  const admin = { url: `http://127.0.0.1:${settings.adminPort}`, secret: settings.secret }
  const configFile = path.join(dir, configName)
  const isReady = async (withinMs?: number) => (await pageCacheInstance(admin.url, withinMs)) === settings.instance

  const server = await startServer({
    name: installed.product,
    dir,
    program: installed.path,
    args: nginxArgs(configFile, dir),
    launcher: { ...launcher, prefix: [...launcher.prefix, ...(socketFd === undefined ? [] : inheritance)] },
    socketFd,
    async prepare() {
      await rm(path.join(dir, 'cache'), { recursive: true, force: true })
      await rm(path.join(dir, 'gate.sock'), { force: true }) // a killed nginx leaves it, and it would be "in use"
      for (const folder of ['cache', 'tmp']) await makeFolder(path.join(dir, folder), launcher)
      await writeOwned(path.join(dir, `${purgeModule}.lua`), purgeLua, launcher)
      await writeOwned(path.join(dir, `${appModule}.lua`), appLua(answerTimeoutMs(settings)), launcher)
      if (settings.tls) {
        await writeOwned(path.join(dir, `${tlsModule}.lua`), tlsLua, launcher)
        await writeOwned(path.join(dir, pemFile), settings.tls.pem, launcher)
      }
      await writeOwned(configFile, nginxConfig(settings), launcher)
    },
    isReady: () => isReady(),
    stopSignal: 'SIGQUIT', // finishes requests in progress
    stopTimeoutMs: settings.requestTimeoutMs + 5_000, // nginx itself waits as long as a request may take
    address: `ports ${[settings.listen.port, ...(settings.tls?.plainPort === undefined ? [] : [settings.tls.plainPort]), settings.adminPort].join(', ')}`,
  })

  const { host, port } = settings.listen
  return {
    ...server,
    url: `${settings.tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}`,
    version: installed.version,
    admin,
    isHealthy: (withinMs) => isReady(withinMs).catch(() => false),
    purge: (tags) => purgeTags(admin, tags),
    useCertificate: (pem) => sendCertificate(admin, pem),
    async sendTo(upstreams) {
      await appsOf(admin, upstreams)
    },
    async retire() {
      await leavePort(admin)
      await sleep(idleMs)
    },
    balancing: (servers) => balancingOf(admin, servers),
  }
}

function balancingOf(admin: PageCacheAddress, servers: readonly Upstream[]): Balancing {
  const addresses = new Map(servers.map(({ name, address }) => [name, address]))
  /** Those that may still have requests. */
  const drained = new Map<string, string>()
  async function leaveOut(name: string): Promise<void> {
    const address = addresses.get(name)
    if (address === undefined) return
    const others = [...addresses].filter(([other]) => other !== name).map(([, other]) => other)
    if (others.length === 0) throw unable('The last process that answers cannot be left out.')
    await appsOf(admin, others)
    addresses.delete(name)
    drained.set(name, address)
  }
  return {
    async admit({ name, address }) {
      addresses.set(name, address)
      drained.delete(name)
      await appsOf(admin, [...addresses.values()])
    },
    drain: leaveOut,
    async look(name) {
      const address = addresses.get(name)
      if (address !== undefined) return { requests: 0, isUp: (await appsOf(admin)).get(address) === true }
      const left = drained.get(name)
      return left === undefined ? undefined : { requests: await requestsAt(left).catch(() => 0), isUp: false }
    },
    async forget(name) {
      await leaveOut(name)
      drained.delete(name)
    },
  }
}

function unable(message: string): RungError {
  return new RungError('ENGINE_START_FAILED', message)
}

function usable(installed: InstalledNginx | undefined): InstalledNginx & { modules: readonly string[] } {
  const problem = nginxProblem(installed)
  if (installed?.modules && problem === undefined) return { ...installed, modules: installed.modules }
  throw new RungError(
    'ENGINE_MISSING',
    `${problem}. This topology needs OpenResty, or nginx ${nginxLeast} or newer with Lua. Run: rung engines install nginx`,
  )
}

async function makeFolder(folder: string, owner: Launcher): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  if (owner.uid !== undefined) await chown(folder, owner.uid, owner.gid!)
}

/** Only its owner may read the file, since the configuration contains the secret. */
async function writeOwned(file: string, text: string, owner: Launcher): Promise<void> {
  await writeFile(file, text, { mode: 0o600 })
  if (owner.uid !== undefined) await chown(file, owner.uid, owner.gid!)
}
