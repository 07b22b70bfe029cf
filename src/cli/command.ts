import { type ParseArgsConfig, parseArgs } from 'node:util'
import { RungError } from '../kernel/errors.ts'
import { rungs } from '../topology/catalog.ts'
import { allSettings } from '../topology/read-settings.ts'
import type { Setting } from '../topology/settings.ts'

/** A command of the command line; each has a file of its own. */
export interface Command {
  name: string
  /** A phrase for the list of commands. */
  summary: string
  /** `rung start [app-file]` */
  usage: string
  /** What it does, for `--help`; plain text, 80 columns. */
  help: string
  /** Which settings it reads: groups or single paths of their table. `--help` lists them. */
  settings?: readonly string[]
  examples: readonly string[]
  /** How many words may follow the command; without it the command itself checks them. */
  wordsMax?: number
  options: Options
  /** Returns the exit code. */
  run(input: Input): Promise<number>
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

/** Where a command writes. */
export interface Output {
  /** A line for people. */
  line(text?: string): void
  /** One JSON document for programs. */
  json(value: unknown): void
  /** Progress and complaints; never mixed into the result. */
  note(text: string): void
}

/** Options that are settings, from their table. */
export function settingOptions(...paths: readonly string[]): Options {
  return Object.fromEntries(
    paths.map((path) => {
      const { option, type, help, variable } = allSettings.get(path)!
      return [option, { type: 'string', value: type.placeholder, help: `${help} Instead of ${variable}.` }]
    }),
  )
}

const common: Options = {
  help: { type: 'boolean', help: 'Show this text.' },
  json: { type: 'boolean', help: 'Print the result as one JSON document.' },
}

/** @throws CONFIG_INVALID */
export function parseInput(command: Command, args: readonly string[]) {
  const options: NonNullable<ParseArgsConfig['options']> = {}
  for (const [name, { type, short }] of Object.entries({ ...command.options, ...common }))
    options[name] = { type, ...(short !== undefined && { short }) }
  try {
    const parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true })
    const more = parsed.positionals[command.wordsMax ?? Number.POSITIVE_INFINITY]
    if (more !== undefined) throw new Error(`Unexpected argument "${more}"`)
    return parsed
  } catch (cause) {
    const [first] = (cause as Error).message.split('. ')
    throw new RungError('CONFIG_INVALID', `${first}. See: rung ${command.name} --help`, { cause })
  }
}

export function helpText(command: Command): string {
  const rows = Object.entries({ ...command.options, ...common }).map(
    ([name, option]) =>
      [
        `${option.short ? `-${option.short}, ` : ''}--${name}${option.value ? ` <${option.value}>` : ''}`,
        option.help,
      ] as const,
  )
  const width = Math.max(...rows.map(([left]) => left.length))
  const settings = settingLines(command.settings ?? [])
  return [
    `${command.usage}`,
    '',
    command.help,
    '',
    'Options:',
    ...rows.flatMap(([left, right]) => hanging(`  ${left.padEnd(width)}  `, right)),
    ...(settings.length > 0 ? ['', 'Settings, by their variable and their name in rung.config.ts:', ...settings] : []),
    '',
    command.examples.length === 1 ? 'Example:' : 'Examples:',
    ...command.examples.map((example) => `  ${example}`),
  ].join('\n')
}

/** Each on two lines: its names, then what it is. */
function settingLines(wanted: readonly string[]): string[] {
  const isWanted = (path: string) => wanted.some((one) => path === one || path.startsWith(`${one}.`))
  return [...allSettings]
    .filter(([path]) => isWanted(path))
    .flatMap(([path, row]) => [
      `  ${row.variable}${row.inFile ? `, ${path}` : ''}${usual(row)}`,
      ...hanging('      ', row.help),
    ])
}

/** The default, where there is one: ` (3000)`. */
function usual({ type, ...row }: Setting): string {
  const value = row.default({ preset: rungs['1k'], mode: 'production' })
  const text = value === undefined ? '' : type.format(value as never)
  return text === '' ? '' : ` (${text})`
}

/** Text in 80 columns; its further lines begin below its first. */
function hanging(head: string, text: string): string[] {
  const lines = [head]
  for (const word of text.split(' ')) {
    if (lines.at(-1)!.length + word.length > 80) lines.push(' '.repeat(head.length))
    lines[lines.length - 1] += `${word} `
  }
  return lines.map((line) => line.trimEnd())
}
