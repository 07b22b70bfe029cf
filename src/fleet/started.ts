import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { identify, type Known, lives } from '../engines/process/pid-file.ts'
import { systemClock } from '../kernel/clock.ts'

/** A process of `rung start` on a data directory. (Processes of `rung up` are parts of its fleet.) */
export interface Started {
  process: Known
  /** `both`, `web` or `worker`. */
  role: string
  app: string
  /** `NODE_ENV`; a process of an older version did not tell it. */
  mode?: string
  state: 'starting' | 'running'
  /** When the process began to start, before it read its keys, ms since the epoch. */
  startedAt: number
  /** When this state began, ms since the epoch. */
  since: number
  /** Where it answers; empty until it does. */
  url: string
  /** Within this time it ends after a signal, in ms; 0 until it is known. */
  stopTimeoutMs: number
}

const folderOf = (dataDir: string) => path.join(dataDir, 'started')

/** Records that this process starts, for `rung ps` and `rung stop`. The data directory must exist. */
export async function noteStart(dataDir: string, { role, app, mode }: Pick<Started, 'role' | 'app' | 'mode'>) {
  const folder = folderOf(dataDir)
  const file = path.join(folder, `${process.pid}.json`)
  const startedAt = systemClock.now()
  async function write(state: Started['state'], url: string, stopTimeoutMs: number): Promise<void> {
    const since = systemClock.now()
    const known = { process: identify(process.pid), role, app, startedAt, ...(mode !== undefined && { mode }) }
    const started: Started = { ...known, state, since, url, stopTimeoutMs }
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await writeFile(`${file}.new`, JSON.stringify(started), { mode: 0o600 })
    await rename(`${file}.new`, file)
  }
  await write('starting', '', 0).catch(() => {}) // a full disk must not keep an app from starting
  return {
    running: ({ url, stopTimeoutMs }: Pick<Started, 'url' | 'stopTimeoutMs'>) =>
      write('running', url, stopTimeoutMs).catch(() => {}),
    ended: () => rm(file, { force: true }),
  }
}

/** Returns the processes that run now, the oldest first. Records of killed ones are removed. */
export async function startedOn(dataDir: string): Promise<Started[]> {
  const folder = folderOf(dataDir)
  const found: Started[] = []
  for (const name of await readdir(folder).catch(() => [])) {
    const started = parse(await readFile(path.join(folder, name), 'utf8').catch(() => ''))
    if (started && lives(started.process)) found.push(started)
    else if (name.endsWith('.json')) await rm(path.join(folder, name), { force: true }).catch(() => {})
  }
  return found.sort((a, b) => a.since - b.since)
}

function parse(text: string): Started | undefined {
  try {
    return JSON.parse(text) as Started
  } catch {
    return undefined
  }
}
