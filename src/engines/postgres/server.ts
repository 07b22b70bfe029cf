import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, fstatSync, openSync } from 'node:fs'
import { chown, mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { inheritedUnderFakeClock } from '../process/fake-clock.ts'
import { commandOf, isRunning } from '../process/is-running.ts'
import { identityOf, type Launcher } from '../process/launcher.ts'
import { startWatchdog, type Watchdog } from '../process/watchdog.ts'
import { answersAt } from './ask.ts'
import { findBinaries, findPostgresLauncher, type PostgresBinaries } from './binaries.ts'
import { type Client, type ConnectionConfig, connectOnce } from './client.ts'
import { outOfSpace } from './disk.ts'
import { fingerprint, serverArgs, socketPort, superuser } from './recipe.ts'

/**
 * A Postgres server that this process runs, primary or replica.
 *
 *            ┌────────────── postmaster gone (crash, kill -9) ◄─────────────┐
 *            ▼                                                              │
 *   stopped ──start──► adopt a server that survived ──or── spawn ──► running, lock held ──stop──► stopped
 *
 * - It runs in its own session and logs to a file, so that neither Ctrl-C nor the death of this process affects it: the next
 *   start takes over a server that survived. In a fleet it ends with the supervisor instead.
 * - One process owns a server: it holds a session lock inside it, which is released the instant the process dies, so that no
 *   lock file can become stale.
 * - When the connection that holds the lock breaks, the server is started again.
 */
export interface RunningServer {
  /** Whether it was started, or had survived another process. */
  readonly how: 'started' | 'adopted'
  /** The connection that holds the lock, as superuser. */
  keeper(): Client
  /** The postmaster's process id. */
  pid(): number
  answers(withinMs: number): Promise<boolean>
  /** Ends a server that hangs, so that it is restarted. */
  kill(): void
  /** Stops it, calls `between`, and starts it again; retried like a server that was lost. Does nothing while it is lost. */
  renew(why: string, between: () => Promise<void>): Promise<void>
  stop(): Promise<void>
}

export interface ServerFiles {
  /** The folder that people know, for messages. */
  root: string
  /** The data directory proper. */
  data: string
  log: string
  socketDir: string
}

export interface ServerOptions extends ServerFiles {
  /** Its settings; called at each start. */
  settings(): Record<string, string>
  /** Whether a watchdog shuts it down when this process has died. */
  endsWithOwner: boolean
  /** Time until it answers, in ms: it replays its log first. */
  startTimeoutMs: number
  /** Asked while it starts: why there is no point in waiting for it. */
  givesUp?(): string | undefined
  /** Asked each time before it is started again after it was lost; `false` if another server has taken its place. */
  mayReturn?(why: string): Promise<boolean>
  /** Called after a failed start; whether another attempt makes sense. */
  repair(error: unknown): Promise<boolean>
  /** Called at each start, before the server is used. */
  onUp?(keeper: Client): Promise<void>
  onEvent(event: 'lost' | 'recovered' | 'replaced', detail: string): void
  /** How a server that hangs is ended. Default: an immediate shutdown, with which it frees its shared memory. */
  kill?(): Promise<void>
  /** When aborted during the start, the server is ended. */
  over?: AbortSignal
}

const lockKey = 0x72756e67 // 'rung'
/** How long to wait for another server that is stopping, or for the last processes of one that was killed. */
const busyTimeoutMs = 15_000

interface Server {
  pid: number
  child: ChildProcess | undefined
}

/**
 * Starts a server and resolves when it answers.
 * @throws DATA_DIR_IN_USE when another process runs one on this folder, DATA_DISK_FULL, ENGINE_START_FAILED
 */
export async function runServer(options: ServerOptions): Promise<RunningServer> {
  const { data, socketDir } = options
  const binaries = findBinaries()
  const launcher = findPostgresLauncher(binaries)
  const admin = adminAt(socketDir)
  const stopping = new AbortController()
  options.over?.addEventListener('abort', () => stopping.abort(options.over!.reason), { once: true })
  let server: Server
  let keeper: Client
  let watchdog: Watchdog | undefined
  /** Whether another server has taken its place: nothing of this one runs. */
  let left = false
  /** The work of bringing the server back. */
  let returning: Promise<void> | undefined

  function watch(pid: number): void {
    if (!options.endsWithOwner) return
    watchdog?.end()
    watchdog = startWatchdog({ signal: 'INT', lastSignal: 'QUIT', group: false, patienceMs: 20_000 })
    watchdog.watch(pid)
  }

  async function spawnRepaired(): Promise<Server | undefined> {
    for (;;) {
      try {
        return await spawnServer(binaries, launcher, options, watch, stopping.signal)
      } catch (error) {
        if (stopping.signal.aborted || !(await options.repair(error))) throw error
      }
    }
  }

  async function bringUp(): Promise<'started' | 'adopted'> {
    const giveUpAt = systemClock.ticks() + busyTimeoutMs
    for (;;) {
      const adopted = await adopt(options, admin, fingerprint(options.settings()))
      const found = adopted ?? (await spawnRepaired())
      if (found) {
        try {
          keeper = await takeLock(admin, options.root)
          server = found
          if (adopted) watch(adopted.pid) // not before the lock: it might belong to another process
          break
        } catch (error) {
          if (!adopted || error instanceof RungError) throw error // an adopted server may be stopping
        }
      }
      if (systemClock.ticks() > giveUpAt) throw inUse(options.root)
      await sleep(50, stopping.signal)
    }
    const own = keeper
    own.on('end', () => {
      if (keeper === own) comeBack('Postgres stopped answering')
    })
    await options.onUp?.(own)
    return server.child ? 'started' : 'adopted'
  }

  function comeBack(why: string, first?: () => Promise<void>): void {
    if (stopping.signal.aborted || returning) return
    returning = recover(why, first)
      .catch(() => {}) // it was stopped
      .finally(() => {
        returning = undefined
      })
  }

  async function recover(why: string, first: (() => Promise<void>) | undefined): Promise<void> {
    options.onEvent('lost', why)
    for (let attempt = 0; !stopping.signal.aborted; attempt += 1) {
      try {
        if (options.mayReturn && !(await options.mayReturn(why))) return leave()
        await first?.()
        await bringUp()
        if (!stopping.signal.aborted) options.onEvent('recovered', `Postgres is back, process ${server.pid}`)
        return
      } catch (error) {
        stopping.signal.throwIfAborted()
        options.onEvent('lost', messageOf(error))
        await sleep(Math.min(5_000, 100 * 2 ** attempt), stopping.signal)
      }
    }
  }

  function leave(): void {
    left = true
    stopping.abort(new Error('another server has taken its place'))
    watchdog?.end()
    options.onEvent('replaced', 'another server has taken its place')
  }

  await privateDir(socketDir, launcher)
  const how = await bringUp().catch(async (error) => {
    stopping.abort(error) // what the loss of a server has begun meanwhile would bring up one that nobody stops
    await returning
    watchdog?.end()
    throw error
  })
  let stopped: Promise<void> | undefined
  return {
    how,
    keeper: () => keeper,
    pid: () => server.pid,
    answers: (withinMs) => answersAt(path.join(socketDir, `.s.PGSQL.${socketPort}`), withinMs),
    kill() {
      if (stopping.signal.aborted) return
      if (options.kill) options.kill().catch(() => {})
      else void endHung(data, server.pid)
    },
    async renew(why, between) {
      let done = false
      comeBack(why, async () => {
        if (done) return
        await stopServer(data, server, keeper)
        await between()
        done = true
      })
      await returning
    },
    stop() {
      stopped ??= (async () => {
        stopping.abort(new Error('Postgres is being stopped'))
        await returning
        if (left) await keeper.end().catch(() => {})
        else await stopServer(data, server, keeper)
        watchdog?.end()
      })()
      return stopped
    },
  }
}

export function adminAt(socketDir: string): ConnectionConfig {
  return { host: socketDir, port: socketPort, user: superuser, database: 'postgres' }
}

export async function privateDir(dir: string, owner: Launcher): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  if (owner.uid !== undefined) await chown(dir, owner.uid, owner.gid!)
}

