import { existsSync } from 'node:fs'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { type LoadedSettings, loadSettings } from '../runtime/load-settings.ts'
import { type ToolBindings, toolBindingsOf } from '../topology/bindings.ts'
import { isRungName, rungNames } from '../topology/catalog.ts'
import { readSetting } from '../topology/read-settings.ts'
import { settings } from '../topology/settings.ts'
import type { Input } from './command.ts'

/** `10k`, `app.ts`, or both. A file may have any name, but a word that looks like a rung is one. */
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

/** The settings of this command: its options over the environment, and that over `rung.config.ts`. */
export function settingsOf(
  { env, values, cwd }: Pick<Input, 'env' | 'values' | 'cwd'>,
  { app, rung }: { app?: string | undefined; rung?: string | undefined } = {},
): Promise<LoadedSettings> {
  return loadSettings({ env, options: { ...values, rung }, app }, cwd)
}

/** For a command that works on the data alone: other engines of the rung need not be there. */
export async function toolBindings(input: Pick<Input, 'env' | 'values' | 'cwd'>, app?: string): Promise<ToolBindings> {
  return toolBindingsOf(await settingsOf(input, { app }), input.cwd)
}

/** For a command that looks at what runs: a setting that is wrong elsewhere must not keep it from that. */
export function dataDirOf({ values, env, cwd }: Pick<Input, 'values' | 'env' | 'cwd'>): string {
  return path.resolve(cwd, readSetting(settings.process.dataDir, { env, options: values }))
}

/** Refuses an embedded database that does not exist: starting its server would make one. */
export function existingData<B extends ToolBindings>(bindings: B, cwd: string): B {
  const { data, dataDir } = bindings
  if (data.engine === 'external' || existsSync(path.join(dataDir, 'postgres'))) return bindings
  const place = path.relative(cwd, dataDir) || '.'
  throw new RungError(
    'CONFIG_INVALID',
    `There is no database in ${place}. Start the app first, or set RUNG_DATA or DATABASE_URL.`,
  )
}

export function textOf(value: string | boolean | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}
