import { type LogFile, type LogLine, logFiles, logReader } from '../fleet/logs.ts'
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
  ].join('\n'),
  examples: ['rung logs', 'rung logs web -f', 'rung logs --all', 'rung logs postgres --lines 200'],
  options: {
    follow: { type: 'boolean', short: 'f', help: 'Continue with new lines as they are written.' },
    all: { type: 'boolean', help: 'Also parts that the running fleet no longer has.' },
    lines: { type: 'string', value: 'number', help: 'Lines of each part (20).' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { positionals, values, json, out } = input
    process.stdout.once('error', () => process.exit(0)) // `rung logs | head`
    const dataDir = dataDirOfInput(input)
    const files = choose(await logFiles(dataDir), positionals, values.all === true, dataDir)
    const linesMax = numberOption(input, 'lines', { max: 999_999, otherwise: 20 })
    const width = Math.max(...files.map(({ name }) => name.length))
    const text = (line: LogLine) => `${line.part.padEnd(width)}  ${line.text}`
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
