import { type ParseArgsConfig, parseArgs } from 'node:util'
import { RungError } from '../kernel/errors.ts'

/** One command of the CLI: a file each. */
export interface Command {
  name: string
  /** Half a sentence for the list of commands. */
  summary: string
  /** `rung start [app-file]` */
  usage: string
  /** What it does, for `--help`; plain text, 80 columns. */
  help: string
  examples: readonly string[]
  /** How many words may follow the command; checked by the command itself where it is not given. */
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
  /** Shown for a value: `--port <number>`. */
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

/** Where a command writes; tests give another one. */
export interface Output {
  /** For the one who reads: a line. */
  line(text?: string): void
  /** For programs: one JSON document. */
  json(value: unknown): void
  /** Progress and complaints; never mixed into the result. */
  note(text: string): void
}

/** Of the commands that run an app. */
export const logOption: Option = {
  type: 'string',
  value: 'format',
  help: 'Log lines: pretty (for people; default on a terminal) or json.',
}

const common: Options = {
  help: { type: 'boolean', help: 'This text.' },
  json: { type: 'boolean', help: 'The result as one JSON document.' },
}

/** Options stand for variables of the environment. */
export function withOptions(env: Input['env'], { port, role, log }: Input['values']): Input['env'] {
  return {
    ...env,
    ...(typeof port === 'string' && { PORT: port }),
    ...(typeof role === 'string' && { RUNG_ROLE: role }),
    ...(typeof log === 'string' && { RUNG_LOG: log }),
  }
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
  return [
    `${command.usage}`,
    '',
    command.help,
    '',
    'Options:',
    ...rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`),
    '',
    command.examples.length === 1 ? 'Example:' : 'Examples:',
    ...command.examples.map((example) => `  ${example}`),
  ].join('\n')
}