/** A server that runs on a data directory. */
export interface FoundServer {
  pid: number
  /** Whether a process holds its lock; that process stops it. */
  owned: boolean
}

/** Finds a running server. One that does not answer yet, for example while it recovers, counts as not owned. */
export async function findServer(data: string): Promise<FoundServer | undefined> {
  const file = await readPidFile(data)
  if (!file || !isRunning(file.pid)) return undefined
  try {
    const client = await connectOnce({ ...file.socket, user: superuser, database: 'postgres' })
    const { rows } = await client
      .query(
        `select current_setting('data_directory') as dir,
          exists (select from pg_locks where locktype = 'advisory' and objid = ${lockKey}) as owned`,
      )
      .finally(() => client.end())
    return path.resolve(rows[0].dir) === data ? { pid: file.pid, owned: rows[0].owned } : undefined
  } catch {
    // The pid may belong to another process by now: then nothing runs.
    return commandOf(file.pid).includes('postgres') ? { pid: file.pid, owned: false } : undefined
  }
}

/** Stops a server that no process owns (a fast shutdown), and waits for its end. */
export async function stopFoundServer(data: string, { pid }: FoundServer): Promise<void> {
  process.kill(pid, 'SIGINT')
  await gone(data, pid)
}

/** Takes over a server that runs on this directory. One with other settings is stopped instead. */
async function adopt(
  { data, root }: ServerFiles,
  admin: ConnectionConfig,
  recipe: string,
): Promise<Server | undefined> {
  const file = await readPidFile(data)
  if (!file?.socket.host || !isRunning(file.pid)) return undefined
  const { pid, socket } = file
  let client: Client
  try {
    client = await connectOnce({ ...admin, ...socket })
  } catch {
    return undefined // another process has the pid, or the server is stopping
  }
  try {
    const { rows } = await client.query(
      `select current_setting('data_directory') as dir, current_setting('rung.recipe', true) as recipe,
        (select count(*) from pg_locks where locktype = 'advisory' and objid = ${lockKey})::int as locks`,
    )
    if (path.resolve(rows[0].dir) !== path.resolve(data)) return undefined
    if (rows[0].recipe === recipe) return { pid, child: undefined }
    if (rows[0].locks > 0) throw inUse(root)
  } finally {
    await client.end()
  }
  process.kill(pid, 'SIGINT')
  await gone(data, pid)
  return undefined
}

