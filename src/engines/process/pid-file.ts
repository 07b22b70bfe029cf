import { readFileSync } from 'node:fs'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { askProgram } from './ask-program.ts'

/** A folder that belongs to a server and its owner, by a file in it. */
export interface Claim {
  /** Writes down who runs on it. */
  hold(pid: number): Promise<void>
  release(): Promise<void>
}

/** A process, so that another one which got its number later is not taken for it. */
export interface Known {
  pid: number
  born: string
}

interface Entry {
  owner: Known
  server?: Known
}

/** Who holds the folder, if anybody does. */
export async function ownerOf(dir: string): Promise<number | undefined> {
  const entry = await read(path.join(dir, 'server.pid'))
  return entry && lives(entry.owner) ? entry.owner.pid : undefined
}

const goneWithinMs = 5_000

/**
 * Takes the folder. A server on it whose owner is dead is ended first: the watchdog may just be at it, or was killed too.
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
        if (error.code === 'EEXIST') return false // somebody was faster: look again
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

/** Only that very entry: meanwhile somebody else may have removed it, and taken the folder. */
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

/** A server without data: SIGKILL, to its whole group. */
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

/** Whether that very process still runs. */
export function lives({ pid, born }: Known): boolean {
  return bornAt(pid) === born
}

/** When a process was started, in whatever form; nothing for one that is gone or only waits to be reaped. */
function bornAt(pid: number): string | undefined {
  if (process.platform === 'linux') {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      return fields[0] === 'Z' ? undefined : fields[19] // the 22nd of all, in ticks since the boot
    } catch {
      return undefined
    }
  }
  return askProgram('ps', ['-o', 'lstart=', '-p', String(pid)]).stdout.trim() || undefined
}
