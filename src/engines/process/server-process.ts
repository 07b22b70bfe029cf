import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, closeSync, mkdirSync, openSync, statSync } from 'node:fs'
import { readFile, rename } from 'node:fs/promises'
import path from 'node:path'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import type { Launcher } from './launcher.ts'
import { type Claim, claim } from './pid-file.ts'

/**
 * A server that belongs to this process: it lives in a folder of its own and ends with its owner.
 *
 *   claim the folder ──► spawn ──► ready ──► (exit by itself | stop: signal, then SIGKILL to the group) ──► folder free
 *
 * It leads a session of its own, so that Ctrl-C reaches the owner only, who stops it in order. Three things see to it that
 * nothing is left behind: `stop`; a watchdog, a shell that holds one end of a pipe, whose other end closes the moment the
 * owner is dead, however it died (on Linux the kernel could do that, but not for nginx' workers, and not on macOS); and the
 * pid file, by which the next start on the folder ends what survived even both.
 */
export interface ServerProcess {
  readonly pid: number
  /** When it has ended, whichever way: a sentence. */
  readonly exited: Promise<string>
  isAlive(): boolean
  /** To the server itself, such as SIGHUP. */
  signal(name: NodeJS.Signals): void
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
  /** How long it has between the polite signal and the end. */
  stopTimeoutMs?: number
  /** Politely; SIGTERM unless given. */
  stopSignal?: NodeJS.Signals
}

const readyEveryMs = 5
const logBytesMax = 10 * 1024 ** 2

/**
 * Reads the pid, then nothing until the owner's end of the pipe closes; then the same as `stop`: two seconds of patience,
 * then SIGKILL to the whole group.
 */
const watchdogScript = `PATH="$PATH:/usr/bin:/bin"
read -r pid || exit 0
while read -r _; do :; done
kill -TERM "-$pid" 2>/dev/null || exit 0
n=0
while [ $n -lt 40 ] && kill -0 "-$pid" 2>/dev/null; do
  n=$((n + 1))
  if [ $n -ge 20 ]; then kill -KILL "-$pid" 2>/dev/null; fi
  sleep 0.1
done`

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
  // First the one who watches: between the two spawns nobody could be killed unseen for longer than an instant.
  const watchdog = spawn('/bin/sh', ['-c', watchdogScript, 'rung-watchdog'], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  watchdog.on('error', () => {})
  watchdog.stdin.on('error', () => {}) // it ended first
  const child = spawn(command!, args, { ...identity, cwd: dir, detached: true, stdio: ['ignore', log, log] })
  closeSync(log)
  if (child.pid !== undefined) watchdog.stdin.write(`${child.pid}\n`)
  const exited = endOf(child).then(async (how) => {
    if (child.pid !== undefined) killGroup(child.pid) // workers whose master died
    watchdog.kill('SIGKILL')
    await claimed.release()
    return `${name} ended (${how})`
  })
  for (const one of [child, watchdog]) one.unref()
  ;(watchdog.stdin as unknown as { unref(): void }).unref()

  let stopping: Promise<void> | undefined
  async function stop(signal: NodeJS.Signals): Promise<void> {
    if (!isRunning(child)) return void (await exited)
    child.ref()
    child.kill(signal)
    const patience = new AbortController()
    await Promise.race([exited, sleep(stopTimeoutMs, patience.signal).catch(() => {})])
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
    stop() {
      stopping ??= stop(stopSignal)
      return stopping
    },
  }
}

async function becomesReady(options: ServerOptions, child: ChildProcess): Promise<string | undefined> {
  const timeoutMs = options.startTimeoutMs ?? 10_000
  const giveUpAt = systemClock.ticks() + timeoutMs
  while (systemClock.ticks() < giveUpAt && isRunning(child)) {
    if (await options.isReady(child.pid!).catch(() => false)) return undefined
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
