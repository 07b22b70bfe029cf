import { chown, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { RungError } from '../../kernel/errors.ts'
import { secret } from '../../kernel/random.ts'
import { findLauncher } from '../process/launcher.ts'
import { findProgram, isAtLeast } from '../process/program.ts'
import { type ServerProcess, startServer } from '../process/server-process.ts'
import { redisFacts } from './client.ts'
import { type ClusterPorts, join } from './join.ts'
import {
  type RedisSettings,
  redisClusterLeast,
  redisConfig,
  redisLeast,
  redisPrograms,
  redisUrl,
  redisVersion,
  redisVersionFlag,
} from './recipe.ts'
import { slotsOf } from './slots.ts'

export interface InstalledRedis {
  path: string
  product: 'Redis' | 'Valkey'
  version: string
}

/** Returns the installed Redis or Valkey. */
export function installedRedis(): InstalledRedis | undefined {
  const program = findProgram(redisPrograms, redisVersionFlag)
  const facts = program && redisVersion(program.versionText)
  return facts && { path: program.path, ...facts }
}

/** Returns why the installed program cannot be used, or `undefined` if it can. */
export function redisProblem(installed: InstalledRedis | undefined, least = redisLeast): string | undefined {
  if (!installed) return 'Redis is not installed'
  if (isAtLeast(installed.version, least)) return undefined
  return `${installed.product} ${installed.version} is too old`
}

export interface RedisServer extends ServerProcess {
  /** Contains the password, so it must not be logged. */
  readonly url: string
  readonly version: string
  /** Whether this very process answers. */
  isHealthy(withinMs?: number): Promise<boolean>
}

export interface RedisServerOptions {
  dir: string
  listen: RedisSettings['listen']
  /** Default 128 MiB. */
  memoryMaxBytes?: number
  /** Default: a new one. */
  password?: string
  /** As a node of a cluster on this machine. Its slots are those of the node at this index, of so many nodes. */
  cluster?: ClusterPorts & { index: number; nodes: number }
  /** The other nodes of the cluster. */
  others?: readonly ClusterPorts[]
}

const healthTimeoutMs = 500

/**
 * Starts a Redis that ends with this process, however that ends. It stores nothing, so it is empty after each start. A node of a cluster
 * serves its slots when it has started.
 * @throws ENGINE_MISSING, ENGINE_START_FAILED, PORT_IN_USE, DATA_DIR_IN_USE
 */
export async function startRedis(options: RedisServerOptions): Promise<RedisServer> {
  const { cluster, others = [] } = options
  const installed = installedRedis()
  const least = cluster ? redisClusterLeast : redisLeast
  const problem = redisProblem(installed, least)
  if (!installed || problem !== undefined) {
    throw new RungError(
      'ENGINE_MISSING',
      `${problem}. This topology needs Redis ${least} or newer, or Valkey. Run: rung engines install redis`,
    )
  }
  const advice = 'name a Redis of yours by its URL'
  const launcher = findLauncher({ program: installed.path, name: installed.product, advice })
  const settings: RedisSettings & { password: string } = {
    dir: path.resolve(options.dir),
    listen: options.listen,
    cluster,
    memoryMaxBytes: options.memoryMaxBytes ?? 128 * 1024 ** 2,
    password: options.password ?? secret(),
  }
  const url = redisUrl(settings)
  const configFile = path.join(settings.dir, 'redis.conf')
  const process = await startServer({
    name: installed.product,
    dir: settings.dir,
    program: installed.path,
    args: [configFile], // a file, because command lines are visible to all users, and it contains a password
    launcher,
    async prepare() {
      await writeFile(configFile, redisConfig(settings), { mode: 0o600 })
      if (launcher.uid !== undefined) await chown(configFile, launcher.uid, launcher.gid!)
    },
    stopTimeoutMs: 2_000, // there is nothing to save
    isReady: async (pid) => {
      if (!(await answers(url, pid, healthTimeoutMs))) return false
      return (
        !cluster || join(url, { slots: slotsOf(cluster.index, cluster.nodes), others, password: settings.password })
      )
    },
    address: 'port' in settings.listen ? `port ${settings.listen.port}` : settings.listen.socketPath,
  })
  return {
    ...process,
    url,
    version: installed.version,
    isHealthy: (withinMs = healthTimeoutMs) => answers(url, process.pid, withinMs),
  }
}

/** Returns whether this very server answers, and not another one at the same address. */
async function answers(url: string, pid: number, withinMs: number): Promise<boolean> {
  return redisFacts(url, withinMs).then(
    ({ process_id: own }) => Number(own) === pid,
    () => false,
  )
}
