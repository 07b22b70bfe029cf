import { chown, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { atMost } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { connectOnce } from '../postgres/client.ts'
import { findLauncher } from '../process/launcher.ts'
import { findProgram, isAtLeast } from '../process/program.ts'
import { type ServerProcess, startServer } from '../process/server-process.ts'
import {
  type PgbouncerSettings,
  pgbouncerConfig,
  pgbouncerLeast,
  pgbouncerVersion,
  pgbouncerVersionFlag,
  poolerUrl,
} from './recipe.ts'

export interface InstalledPgbouncer {
  path: string
  version: string
}

export function installedPgbouncer(): InstalledPgbouncer | undefined {
  const program = findProgram(['pgbouncer'], pgbouncerVersionFlag)
  const version = program && pgbouncerVersion(program.versionText)
  return version === undefined ? undefined : { path: program!.path, version }
}

/** Returns why the installed program cannot be used, or `undefined` if it can. */
export function pgbouncerProblem(installed: InstalledPgbouncer | undefined): string | undefined {
  if (!installed) return 'PgBouncer is not installed'
  return isAtLeast(installed.version, pgbouncerLeast) ? undefined : `PgBouncer ${installed.version} is too old`
}

export interface PoolerServer extends ServerProcess {
  /** Without the name of a database. */
  readonly url: string
  readonly version: string
  isHealthy(withinMs?: number): Promise<boolean>
  /** Applies other settings without closing a connection. */
  reload(settings: PgbouncerSettings): Promise<void>
}

const healthTimeoutMs = 1_000

/**
 * Starts a PgBouncer that ends with this process, however that ends. Its servers need not run yet.
 * @throws ENGINE_MISSING, ENGINE_START_FAILED, DATA_DIR_IN_USE
 */
export async function startPgbouncer(options: PgbouncerSettings): Promise<PoolerServer> {
  const installed = installedPgbouncer()
  const problem = pgbouncerProblem(installed)
  if (!installed || problem !== undefined) {
    throw new RungError(
      'ENGINE_MISSING',
      `${problem}. This topology needs PgBouncer ${pgbouncerLeast} or newer. Run: rung engines install pgbouncer`,
    )
  }
  const launcher = findLauncher({
    program: installed.path,
    versionFlag: pgbouncerVersionFlag,
    name: 'PgBouncer',
    advice: 'leave the pooler out',
  })
  const dir = path.resolve(options.dir)
  const configFile = path.join(dir, 'pgbouncer.ini')
  const url = poolerUrl(dir)
  async function writeConfig(settings: PgbouncerSettings): Promise<void> {
    await writeFile(configFile, pgbouncerConfig({ ...settings, dir }), { mode: 0o600 })
    if (launcher.uid !== undefined) await chown(configFile, launcher.uid, launcher.gid!)
  }
  const server = await startServer({
    name: 'PgBouncer',
    dir,
    program: installed.path,
    args: [configFile], // a file, because command lines are visible to all users, and it may contain passwords
    launcher,
    prepare: () => writeConfig(options),
    isReady: () => answers(dir, healthTimeoutMs),
    stopSignal: 'SIGINT', // finishes transactions in progress
    stopTimeoutMs: 3_000,
    address: dir,
  })
  return {
    ...server,
    url,
    version: installed.version,
    isHealthy: (withinMs = healthTimeoutMs) => answers(dir, withinMs),
    async reload(settings) {
      await writeConfig(settings)
      await reloaded(dir)
    },
  }
}

/** Asks its console, which needs no server behind it. */
async function answers(dir: string, withinMs: number): Promise<boolean> {
  let answered = false
  const asked = connectOnce({ url: poolerUrl(dir).replace('@/', '@/pgbouncer'), pooled: true }).then(
    async (client) => {
      answered = true
      await client.end()
    },
    () => {},
  )
  await atMost(withinMs, asked)
  return answered
}

/** Its console answers once the settings are in use; a signal would not say when. */
async function reloaded(dir: string): Promise<void> {
  const client = await connectOnce({ url: poolerUrl(dir).replace('@/', '@/pgbouncer'), pooled: true })
  await client.query('reload').finally(() => client.end())
}
