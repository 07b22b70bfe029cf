import { lookup } from 'node:dns/promises'
import { existsSync } from 'node:fs'
import { chown, mkdir, rm, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { secret, uuid } from '../../kernel/random.ts'
import { askProgram } from '../process/ask-program.ts'
import { findLauncher, type Launcher } from '../process/launcher.ts'
import { findProgram, isAtLeast } from '../process/program.ts'
import { type ServerProcess, startServer } from '../process/server-process.ts'
import { type PageCacheAddress, pageCacheInstance, purgeTags } from './client.ts'
import { appLua, purgeLua } from './lua.ts'
import {
  answerTimeoutMs,
  appModule,
  type NginxSettings,
  nginxArgs,
  nginxCheckArgs,
  nginxConfig,
  nginxDefaults,
  nginxLeast,
  nginxPrograms,
  nginxVersion,
  nginxVersionFlag,
  purgeModule,
} from './recipe.ts'

export interface InstalledNginx {
  path: string
  product: 'nginx' | 'OpenResty'
  version: string
  /** To load for Lua: empty where it is built in, `undefined` where it is not there at all. */
  modules: readonly string[] | undefined
}

const luaModules = ['ndk_http_module.so', 'ngx_http_lua_module.so'] // the first is needed by the second
const alsoIn = ['/usr/lib/nginx/modules', '/usr/lib64/nginx/modules', '/usr/share/nginx/modules']

/** What is installed here, if anything; one that has Lua goes first. */
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
  return [...(folder === undefined ? [] : [folder]), ...alsoIn]
    .map((one) => luaModules.map((name) => path.join(one, name)))
    .find((files) => files.every((file) => existsSync(file)))
}

/** Why what is installed cannot be used, if so. */
export function nginxProblem(installed: InstalledNginx | undefined): string | undefined {
  if (!installed) return 'nginx is not installed'
  if (!installed.modules) return `${installed.path} has no Lua module, by which pages are purged`
  if (isAtLeast(installed.version, nginxLeast)) return undefined
  return `${installed.product} ${installed.version} is too old`
}

export interface PageCacheOptions extends Partial<Omit<NginxSettings, 'dir' | 'modules' | 'instance' | 'filesMax'>> {
  dir: string
  listen: NginxSettings['listen']
  adminPort: number
  upstreams: readonly string[]
}

export interface PageCacheServer extends Omit<ServerProcess, 'signal'> {
  /** Where clients come in. */
  readonly url: string
  readonly version: string
  /** For `purgeTags`, also from other processes. */
  readonly admin: PageCacheAddress
  purge(tags: readonly string[]): Promise<void>
  isHealthy(withinMs?: number): Promise<boolean>
  /** Other upstreams, without losing a request or a page. A configuration that nginx refuses changes nothing. */
  reload(change: Partial<Pick<PageCacheOptions, 'upstreams' | 'sessionCookies' | 'trustedProxies'>>): Promise<void>
}

const reloadTimeoutMs = 10_000

/**
 * An nginx of this process' own; it ends with it, however that ends. The cache begins empty: purges may have been missed.
 * @throws ENGINE_MISSING, ENGINE_START_FAILED (also for a configuration that nginx refuses), PORT_IN_USE, DATA_DIR_IN_USE
 */
