import { type LogFile, type LogLine, linesWith, logFiles, logReader } from '../fleet/logs.ts'
import { sleep } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Command, numberOption, result, settingOptions } from './command.ts'
import { dataDirOfInput } from './input-settings.ts'

const followEveryMs = 200
const tailBytesMax = 1024 ** 2

const logs: Command = {
  name: 'logs',
  summary: 'show the logs of the parts of "rung up"',
  usage: 'rung logs [name …] [options]',
  help: [
    'Shows the last lines of each part, or of those named: web is all of web-1, web-2 …',
    'Parts that the running fleet no longer has are shown with --all, or by their name.',
    'With -f it continues until Ctrl-C; with -f and --json each line is a document of its',
    'own.',
    '',
    '--trace finds what all parts have logged for one request, and for the jobs and events',
    'that came of it, in the order of time. "rung errors" and the header "traceparent" of an',
    'answer have the id of a trace.',
  ].join('\n'),
  examples: [
    'rung logs',
    'rung logs web -f',
    'rung logs --all',
    'rung logs postgres --lines 200',
    'rung logs --trace 4bf92f3577b34da6a3ce929d0e0e4736',
  ],
  options: {
    follow: { type: 'boolean', short: 'f', help: 'Continue with new lines as they are written.' },
    all: { type: 'boolean', help: 'Also parts that the running fleet no longer has.' },
    trace: { type: 'string', value: 'id', help: 'Only lines of this trace, of all the logs that there are.' },
    lines: { type: 'string', value: 'number', help: 'Lines of each part (20).' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { positionals, values, json, out } = input
    process.stdout.once('error', () => process.exit(0)) // `rung logs | head`
    const dataDir = dataDirOfInput(input)
    const trace = traceIdOf(values.trace as string | undefined)
    if (trace !== undefined && values.follow) {
      throw new RungError('COMMAND_INVALID', 'A trace cannot be followed: leave out --trace or --follow.')
    }
    const all = values.all === true || trace !== undefined
    const files = choose(await logFiles(dataDir), positionals, all, dataDir)
    const linesMax = numberOption(input, 'lines', { max: 999_999, otherwise: 20 })
    const width = Math.max(...files.map(({ name }) => name.length))
    const text = (line: LogLine) => `${line.part.padEnd(width)}  ${line.text}`
    if (trace !== undefined) {
      const lines = await linesOfTrace(trace, files)
      return result({ lines }, () => {
        if (lines.length === 0) out.line(`Nothing of trace ${trace} is in the logs.`)
        for (const line of lines) out.line(text(line))
      })
    }
    const readers = files.map(logReader)
    const lines = (await Promise.all(readers.map((reader) => reader.next(tailBytesMax)))).flatMap((all) =>
      all.slice(-linesMax),
    )
    if (!values.follow) {
      return result({ lines }, () => {
        for (const line of lines) out.line(text(line))
      })
    }
    const show = (all: readonly LogLine[]) => {
      for (const line of all) out.line(json ? JSON.stringify(line) : text(line))
    }
    show(lines)
    for (;;) {
      await sleep(followEveryMs)
      for (const reader of readers) show(await reader.next())
    }
  },
}
export default logs

/** Reads the id of a trace, or takes it from a `traceparent`. */
function traceIdOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const [, id] = /^(?:00-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?$/.exec(text) ?? []
  if (id !== undefined) return id
  throw new RungError('COMMAND_INVALID', `"${text}" is not the id of a trace, which has 32 hexadecimal digits.`)
}

/** Returns the lines of a trace in the order of their times. Lines without a time are the first. */
async function linesOfTrace(trace: string, files: readonly LogFile[]): Promise<LogLine[]> {
  const found: LogLine[] = []
  for (const file of files) for await (const line of linesWith(trace, file)) found.push(line)
  const timeOf = ({ text }: LogLine) => /"time":"([^"]+)"/.exec(text)?.[1] ?? ''
  return found.sort((a, b) => (timeOf(a) < timeOf(b) ? -1 : 1))
}

function choose(files: LogFile[], names: readonly string[], all: boolean, dataDir: string): LogFile[] {
  const shown = files.filter(({ isOld }) => all || !isOld)
  const isOf = (name: string) => (file: LogFile) => file.name === name || file.name.startsWith(`${name}-`)
  const named = (name: string) => {
    const found = shown.filter(isOf(name))
    return found.length > 0 ? found : files.filter((file) => file.name === name)
  }
  const unknown = names.find((name) => named(name).length === 0)
  if (unknown !== undefined) {
    const existing = shown.map(({ name }) => name).join(', ') || 'none'
    throw new RungError('COMMAND_INVALID', `There is no log of "${unknown}" in ${dataDir}; there are: ${existing}.`)
  }
  return names.length === 0 ? shown : [...new Set(names.flatMap(named))]
}
