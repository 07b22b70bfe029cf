import { type ParseArgsConfig, parseArgs } from 'node:util'
import { RungError } from '../kernel/errors.ts'
import { type Duration, toMs } from '../kernel/units.ts'
import { rungs } from '../topology/catalog.ts'
import { allSettings, pathsOf } from '../topology/read-settings.ts'
import type { Setting, SettingName } from '../topology/settings.ts'

/** One command of the command line. Each has a file of its own. */
export interface Command {
  name: string
  /** A phrase for the list of commands. */
  summary: string
  /** `rung start [app-file]` */
  usage: string
  /** What the command does. Paragraphs are filled to 80 columns; lists and code keep their lines. */
  help: string
  /** The settings that it reads: groups or single paths of the settings table. */
  settings?: readonly SettingName[]
  examples: readonly string[]
  /** How many positional arguments are allowed. Without it the command checks them itself. */
  wordsMax?: number
  options: Options
  /** Returns what the command found or did, or the exit code of a command that ran until it was stopped. */
  run(input: Input): Promise<Result | number>
}

export type Options = Readonly<Record<string, Option>>

export interface Option {
  type: 'string' | 'boolean'
  /** One letter: `-f`. */
  short?: string
  help: string
  /** Placeholder of the value: `--port <number>`. */
  value?: string
}

export interface Input {
  positionals: readonly string[]
  values: Readonly<Record<string, string | boolean | undefined>>
  json: boolean
  env: Readonly<Record<string, string | undefined>>
  cwd: string
  out: Output
}

export interface Output {
  /** A line for people. */
  line(text?: string): void
  /** One JSON document for programs. */
  json(value: unknown): void
  /** Progress and complaints; never mixed into the result. */
  note(text: string): void
}

/** A read model and its printer. */
export interface Result {
  /** Plain data: `--json` prints it as it is. */
  view: unknown
  print(): void
  exitCode: number
}

/** Pairs what a command found with the function that prints it for people. */
export function result<View>(view: View, print: (view: View) => void, exitCode = 0): Result {
  return { view, print: () => print(view), exitCode }
}

/** Prints a result in the form that was asked for. @returns the exit code */
export function present({ view, print, exitCode }: Result, { json, out }: Pick<Input, 'json' | 'out'>): number {
  if (json) out.json(view)
  else print()
  return exitCode
}

/** Options that are settings, taken from the settings table. */
export function settingOptions(...paths: readonly string[]): Options {
  return Object.fromEntries(
    paths.map((path) => {
      const { option, type, help, variable } = allSettings.get(path)!
      return [option, { type: 'string', value: type.placeholder, help: `${help} Instead of ${variable}.` }]
    }),
  )
}

/** The settings of every command that works on the app's database. */
export const databaseSettings = ['data', 'process.dataDir', 'process.config'] as const

const common: Options = {
  help: { type: 'boolean', help: 'Show this text.' },
  json: { type: 'boolean', help: 'Print the result as one JSON document.' },
}

/** @throws COMMAND_INVALID */
export function parseInput(command: Command, args: readonly string[]) {
  const options: NonNullable<ParseArgsConfig['options']> = {}
  for (const [name, { type, short }] of Object.entries({ ...command.options, ...common }))
    options[name] = { type, ...(short !== undefined && { short }) }
  try {
    const parsed = parseArgs({ args: [...args], options, allowPositionals: true })
    const unexpected = parsed.positionals[command.wordsMax ?? Number.POSITIVE_INFINITY]
    if (unexpected !== undefined) throw new Error(`Unexpected argument "${unexpected}"`)
    return parsed
  } catch (cause) {
    const [first] = (cause as Error).message.split('. ')
    throw new RungError('COMMAND_INVALID', `${first}. See: rung ${command.name} --help`, { cause })
  }
}

/**
 * Reads an option that must be a whole number.
 * @throws COMMAND_INVALID
 */