export async function startPageCache(options: PageCacheOptions): Promise<PageCacheServer> {
  const installed = usable(installedNginx())
  const launcher = findLauncher({
    program: installed.path,
    versionFlag: nginxVersionFlag,
    name: installed.product,
    advice: 'leave the page cache out',
  })
  const instance = uuid()
  let generation = 0
  let settings: NginxSettings = {
    ...nginxDefaults,
    workers: availableParallelism(),
    secret: secret(),
    ...options,
    dir: path.resolve(options.dir),
    modules: installed.modules,
    instance: `${instance}.0`,
    filesMax: filesMax(),
  }
  const { dir } = settings
  const admin = { url: `http://127.0.0.1:${settings.adminPort}`, secret: settings.secret }
  const configFile = path.join(dir, 'nginx.conf')
  const isReady = async (withinMs?: number) => (await pageCacheInstance(admin.url, withinMs)) === settings.instance

  const server = await startServer({
    name: installed.product,
    dir,
    program: installed.path,
    args: nginxArgs(configFile, dir),
    launcher,
    async prepare() {
      await rm(path.join(dir, 'cache'), { recursive: true, force: true })
      await rm(path.join(dir, 'gate.sock'), { force: true }) // left by one that was killed; it would be "in use"
      for (const folder of ['cache', 'tmp']) await makeFolder(path.join(dir, folder), launcher)
      await writeOwned(path.join(dir, `${purgeModule}.lua`), purgeLua, launcher)
      await writeOwned(path.join(dir, `${appModule}.lua`), appLua(answerTimeoutMs(settings)), launcher)
      await configure(settings)
    },
    isReady: () => isReady(),
    stopSignal: 'SIGQUIT', // requests in hand are finished
    stopTimeoutMs: settings.requestTimeoutMs + 5_000, // it waits itself for as long as a request may take
    address: `ports ${settings.listen.port} and ${settings.adminPort}`,
  })

  /** Writes it if nginx takes it. */
  async function configure(wanted: NginxSettings): Promise<void> {
    const draft = `${configFile}.new`
    const text = nginxConfig({ ...wanted, upstreams: await Promise.all(wanted.upstreams.map(resolved)) })
    await writeOwned(draft, text, launcher)
    const [command, ...args] = [...launcher.prefix, installed.path, ...nginxCheckArgs(draft, dir)]
    const identity = launcher.uid === undefined ? {} : { uid: launcher.uid, gid: launcher.gid! }
    const { status, stderr } = askProgram(command!, args, identity)
    await rm(draft, { force: true })
    if (status !== 0) {
      const said = stderr.split('\n').filter((line) => /\[emerg\]|\[crit\]/.test(line))
      throw new RungError(
        'ENGINE_START_FAILED',
        `${installed.product} refuses its configuration: ${said.join(' ').replace(/^nginx: /, '') || stderr}`,
      )
    }
    await writeOwned(configFile, text, launcher)
  }

  let turn = Promise.resolve()
  async function reload(change: Parameters<PageCacheServer['reload']>[0]): Promise<void> {
    generation += 1
    const wanted = { ...settings, ...change, instance: `${instance}.${generation}` }
    await configure(wanted)
    settings = wanted
    server.signal('SIGHUP')
    for (const giveUpAt = systemClock.ticks() + reloadTimeoutMs; ; await sleep(5)) {
      if (await isReady().catch(() => false)) return
      if (!server.isAlive() || systemClock.ticks() > giveUpAt)
        throw new RungError('ENGINE_START_FAILED', `${installed.product} did not take its new configuration in time.`)
    }
  }

  const { host, port } = settings.listen
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`,
    version: installed.version,
    admin,
    pid: server.pid,
    exited: server.exited,
    isAlive: server.isAlive,
    isHealthy: (withinMs) => isReady(withinMs).catch(() => false),
    kill: server.kill,
    purge: (tags) => purgeTags(admin, tags),
    reload(change) {
      const next = turn.then(() => reload(change))
      turn = next.catch(() => {})
      return next
    },
    stop: server.stop,
  }
}

function usable(installed: InstalledNginx | undefined): InstalledNginx & { modules: readonly string[] } {
  const what = nginxProblem(installed)
  if (installed?.modules && what === undefined) return { ...installed, modules: installed.modules }
  throw new RungError(
    'ENGINE_MISSING',
    `${what}; this topology needs nginx ${nginxLeast} or newer with Lua, or OpenResty. Run: rung engines install nginx`,
  )
}

/** With an address in place of a name. */
async function resolved(upstream: string): Promise<string> {
  const name = /^([^:/[\]]+):(\d+)$/.exec(upstream)
  if (!name || isIP(name[1]!)) return upstream
  try {
    const { address, family } = await lookup(name[1]!)
    return `${family === 6 ? `[${address}]` : address}:${name[2]}`
  } catch (cause) {
    throw new RungError(
      'ENGINE_START_FAILED',
      `host not found in upstream "${upstream}": name a process by its address.`,
      {
        cause,
      },
    )
  }
}

async function makeFolder(folder: string, owner: Launcher): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  if (owner.uid !== undefined) await chown(folder, owner.uid, owner.gid!)
}

/** The configuration holds the secret of purges. */
async function writeOwned(file: string, text: string, owner: Launcher): Promise<void> {
  await writeFile(file, text, { mode: 0o600 })
  if (owner.uid !== undefined) await chown(file, owner.uid, owner.gid!)
}

/** How many files a process may have open at most. */
function filesMax(): number | undefined {
  const limit = Number(askProgram('/bin/sh', ['-c', 'ulimit -Hn']).stdout.trim())
  return limit > 0 ? limit : undefined
}
