import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { type LoadedSettings, loadSettings } from '../runtime/load-settings.ts'
import { type ToolBindings, toolBindingsOf } from '../topology/bindings.ts'
import { isRungName, rungNames } from '../topology/catalog.ts'
import { readSetting } from '../topology/read-settings.ts'
import { settings } from '../topology/settings.ts'
import type { Command, Input } from './command.ts'

/** `10k`, `app.ts`, or both. A word that looks like a rung is taken as one. */
export function rungAndApp(positionals: readonly string[]): { rung: string | undefined; app: string | undefined } {
  const [first, second, ...others] = positionals
  const isRung = first !== undefined && /^\d+[km]+$/i.test(first)
  if (isRung && !isRungName(first))
    throw new RungError('COMMAND_INVALID', `"${first}" is not a rung. Rungs are ${inWords(rungNames)}.`)
  if (others.length > 0 || (!isRung && second !== undefined))
    throw new RungError('COMMAND_INVALID', 'Give at most a rung and the app file: rung up 10k src/app.ts')
  return isRung ? { rung: first, app: second } : { rung: undefined, app: first }
}

const inWords = (names: readonly string[]) => `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`

/** The settings of a command: options win over the environment, and that over `rung.config.ts`. */
export function settingsOf(
  { env, values, cwd }: Pick<Input, 'env' | 'values' | 'cwd'>,
  { app, rung }: { app?: string | undefined; rung?: string | undefined } = {},
): Promise<LoadedSettings> {
  return loadSettings({ env, options: { ...values, rung }, app }, cwd)
}

/** Says which settings a start does not use, because its data directory is isolated. */
export function noteLeftOut({ leftOut }: LoadedSettings, { out }: Pick<Input, 'out'>): void {
  if (leftOut.length > 0) out.note(`Not used, because this data directory is isolated: ${leftOut.join(', ')}`)
}

/** The bindings of a command that needs only the data; the other engines of the rung may be missing. */
export async function toolBindings(input: Pick<Input, 'env' | 'values' | 'cwd'>, app?: string): Promise<ToolBindings> {
  return toolBindingsOf(await settingsOf(input, { app }), input.cwd)
}

/** The data directory alone, for commands that must work even while another setting is wrong. */
export function dataDirOfInput({ values, env, cwd }: Pick<Input, 'values' | 'env' | 'cwd'>): string {
  return path.resolve(cwd, readSetting(settings.process.dataDir, { env, options: values }))
}

/** The name of a part, as a command's only argument. @throws COMMAND_INVALID */
export function onePart(
  { examples }: Pick<Command, 'examples'>,
  { positionals: [name] }: Pick<Input, 'positionals'>,
): string {
  if (name !== undefined && /^[a-z][a-z0-9-]{0,40}$/.test(name)) return name
  throw new RungError('COMMAND_INVALID', `Name a part, for example: ${examples[0]}. See: rung ps`)
}
