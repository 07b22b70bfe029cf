import { createReadStream, existsSync } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fleetDir } from './placement.ts'
import { runningFleet } from './state.ts'

export interface LogFile {
  /** The part that writes it. */
  name: string
  file: string
  /** Whether the running fleet has no such part any more. */
  isOld: boolean
}

export interface LogLine {
  part: string
  text: string
}

/** Returns the logs of the parts that run now, and of ended ones whose folders still exist. */
export async function logFiles(dataDir: string): Promise<LogFile[]> {
  const running = (await runningFleet(dataDir))?.parts.map(({ name, log }) => ({ name, file: log, isOld: false })) ?? []
  const isOld = running.length > 0 // else it is not known which parts it has
  const folders = await readdir(fleetDir(dataDir), { withFileTypes: true }).catch(() => [])
  const ended = folders
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => ({ name, file: path.join(fleetDir(dataDir), name, 'server.log'), isOld }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
  const postgres = { name: 'postgres', file: path.join(dataDir, 'postgres.log'), isOld }
  const others = [...ended, postgres].filter(({ name }) => !running.some((part) => part.name === name))
  return [...running, ...others].filter(({ file }) => existsSync(file))
}

/** Yields the lines of a log that contain a text, without keeping the log in memory. */
export async function* linesWith(
  text: string,
  { name, file }: Pick<LogFile, 'name' | 'file'>,
): AsyncGenerator<LogLine> {
  for await (const line of createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line.includes(text)) yield { part: name, text: line }
  }
}

/** Reads a log bit by bit. */
export interface LogReader {
  /** Returns the whole lines that were written since the last call, of at most the last `bytesMax`. */
  next(bytesMax?: number): Promise<LogLine[]>
}

/** A file that has become shorter is read from its beginning again. */
export function logReader({ name, file }: Pick<LogFile, 'name' | 'file'>): LogReader {
  let at = 0
  let rest = ''
  return {
    async next(bytesMax = Number.POSITIVE_INFINITY) {
      const handle = await open(file).catch(() => undefined)
      if (!handle) return []
      try {
        const { size } = await handle.stat()
        if (size < at) [at, rest] = [0, '']
        at = Math.max(at, size - bytesMax)
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
