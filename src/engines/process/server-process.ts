import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, closeSync, mkdirSync, openSync, statSync } from 'node:fs'
import { readFile, rename } from 'node:fs/promises'
import path from 'node:path'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import type { Launcher } from './launcher.ts'
import { type Claim, claim } from './pid-file.ts'
import { startWatchdog } from './watchdog.ts'

/**
 * A server that belongs to this process: it lives in a folder of its own and ends with its owner.
 *
 *   claim the folder ──► spawn ──► ready ──► (exit by itself | stop: signal, then SIGKILL to the group) ──► folder free
 *
 * It leads a session of its own, so that Ctrl-C reaches the owner only, who stops it in order. Three things see to it that
 * nothing is left behind: `stop`; a watchdog, for when the owner is dead; and the pid file, by which the next start on the
 * folder ends what survived even both.
 */
export interface ServerProcess {
  readonly pid: number
  /** When it has ended, whichever way: a sentence. */
  readonly exited: Promise<string>
  isAlive(): boolean
  /** To the server itself, such as SIGHUP. */
  signal(name: NodeJS.Signals): void
  /** At once, to its whole group: for one that hangs. */
  kill(): void
  /** Repeating it is legal. Resolves when nothing of it runs any more. */
  stop(): Promise<void>
}

export interface ServerOptions {
  /** As people call it. */
  name: string
  /** Its own folder; made where it is not there. */
  dir: string
  program: string
  args: readonly string[]
  launcher: Launcher
  /** Once the folder is taken: writes its settings. */
  prepare?(): Promise<void>
  /** Asked every few milliseconds; true when this very process answers. */
  isReady(pid: number): Promise<boolean>
  /** Where it listens, for messages. */
  address: string
  startTimeoutMs?: number
  /** How long it has between the polite signal and the end, in ms; a function is asked at the stop. */
  stopTimeoutMs?: number | (() => number)
  /** Politely; SIGTERM unless given. */
  stopSignal?: NodeJS.Signals
  /** Where it runs; its own folder unless given. */
  cwd?: string
  /** This process' own unless given. */
  env?: Readonly<Record<string, string | undefined>>
  /** Aborted: it is not waited for any longer, and ended. */
  over?: AbortSignal
}

const readyEveryMs = 5
const logBytesMax = 10 * 1024 ** 2

/**
 * Starts it and returns when it answers.
 * @throws DATA_DIR_IN_USE when another process runs one on this folder, PORT_IN_USE, ENGINE_START_FAILED
 */
export async function startServer(options: ServerOptions): Promise<ServerProcess> {
  const { name, dir, launcher } = options
  makeDir(dir, launcher)
  const claimed = await claim(dir, name)
  try {
    await options.prepare?.()
    return await spawnServer(options, claimed)
  } catch (error) {
    await claimed.release()
    throw error
  }
}

/** Its owner alone may enter. */
export function makeDir(dir: string, { uid, gid }: Launcher): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  if (uid !== undefined) chownSync(dir, uid, gid!)
}

export function logFileOf(dir: string): string {
  return path.join(dir, 'server.log')
}

async function spawnServer(options: ServerOptions, claimed: Claim): Promise<ServerProcess> {
  const { name, dir, launcher, stopSignal = 'SIGTERM', stopTimeoutMs = 5_000 } = options
  const logFile = logFileOf(dir)
  const log = await openLog(logFile)
  const logStart = statSync(logFile).size
  const [command, ...args] = [...launcher.prefix, options.program, ...options.args]
  const identity = launcher.uid === undefined ? {} : { uid: launcher.uid, gid: launcher.gid! }
  const watchdog = startWatchdog({ signal: 'TERM', lastSignal: 'KILL', group: true, patienceMs: 2_000 })
  const child = spawn(command!, args, {
    ...identity,
    cwd: options.cwd ?? dir,
    ...(options.env && { env: options.env as NodeJS.ProcessEnv }),
    detached: true,
    stdio: ['ignore', log, log],
  })
  closeSync(log)
  if (child.pid !== undefined) watchdog.watch(child.pid)
  const exited = endOf(child).then(async (how) => {
    if (child.pid !== undefined) killGroup(child.pid) // workers whose master died
    watchdog.end()
    await claimed.release()
    return `${name} ended (${how})`
  })
  child.unref()

  let stopping: Promise<void> | undefined
  async function stop(signal: NodeJS.Signals): Promise<void> {
    if (!isRunning(child)) return void (await exited)
    child.ref()
    child.kill(signal)
    const patience = new AbortController()
    const patienceMs = typeof stopTimeoutMs === 'number' ? stopTimeoutMs : stopTimeoutMs()
    await Promise.race([exited, sleep(patienceMs, patience.signal).catch(() => {})])
    patience.abort()
    if (isRunning(child)) killGroup(child.pid!)
    await exited
  }

  if (child.pid !== undefined) await claimed.hold(child.pid)
  const late = await becomesReady(options, child)
  const failure = isRunning(child) ? late : await exited
  if (failure !== undefined) {
    await stop('SIGKILL')
    throw startError(options, failure, (await readFile(logFile)).subarray(logStart).toString())
  }
  return {
    pid: child.pid!,
    exited,
    isAlive: () => isRunning(child),
    signal: (signal) => void child.kill(signal),
    kill() {
      if (isRunning(child)) killGroup(child.pid!)
    },
    stop() {
      stopping ??= stop(stopSignal)
      return stopping
    },
  }
}

async function becomesReady(options: ServerOptions, child: ChildProcess): Promise<string | undefined> {
  const { over } = options
  const timeoutMs = options.startTimeoutMs ?? 10_000
  const giveUpAt = systemClock.ticks() + timeoutMs
  while (systemClock.ticks() < giveUpAt && isRunning(child)) {
    if (await options.isReady(child.pid!).catch(() => false)) return undefined
    if (over?.aborted) return `${options.name} was told to stop while it started`
    await sleep(readyEveryMs)
  }
  if (!isRunning(child)) return undefined // `exited` tells more
  return `${options.name} does not answer on ${options.address} after ${timeoutMs} ms`
}

function startError({ name, dir, address }: ServerOptions, failure: string, said: string): RungError {
  if (/address already in use/i.test(said)) {
    return new RungError(
      'PORT_IN_USE',
      `${name} cannot listen on ${address}: another process does. Stop it, or choose another port.`,
    )
  }
  const lines = said.trim().split('\n').filter(Boolean)
  const telling = lines.filter((line) => /\[emerg\]|\[alert\]|FATAL|Bad directive|>>>|\*\*\*|^# /.test(line))
  const last = (telling.length > 0 ? telling : lines).slice(-3).join(' ')
  return new RungError('ENGINE_START_FAILED', `${failure}: ${last || 'it said nothing.'} See ${logFileOf(dir)}.`)
}

function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('error', (error) => child.pid === undefined && resolve(messageOf(error)))
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
}

function isRunning(child: ChildProcess): boolean {
  return child.pid !== undefined && child.exitCode === null && child.signalCode === null
}

export function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // nobody of it is left
  }
}

/** It is appended to, and begins anew at a start when it has grown large. */
async function openLog(file: string): Promise<number> {
  const log = openSync(file, 'a', 0o600)
  if (statSync(file).size < logBytesMax) return log
  closeSync(log)
  await rename(file, `${file}.1`)
  return openSync(file, 'a', 0o600)
}