/** Starts a server and waits until it answers. Returns undefined while another one still holds the directory. */
async function spawnServer(
  binaries: PostgresBinaries,
  launcher: Launcher,
  options: ServerOptions,
  watch: (pid: number) => void,
  stopping: AbortSignal,
): Promise<Server | undefined> {
  const { data, root, startTimeoutMs } = options
  stopping.throwIfAborted()
  const log = openSync(options.log, 'a', 0o600)
  const logStart = fstatSync(log).size
  const [command, ...args] = [...launcher.prefix, binaries.postgres, ...serverArgs(data, options.settings())]
  const child = spawn(command!, args, {
    ...identityOf(launcher),
    env: inheritedUnderFakeClock(data) as NodeJS.ProcessEnv,
    detached: true,
    stdio: ['ignore', log, log],
  })
  closeSync(log)
  child.unref()
  if (child.pid !== undefined) watch(child.pid)
  const over = new AbortController()
  const exited = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(messageOf(error)))
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
  const givesUp = () =>
    over.signal.aborted || stopping.aborted ? 'told to stop while it started' : options.givesUp?.()
  const isReady = ready(data, () => child.pid, startTimeoutMs, givesUp)
  const outcome = await Promise.race([exited, isReady])
  over.abort()
  if (outcome === undefined) return { pid: child.pid!, child }
  if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
    process.kill(child.pid, 'SIGQUIT')
    await gone(data, child.pid)
  }
  const reason = (await readFile(options.log)).subarray(logStart).toString()
  // After a kill -9 the backends need a moment to notice that their postmaster has ended.
  if (/pre-existing shared memory block|lock file "postmaster.pid" already exists|could not lock/.test(reason)) {
    return undefined
  }
  if (outOfSpace.test(reason)) {
    throw new RungError(
      'DATA_DISK_FULL',
      `Postgres cannot recover, because the disk of ${root} is full (No space left). Nothing is lost; free at least 20 MB.`,
    )
  }
  throw new RungError(
    'ENGINE_START_FAILED',
    `Postgres did not start on ${data} (${outcome}): ${lastLines(reason)} See ${options.log}.`,
  )
}

