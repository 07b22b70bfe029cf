import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { isIsolated } from '../engines/postgres/data-dir.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { readSetting, readSettings, type Settings, type Sources } from '../topology/read-settings.ts'
import { noConfig, settings } from '../topology/settings.ts'
import { findApp } from './load-app.ts'

const configNames = ['rung.config.ts', 'rung.config.js', 'rung.config.mjs']

export interface LoadedSettings extends Settings {
  /** The file that was read; absolute. */
  readonly file: string | undefined
}

/**
 * The settings of every command and of scripts: `rung.config.ts` beside the app, otherwise in `cwd`; over it the environment,
 * and over both the options. For an isolated data directory those that lead outside are left out, except what the supervisor of its
 * fleet tells its processes.
 * @param app the file of the app, as given on the command line; found by the usual rule unless given
 * @throws CONFIG_INVALID; DATA_DIR_FOREIGN where nothing tells whether the directory is isolated; APP_NOT_FOUND where an app was named that is not there
 */
export async function loadSettings(
  { env: inherited, options, app }: Omit<Sources, 'file' | 'isolated'> & { app?: string | undefined },
  cwd: string,
): Promise<LoadedSettings> {
  // What a process of a fleet starts inherits its environment, and is not run by the supervisor.
  const inFleet = readSetting(settings.process.supervisor, { env: inherited }) === process.ppid
  const env = inFleet ? inherited : { ...inherited, [settings.process.supervisor.variable]: undefined }
  const given = { env, ...(options && { options }) }
  const isolated = !inFleet && (await isIsolated(path.resolve(cwd, readSetting(settings.process.dataDir, given))))
  const sources = { ...given, isolated }
  const file = configFile(env[settings.process.config.variable] || undefined, app, cwd)
  if (file === undefined) return { ...readSettings(sources), file }
  let exported: { default?: unknown }
  try {
    exported = await import(pathToFileURL(file).href)
  } catch (cause) {
    throw new RungError('CONFIG_INVALID', `${file} cannot be loaded: ${messageOf(cause)}`, { cause })
  }
  return { ...readSettings({ ...sources, file: exported.default ?? null }), file }
}

function configFile(named: string | undefined, app: string | undefined, cwd: string): string | undefined {
  if (named === noConfig) return undefined
  if (named !== undefined) {
    const file = path.resolve(cwd, named)
    if (existsSync(file)) return file
    throw new RungError('CONFIG_INVALID', `RUNG_CONFIG names ${file}, which does not exist. Correct it, or unset it.`)
  }
  const appFile = findApp(app, cwd)
  const folders = [...(appFile === undefined ? [] : [path.dirname(appFile)]), cwd]
  return folders.flatMap((folder) => configNames.map((name) => path.join(folder, name))).find((one) => existsSync(one))
}
