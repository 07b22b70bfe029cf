import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, chownSync, closeSync, lstatSync, mkdirSync, openSync, statSync } from 'node:fs'
import { readFile, rename } from 'node:fs/promises'
import path from 'node:path'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { identityOf, type Launcher } from './launcher.ts'
import { type Claim, claim } from './pid-file.ts'
import { startWatchdog } from './watchdog.ts'

/**
 * A server that belongs to this process: it has a folder of its own and ends with its owner.
 *
 *   claim the folder ──► spawn ──► ready ──► (exit by itself | stop: signal, then SIGKILL to the group) ──► folder free
 *
 * It leads its own session, so that Ctrl-C reaches only the owner, which stops it in order. Nothing is left behind: `stop` ends
 * it; a watchdog ends it when the owner has died; and with the pid file the next start on the folder ends what survived both.
 */
export interface ServerProcess {
  readonly pid: number
  /** Resolves when it has ended, with a sentence. */
  readonly exited: Promise<string>
  isAlive(): boolean
  /** Sends a signal such as SIGHUP to the server itself. */
  signal(name: NodeJS.Signals): void
  /** Kills its whole process group. */
  kill(): void
  /** Resolves when nothing of it runs any more. May be repeated. */
  stop(): Promise<void>
}

export interface ServerOptions {
  /** Its name in messages. */
  name: string
  /** Its own folder; created if it does not exist. */
  dir: string
  program: string
  args: readonly string[]
  launcher: Launcher
  /** Writes its settings, once the folder is claimed. */
  prepare?(): Promise<void>
  /** Called every few milliseconds; whether this process answers. */
  isReady(pid: number): Promise<boolean>
  /** Where it listens, for messages. */
  address: string
  startTimeoutMs?: number
  /** Time between the stop signal and SIGKILL, in ms; a function is called at the stop. */
  stopTimeoutMs?: number | (() => number)
  /** SIGTERM unless given. */
  stopSignal?: NodeJS.Signals
  /** Its own folder unless given. */
  cwd?: string
  /** This process's own unless given. */
  env?: Readonly<Record<string, string | undefined>>
  /** A listening socket that it gets as its file descriptor 3. */
  socketFd?: number | undefined
  /** When aborted during the start, the server is ended. */
  over?: AbortSignal
}

const readyEveryMs = 5
const logBytesMax = 10 * 1024 ** 2

/**
 * Starts a server and resolves when it answers.
 * @throws DATA_DIR_IN_USE if another process runs one on this folder, PORT_IN_USE, ENGINE_START_FAILED
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

/** Creates a folder that only its owner may enter. */
export function makeDir(dir: string, { uid, gid }: Launcher): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  if (uid !== undefined) chownSync(dir, uid, gid!)
}

/**
 * The same for sockets. Its name may be known to others, in a folder for all such as /tmp: what another user has put there, or a link, is
 * refused.
 * @throws ENGINE_START_FAILED
 */
export function makeSocketDir(dir: string): void {
  makeDir(dir, { prefix: [] })
  const found = lstatSync(dir)
  if (found.isDirectory() && found.uid === process.getuid?.()) return void chmodSync(dir, 0o700)
  throw new RungError(
    'ENGINE_START_FAILED',
    `The folder ${dir} for private sockets is a link or another user's. Remove it, or set RUNG_DATA to a shorter path.`,
  )
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
  const watchdog = startWatchdog({ signal: 'TERM', lastSignal: 'KILL', group: true, patienceMs: 2_000 })
  const child = spawn(command!, args, {
    ...identityOf(launcher),
    cwd: options.cwd ?? dir,
    ...(options.env && { env: options.env as NodeJS.ProcessEnv }),
    detached: true,
    stdio: ['ignore', log, log, ...(options.socketFd === undefined ? [] : [options.socketFd])],
  })
  closeSync(log)
  if (child.pid !== undefined) watchdog.watch(child.pid)
  const exited = endOf(child).then(async (how) => {
    if (child.pid !== undefined) killGroup(child.pid) // workers whose master has died
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

function startError({ name, dir, address }: ServerOptions, failure: string, output: string): RungError {
  if (/address already in use/i.test(output)) {
    return new RungError(
      'PORT_IN_USE',
      `${name} cannot listen on ${address}: another process does. Stop that process, or choose another port.`,
    )
  }
  const lines = output.trim().split('\n').filter(Boolean)
  const telling = lines.filter((line) => /\[emerg\]|\[alert\]|FATAL|Bad directive|>>>|\*\*\*|^# /.test(line))
  const last = (telling.length > 0 ? telling : lines).slice(-3).join(' ')
  return new RungError('ENGINE_START_FAILED', `${failure}: ${last || 'it wrote nothing.'} See ${logFileOf(dir)}.`)
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
    // no process of it is left
  }
}

/** Opens the log for appending; a large one is moved aside. */
async function openLog(file: string): Promise<number> {
  const log = openSync(file, 'a', 0o600)
  if (statSync(file).size < logBytesMax) return log
  closeSync(log)
  await rename(file, `${file}.1`)
  return openSync(file, 'a', 0o600)
}