export function numberOption(
  { values }: Pick<Input, 'values'>,
  name: string,
  { max, otherwise }: { max: number; otherwise: number },
): number {
  const value = values[name] === undefined ? otherwise : Number(values[name])
  if (Number.isInteger(value) && value >= 1 && value <= max) return value
  throw new RungError('COMMAND_INVALID', `--${name} must be a whole number from 1 to ${max}; it is "${values[name]}".`)
}

/**
 * Reads an option that is a time, in ms.
 * @throws COMMAND_INVALID
 */
export function timeOption({ values }: Pick<Input, 'values'>, name: string, otherwiseMs: number): number {
  const text = values[name]
  if (text === undefined) return otherwiseMs
  const ms = /^\d+(\.\d+)?(ms|s|m)$/.test(String(text)) ? toMs(text as Duration) : 0
  if (ms > 0) return ms
  throw new RungError('COMMAND_INVALID', `--${name} must be a time such as 200ms or 30s; it is "${text}".`)
}

/**
 * Reads an option that is a percentage, as a share.
 * @throws COMMAND_INVALID
 */
export function percentOption({ values }: Pick<Input, 'values'>, name: string, otherwise: string): number {
  const share = /^(\d+(?:\.\d+)?)%$/.exec(String(values[name] ?? otherwise))
  if (share) return Number(share[1]) / 100
  throw new RungError('COMMAND_INVALID', `--${name} must be a percentage such as 1%; it is "${values[name]}".`)
}

/** @throws COMMAND_INVALID: the command has no such verb */
export function unknownVerb({ name }: Command, verb: string): never {
  throw new RungError('COMMAND_INVALID', `There is no "${verb}" here. See: rung ${name} --help`)
}

export function helpText(command: Command): string {
  const rows = Object.entries({ ...command.options, ...common }).map(([name, { short, value, help }]) => {
    const left = `${short ? `-${short}, ` : ''}--${name}${value ? ` <${value}>` : ''}`
    return [left, help] as const
  })
  const width = Math.max(...rows.map(([left]) => left.length))
  const settings = settingLines(command.settings ?? [])
  return [
    ...usageLines(command.usage),
    '',
    ...command.help.split('\n\n').flatMap((block, index) => [...(index > 0 ? [''] : []), ...blockLines(block)]),
    '',
    'Options:',
    ...rows.flatMap(([left, right]) => hanging(`  ${left.padEnd(width)}  `, right)),
    ...(settings.length > 0 ? ['', 'Settings, by environment variable and name in rung.config.ts:', ...settings] : []),
    '',
    command.examples.length === 1 ? 'Example:' : 'Examples:',
    ...command.examples.map((example) => `  ${example}`),
  ].join('\n')
}

/** A long list of verbs takes a line of its own for each. */
function usageLines(usage: string): string[] {
  return usage.length <= 80 ? [usage] : usage.split(' | ').map((part, index) => (index === 0 ? part : `    | ${part}`))
}

function blockLines(block: string): string[] {
  const lines = block.split('\n')
  const isList = lines.some((line) => /^\s|^\S+ {2,}/.test(line))
  return isList ? lines : hanging('', lines.join(' '))
}

/** Two lines for each setting: its names, then what it is. */
function settingLines(wanted: readonly SettingName[]): string[] {
  return [...pathsOf(wanted)].flatMap((path) => {
    const row = allSettings.get(path)!
    return [`  ${row.variable}${row.inFile ? `, ${path}` : ''}${defaultText(row)}`, ...hanging('      ', row.help)]
  })
}

/** ` (3000)`, or nothing where the setting has no default. */
function defaultText({ type, ...row }: Setting): string {
  const value = row.default({ preset: rungs['1k'], mode: 'production' })
  const text = value === undefined ? '' : type.format(value as never)
  return text === '' ? '' : ` (${text})`
}

/** Breaks text at 80 columns; further lines are indented as far as the head is long. */
export function hanging(head: string, text: string): string[] {
  const lines = [head]
  for (const word of text.split(' ')) {
    if (lines.at(-1)!.length + word.length > 80 && lines.at(-1) !== head) lines.push(' '.repeat(head.length))
    lines[lines.length - 1] += `${word} `
  }
  return lines.map((line) => line.trimEnd())
}