/** Waits, like pg_ctl, for the state in the server's pid file. Resolves to a reason when time runs out. */
async function ready(
  data: string,
  pid: () => number | undefined,
  timeoutMs: number,
  givesUp: () => string | undefined,
): Promise<string | undefined> {
  const giveUpAt = systemClock.ticks() + timeoutMs
  while (systemClock.ticks() < giveUpAt) {
    const reason = givesUp()
    if (reason !== undefined) return reason
    const file = await readPidFile(data)
    if (file?.ready && file.pid === pid()) return undefined
    await sleep(5)
  }
  return `not ready after ${timeoutMs / 1000} s`
}

interface PidFile {
  pid: number
  /** Where it listens. */
  socket: { host: string; port: number }
  ready: boolean
}

/** Lines of the file: pid, data directory, start time, port, socket directory, address, shared memory, state. */
export async function readPidFile(data: string): Promise<PidFile | undefined> {
  const text = await readFile(path.join(data, 'postmaster.pid'), 'utf8').catch(() => '')
  const lines = text.split('\n').map((line) => line.trim())
  const pid = Number(lines[0])
  if (!(pid > 0)) return undefined
  return { pid, socket: { host: lines[4] ?? '', port: Number(lines[3]) }, ready: lines[7] === 'ready' }
}

async function takeLock(admin: ConnectionConfig, root: string): Promise<Client> {
  const client = await connectOnce(admin)
  // The session of a process that was just killed lasts until the server notices the closed socket.
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const { rows } = await client.query(`select pg_try_advisory_lock(${lockKey}) as locked`)
    if (rows[0].locked) return client
    await sleep(25)
  }
  await client.end()
  throw inUse(root)
}

export function inUse(root: string): RungError {
  return new RungError(
    'DATA_DIR_IN_USE',
    `Another process runs on the data directory ${root}. Stop it first, or set RUNG_DATA to a folder for this one.`,
  )
}

/** The lock is held until the server has ended, so that no process takes over a server that is stopping. */
async function stopServer(data: string, server: Server, keeper: Client): Promise<void> {
  if (isRunning(server.pid)) {
    server.child?.ref()
    process.kill(server.pid, 'SIGINT') // fast shutdown: sessions end, a checkpoint is written
    send(server.pid, 'SIGCONT') // one that was frozen would never end
    await gone(data, server.pid)
  }
  await keeper.end().catch(() => {})
}

const quitMsMax = 10_000

/**
 * Ends a server that hangs, first by an immediate shutdown (SIGCONT in case it was stopped), which ends its sessions and frees its
 * shared memory. After SIGKILL the next start has to wait for the sessions. Neither loses a commit.
 */
async function endHung(data: string, pid: number): Promise<void> {
  const patientUntil = systemClock.ticks() + quitMsMax
  for (const signal of ['SIGQUIT', 'SIGCONT'] as const) send(pid, signal)
  while (isRunning(pid) && (await readPidFile(data))?.pid === pid) {
    if (systemClock.ticks() > patientUntil) return send(pid, 'SIGKILL')
    await sleep(50)
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it has ended
  }
}

/** Waits for a server to end. Its pid file is removed last; the process itself may remain a zombie. */
async function gone(data: string, pid: number): Promise<void> {
  const patientUntil = systemClock.ticks() + 60_000
  while (isRunning(pid) && (await readPidFile(data))?.pid === pid) {
    if (systemClock.ticks() > patientUntil) process.kill(pid, 'SIGQUIT') // the next start replays the log
    await sleep(10)
  }
}

export function lastLines(text: string): string {
  const lines = text.trim().split('\n').filter(Boolean)
  const fatal = lines.filter((line) => /FATAL|ERROR|HINT|PANIC|initdb:/.test(line))
  return (fatal.length > 0 ? fatal : lines).slice(-3).join(' ')
}
