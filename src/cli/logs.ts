import { existsSync } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import path from 'node:path'
import { fleetDir } from '../fleet/placement.ts'
import { runningFleet } from '../fleet/state.ts'
import { sleep } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Command, settingOptions } from './command.ts'
import { dataDirOf, textOf } from './input-settings.ts'

const followEveryMs = 200
const tailBytesMax = 1024 ** 2

const logs: Command = {
  name: 'logs',
  summary: 'what the parts of "rung up" wrote',
  usage: 'rung logs [name …] [options]',
  help: [
    'Shows the last lines of each part, or of those named: web is all of web-1, web-2 …',
    'Parts that have ended are included. With -f it goes on until Ctrl-C; with -f and',
    '--json each line is a document of its own.',
  ].join('\n'),
  examples: ['rung logs', 'rung logs web -f', 'rung logs postgres --lines 200'],
  options: {
    follow: { type: 'boolean', short: 'f', help: 'Go on showing new lines.' },
    lines: { type: 'string', value: 'number', help: 'Lines of each part (20).' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { positionals, values, json, out } = input
    process.stdout.once('error', () => process.exit(0)) // `rung logs | head` has read enough
    const dataDir = dataDirOf(input)
    const files = choose(await logFiles(dataDir), positionals, dataDir)
    const follow = values.follow === true
    const width = Math.max(...files.map(({ name }) => name.length))
    const all: Line[] = []
    const show = (line: Line) => {
      if (json && follow) out.line(JSON.stringify(line))
      else if (json) all.push(line)
      else out.line(`${line.part.padEnd(width)}  ${line.text}`)
    }
    const readers = files.map((file) => reader(file))
    const lines = countOf(textOf(values.lines))
    for (const one of readers) for (const line of (await one.next(tailBytesMax)).slice(-lines)) show(line)
    if (json && !follow) out.json({ lines: all })
    while (follow) {
      await sleep(followEveryMs)
      for (const one of readers) for (const line of await one.next()) show(line)
    }
    return 0
  },
}
export default logs

interface Line {
  part: string
  text: string
}

interface LogFile {
  name: string
  file: string
}

/** The logs of parts that run now, and of those whose folders still exist. */
async function logFiles(dataDir: string): Promise<LogFile[]> {
  const running = (await runningFleet(dataDir))?.parts.map(({ name, log }) => ({ name, file: log })) ?? []
  const folders = await readdir(fleetDir(dataDir), { withFileTypes: true }).catch(() => [])
  const ended = folders
    .filter((entry) => entry.isDirectory() && !running.some(({ name }) => name === entry.name))
    .map(({ name }) => ({ name, file: path.join(fleetDir(dataDir), name, 'server.log') }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
  const postgres = { name: 'postgres', file: path.join(dataDir, 'postgres.log') }
  const more = running.some(({ name }) => name === 'postgres') ? [] : [postgres]
  return [...running, ...ended, ...more].filter(({ file }) => existsSync(file))
}

function choose(files: LogFile[], names: readonly string[], dataDir: string): LogFile[] {
  const wanted = (name: string) => files.filter((file) => file.name === name || file.name.startsWith(`${name}-`))
  const unknown = names.find((name) => wanted(name).length === 0)
  const have = files.map(({ name }) => name).join(', ')
  if (unknown !== undefined)
    throw new RungError(
      'CONFIG_INVALID',
      `There is no log of "${unknown}" in ${dataDir}; there are: ${have || 'none'}.`,
    )
  return names.length === 0 ? files : [...new Set(names.flatMap(wanted))]
}

function countOf(text = '20'): number {
  if (!/^[1-9]\d{0,5}$/.test(text))
    throw new RungError('CONFIG_INVALID', `--lines is "${text}"; it must be a whole number from 1 to 999999.`)
  return Number(text)
}

/** Returns whole lines since the last call; a file that has become shorter is read from its beginning. */
function reader({ name, file }: LogFile) {
  let at = 0
  let rest = ''
  return {
    async next(most = Number.POSITIVE_INFINITY): Promise<Line[]> {
      const handle = await open(file).catch(() => undefined)
      if (!handle) return []
      try {
        const { size } = await handle.stat()
        if (size < at) [at, rest] = [0, '']
        at = Math.max(at, size - most)
        const bytes = Buffer.alloc(size - at)
        const { bytesRead } = await handle.read(bytes, 0, bytes.length, at)
        at += bytesRead
        const lines = (rest + bytes.subarray(0, bytesRead).toString()).split('\n')
        rest = lines.pop()!
        return lines.map((text) => ({ part: name, text }))
      } finally {
        await handle.close()
      }
    },
  }
}
