import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'

/**
 * Wrong clocks on purpose, by libfaketime (https://github.com/wolfcw/libfaketime): each process reads from a file how wrong its clock is,
 * at most a second late. That of Postgres is in its data directory; by this name it does not go into backups and copies
 * (https://www.postgresql.org/docs/18/protocol-replication.html).
 */
const clockFile = 'pgsql_tmp.clock'
const libraries = '/usr/lib'

/** Returns the file of Debian's libfaketime, if it is installed. */
export function fakeClockLibrary(): string | undefined {
  if (process.platform !== 'linux') return undefined
  return readdirSync(libraries)
    .map((folder) => path.join(libraries, folder, 'faketime', 'libfaketime.so.1'))
    .find((file) => existsSync(file))
}

type Env = Readonly<Record<string, string | undefined>>

/**
 * What the environment of `rung up` must have so that its processes of the app and of Postgres can have wrong clocks. Others start without
 * the library: with it Redis hangs. Clocks that measure durations stay right.
 */
export const fakeClocks: Readonly<Record<string, string>> = {
  FAKETIME_TIMESTAMP_FILE: clockFile,
  FAKETIME_DONT_FAKE_MONOTONIC: '1',
  FAKETIME_CACHE_DURATION: '1',
}

/** Returns what a process gets besides `env`, so that its clock can be set wrong in `dir`. Nothing, unless `env` has `fakeClocks`. */
export function underFakeClock(env: Env, dir: string): Record<string, string> {
  const library = env.FAKETIME_TIMESTAMP_FILE === clockFile ? fakeClockLibrary() : undefined
  if (library === undefined) return {}
  return { LD_PRELOAD: library, FAKETIME_TIMESTAMP_FILE: path.join(dir, clockFile) }
}

/** Returns the environment of this process for a server that it starts. */
export function inheritedUnderFakeClock(dir: string): Env {
  return { ...process.env, ...underFakeClock(process.env, dir) }
}

/** Returns the file that says how wrong the clock of a process is, if its environment has `fakeClocks`. */
export function clockFileOf(pid: number): string | undefined {
  const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
  const file = variables.find((one) => one.startsWith('FAKETIME_TIMESTAMP_FILE='))?.replace(/^[^=]*=/, '')
  return file || undefined
}

const shared = '/dev/shm'

/** Removes what libfaketime leaves in shared memory of processes that were killed. */
export function removeLeftovers(): void {
  for (const name of existsSync(shared) ? readdirSync(shared) : []) {
    const pid = /^(?:sem\.)?faketime_\w+_(\d+)$/.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(path.join(shared, name), { force: true })
  }
}
