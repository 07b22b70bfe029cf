import { chown, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { RungError } from '../../kernel/errors.ts'
import { secret } from '../../kernel/random.ts'
import { findLauncher } from '../process/launcher.ts'
import { findProgram, isAtLeast } from '../process/program.ts'
import { type ServerProcess, startServer } from '../process/server-process.ts'
import { natsAnswers } from './client.ts'
import {
  type NatsSettings,
  natsConfig,
  natsConfigFile,
  natsLeast,
  natsPrograms,
  natsUrl,
  natsVersion,
  natsVersionFlag,
} from './recipe.ts'

export interface InstalledNats {
  path: string
  version: string
}

export function installedNats(): InstalledNats | undefined {
  const program = findProgram(natsPrograms, natsVersionFlag)
  const version = program && natsVersion(program.versionText)
  return version === undefined ? undefined : { path: program!.path, version }
}

/** Returns why the installed program cannot be used, or `undefined` if it can. */
export function natsProblem(installed: InstalledNats | undefined): string | undefined {
  if (!installed) return 'NATS is not installed'
  return isAtLeast(installed.version, natsLeast) ? undefined : `NATS ${installed.version} is too old`
}

export interface NatsServer extends ServerProcess {
  /** Contains the password, so it must not be logged. */
  readonly url: string
  readonly version: string
  isHealthy(withinMs?: number): Promise<boolean>
}

export interface NatsServerOptions extends Pick<NatsSettings, 'dir' | 'listen' | 'cluster'> {
  /** Default `nats`. */
  name?: string
  /** Default: a new one. */
  password?: string
  /** Default 4 GiB. */
  storeBytesMax?: number
}

const healthTimeoutMs = 1_000

/**
 * Starts a NATS server that ends with this process, however that ends. What it has stored is there again after the next start.
 * @throws ENGINE_MISSING, ENGINE_START_FAILED, PORT_IN_USE, DATA_DIR_IN_USE
 */
export async function startNats(options: NatsServerOptions): Promise<NatsServer> {
  const installed = installedNats()
  const problem = natsProblem(installed)
  if (!installed || problem !== undefined) {
    throw new RungError(
      'ENGINE_MISSING',
      `${problem}. This topology needs NATS ${natsLeast} or newer. Run: rung engines install nats`,
    )
  }
  const advice = 'name a NATS of yours by its URL'
  const launcher = findLauncher({ program: installed.path, name: 'NATS', advice })
  const settings: NatsSettings & { password: string } = {
    name: 'nats',
    storeBytesMax: 4 * 1024 ** 3,
    password: secret(),
    ...options,
    dir: path.resolve(options.dir),
  }
  const address = `127.0.0.1:${settings.listen.port}`
  const url = natsUrl(address, settings.password)
  const configFile = path.join(settings.dir, natsConfigFile)
  const process = await startServer({
    name: 'NATS',
    dir: settings.dir,
    program: installed.path,
    args: ['--config', configFile], // a file, because command lines are visible to all users, and it contains a password
    launcher,
    async prepare() {
      await writeFile(configFile, natsConfig(settings), { mode: 0o600 })
      if (launcher.uid !== undefined) await chown(configFile, launcher.uid, launcher.gid!)
    },
    isReady: () => natsAnswers(url, healthTimeoutMs),
    address: `port ${settings.listen.port}`,
  })
  return {
    ...process,
    url,
    version: installed.version,
    isHealthy: (withinMs = healthTimeoutMs) => natsAnswers(url, withinMs),
  }
}
