import { readFileSync } from 'node:fs'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { askProgram } from './ask-program.ts'

/** A folder that a file in it reserves for a server and its owner. */
export interface Claim {
  /** Records the server's process. */
  hold(pid: number): Promise<void>
  release(): Promise<void>
}

/** A process, told apart from others that get the same id later. */
export interface Known {
  pid: number
  born: string
}

interface Entry {
  owner: Known
  server?: Known
}

/** Returns the process that holds the folder. */
export async function ownerOf(dir: string): Promise<number | undefined> {
  const entry = await read(path.join(dir, 'server.pid'))
  return entry && lives(entry.owner) ? entry.owner.pid : undefined
}

/** Returns the server of a folder, from the moment of its start on. */
export async function serverIn(dir: string): Promise<Known | undefined> {
  const server = (await read(path.join(dir, 'server.pid')))?.server
  return server && lives(server) ? server : undefined
}

const goneWithinMs = 5_000

/**
 * Claims a folder. A server on it whose owner has died is ended first.
 * @throws DATA_DIR_IN_USE while the owner lives
 */
export async function claim(dir: string, name: string): Promise<Claim> {
  const file = path.join(dir, 'server.pid')
  const draft = `${file}.${process.pid}`
  const owner = identify(process.pid)
  const write = (entry: Entry) => writeFile(draft, JSON.stringify(entry), { mode: 0o600 })
  for (;;) {
    const entry = await read(file)
    if (entry && lives(entry.owner)) throw inUse(dir, name, entry.owner.pid)
    if (entry?.server) await end(entry.server)
    await removeStale(file, entry)
    await write({ owner })
    const taken = await link(draft, file).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'EEXIST') return false // another process was faster
        throw error
      },
    )
    await rm(draft, { force: true })
    if (taken) break
  }
  let last = Promise.resolve()
  let released = false
  return {
    hold(pid) {
      last = last.then(async () => {
        if (released) return
        await write({ owner, server: identify(pid) })
        await rename(draft, file)
      })
      return last
    },
    release() {
      if (!released) last = last.catch(() => {}).then(() => rm(file, { force: true }))
      released = true
      return last
    },
  }
}

/** Removes only this entry: another process may have removed it already, and claimed the folder. */
async function removeStale(file: string, stale: Entry | undefined): Promise<void> {
  const aside = `${file}.stale-${process.pid}`
  try {
    await rename(file, aside)
  } catch {
    return
  }
  const taken = await read(aside)
  if (taken && JSON.stringify(taken) !== JSON.stringify(stale)) await link(aside, file).catch(() => {})
  await rm(aside, { force: true })
}

function inUse(dir: string, name: string, pid: number): RungError {
  return new RungError(
    'DATA_DIR_IN_USE',
    `Process ${pid} runs ${name} on ${dir}. Stop it first, or choose another folder for this one.`,
  )
}

async function read(file: string): Promise<Entry | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Entry
  } catch {
    return undefined
  }
}

/** Kills the server's process group; it keeps no data. */
async function end(server: Known): Promise<void> {
  const giveUpAt = systemClock.ticks() + goneWithinMs
  while (lives(server) && systemClock.ticks() < giveUpAt) {
    try {
      process.kill(-server.pid, 'SIGKILL')
    } catch {
      return
    }
    await sleep(10)
  }
}

export function identify(pid: number): Known {
  return { pid, born: bornAt(pid) ?? '' }
}

/** Whether this process still runs. */
export function lives({ pid, born }: Known): boolean {
  return bornAt(pid) === born
}

/** Returns when a process was started, in any form; undefined if it has ended or is a zombie. */
function bornAt(pid: number): string | undefined {
  if (process.platform !== 'linux') {
    return askProgram('ps', ['-o', 'lstart=', '-p', String(pid)]).stdout.trim() || undefined
  }
  const [state, ...fields] = statOf(pid)
  return state === 'Z' ? undefined : fields[18] // the 22nd field of all: start time in ticks since boot
}

/** Whether a process is stopped, as SIGSTOP does it. */
export function isStopped(pid: number): boolean {
  if (process.platform === 'linux') return statOf(pid)[0] === 'T'
  return askProgram('ps', ['-o', 'state=', '-p', String(pid)])
    .stdout.trim()
    .startsWith('T')
}

/** Returns the fields of /proc/<pid>/stat from the third one on: the state of the process, its parent … */
function statOf(pid: number): string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}
