import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { type Config, readConfig } from '../runtime/config.ts'
import { findApp } from '../runtime/load-app.ts'
import { isRungName, rungNames } from '../topology/catalog.ts'
import { topologyOf } from '../topology/changes.ts'
import type { Topology } from '../topology/topology.ts'
import type { Input } from './command.ts'

const names = ['rung.config.ts', 'rung.config.js', 'rung.config.mjs']

/** `10k`, `app.ts`, or both. A file may have any name; what looks like a rung is one. */
export function rungAndApp(positionals: readonly string[]): { rung: string | undefined; app: string | undefined } {
  const [first, second, ...more] = positionals
  const isRung = first !== undefined && /^\d+[km]$/.test(first)
  if (isRung && !isRungName(first))
    throw new RungError('CONFIG_INVALID', `There is no rung "${first}"; there are ${rungNames.join(', ')}.`)
  const app = isRung ? second : first
  if (more.length > 0 || (!isRung && second !== undefined))
    throw new RungError('CONFIG_INVALID', 'Give a rung and the file of an app, no more: rung up 10k src/app.ts')
  return { rung: isRung ? first : undefined, app }
}

/** Without an app there is a topology too. */
export function appFolder(app: string | undefined, cwd: string): string[] {
  try {
    return [path.dirname(findApp(app, cwd))]
  } catch (error) {
    if (app === undefined && isRungError(error, 'APP_NOT_FOUND')) return []
    throw error
  }
}

/**
 * The rung with the changes of `rung.config.ts` beside the app, of the environment and of the command line.
 * @throws CONFIG_INVALID
 */
export async function wantedTopology(
  folders: readonly string[],
  env: Input['env'],
  options: Readonly<Record<string, string | undefined>>,
): Promise<{ topology: Topology; file: string | undefined }> {
  const file = folders.flatMap((folder) => names.map((name) => path.join(folder, name))).find((one) => existsSync(one))
  if (file === undefined) return { topology: topologyOf({ env, options }), file }
  let exported: { default?: unknown }
  try {
    exported = await import(pathToFileURL(file).href)
  } catch (cause) {
    throw new RungError('CONFIG_INVALID', `${file} cannot be loaded: ${messageOf(cause)}`, { cause })
  }
  return { topology: topologyOf({ file: exported.default ?? null, env, options }), file }
}

export function dataDirOf({ values, env, cwd }: Pick<Input, 'values' | 'env' | 'cwd'>): string {
  return path.resolve(cwd, (typeof values.data === 'string' && values.data) || env.RUNG_DATA || '.rung')
}

/** For a tool that works on the data alone: what else the rung needs need not be named. */
export function dataConfig(env: Input['env'], cwd: string): Config {
  return readConfig({ ...env, RUNG_TOPOLOGY: undefined }, cwd)
}

/** An embedded Postgres would be made by looking at it. */
export function existingData(config: Config, cwd: string): Config {
  const { topology, dataDir } = config
  if (topology.data.engine === 'external' || existsSync(path.join(dataDir, 'postgres'))) return config
  const place = path.relative(cwd, dataDir) || '.'
  throw new RungError(
    'CONFIG_INVALID',
    `There is no database in ${place}. Start the app first, or set RUNG_DATA or DATABASE_URL.`,
  )
}

export const dataOption = {
  type: 'string',
  value: 'folder',
  help: 'Data directory, instead of RUNG_DATA (.rung).',
} as const

export function textOf(value: string | boolean | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}

export const portOption = {
  type: 'string',
  value: 'number',
  help: 'Where clients come in, instead of PORT (3000); 0 is any.',
} as const
export const webOption = { type: 'string', value: 'number', help: 'Processes that answer requests.' } as const
export const workerOption = { type: 'string', value: 'number', help: 'Processes that run jobs.' } as const

/** What these three change, by its place in the topology. */
export function topologyOptions({ port, web, worker }: Input['values']): Readonly<Record<string, string | undefined>> {
  return { 'http.port': textOf(port), 'processes.web': textOf(web), 'processes.worker': textOf(worker) }
}
