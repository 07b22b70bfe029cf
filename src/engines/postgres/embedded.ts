import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, fstatSync, mkdirSync, openSync } from 'node:fs'
import { chown, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir, totalmem } from 'node:os'
import path from 'node:path'
import { after, every, sleep, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { commandOf, isRunning } from '../process/is-running.ts'
import { identityOf, type Launcher } from '../process/launcher.ts'
import { startWatchdog, type Watchdog } from '../process/watchdog.ts'
import { answersAt } from './ask.ts'
import { findBinaries, findPostgresLauncher, type PostgresBinaries } from './binaries.ts'
import { type Client, type ConnectionConfig, connectOnce } from './client.ts'
import { type DataDir, openDataDir } from './data-dir.ts'
import { type DiskEvent, diskGuard, outOfSpace } from './disk.ts'
import {
  appDatabase,
  appRole,
  initdbArgs,
  type PostgresSettings,
  recipeId,
  serverArgs,
  setupStatements,
  socketDirFor,
  socketPort,
  superuser,
} from './recipe.ts'

/**
 * The Postgres that Rung starts itself.
 *
 *            ┌────────────── postmaster gone (crash, kill -9) ◄─────────────┐
 *            ▼                                                              │
 *   stopped ──start──► adopt a server that survived ──or── spawn ──► running, lock held ──stop──► stopped
 *
 * - It runs in its own session and logs to a file, so that neither Ctrl-C nor the death of the app's process affects it: the next
 *   start takes over a server that survived. In a fleet it ends with the supervisor instead.
 * - One app process owns a data directory: it holds a session lock inside the server, which is released the instant the process
 *   dies, so that no lock file can become stale.
 * - When the connection that holds the lock breaks, the server is started again.
 */
export interface EmbeddedPostgres {
  /** The app's own role and database. */
  readonly connection: ConnectionConfig
  /** The superuser's, for set-up and for the doctor's experiments. */
  readonly adminConnection: ConnectionConfig
  readonly dataDir: DataDir
  /** The postmaster's process id. */
  pid(): number | undefined
  stop(): Promise<void>
}

/** A server that this process runs, and restarts when it is lost. */
export interface OwnedPostgres extends EmbeddedPostgres {
  answers(withinMs: number): Promise<boolean>
  /** Ends a server that hangs, so that it is restarted. */
  kill(): void
}

export interface EmbeddedOptions {
  /** The `.rung` folder. */
  root: string
  /** `max_connections`; see `databaseConnections` of the topology. */
  connectionsMax: number
  /** Whether a watchdog shuts it down when this process has died. */
  endsWithOwner?: boolean
  /** For tests: a crash of the machine may destroy the data, and nothing is written through to the disk. */
  throwaway?: boolean
  /** Called on changes that should be logged. */
  onEvent?: (event: 'started' | 'adopted' | 'lost' | 'recovered' | DiskEvent, detail: string) => void
}

const lockKey = 0x72756e67 // 'rung'
/** Enough for the slowest disks. */
const initdbMsMax = 300_000
const startTimeoutMs = 60_000 // crash recovery replays the log before it answers
/** How long to wait for another server that is stopping, or for the last processes of one that was killed. */
const busyTimeoutMs = 15_000
const diskLookEveryMs = 1_000

interface Server {
  pid: number
  child: ChildProcess | undefined
}

/**
 * Starts Postgres on `root`, creating it at the first start, and returns when it answers.
 * @throws DATA_DIR_* for a wrong folder, DATA_DIR_IN_USE when another process runs on it, ENGINE_*
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<OwnedPostgres> {
  const dataDir = await openDataDir(path.resolve(options.root))
  const binaries = findBinaries()
  const launcher = findPostgresLauncher(binaries)
  const socketDir = socketDirFor(dataDir.root, tmpdir())
  await privateDir(socketDir, launcher)
  const settings: PostgresSettings = {
    memoryBytes: totalmem(),
    socketDir,
    connectionsMax: options.connectionsMax,
    ...(options.throwaway && { throwaway: true }),
  }
  const socket = { host: socketDir, port: socketPort }
  const keeperConnection = { ...socket, user: superuser, database: 'postgres' }
  const adminConnection = { ...keeperConnection, database: appDatabase }
  const connection = { ...socket, user: appRole, database: appDatabase }

  const disk = diskGuard(dataDir.root, (event, detail) => options.onEvent?.(event, detail))
  let stopping = false
  let cramped = false
  let server: Server
  let keeper: Client
  let watchdog: Watchdog | undefined

  function watch(pid: number): void {
    if (!options.endsWithOwner) return
    watchdog?.end()
    watchdog = startWatchdog({ signal: 'INT', lastSignal: 'QUIT', group: false, patienceMs: 20_000 })
    watchdog.watch(pid)
  }

  /** On a full disk the reserve is freed, so that the database can at least be read. */
  async function spawnWithReserve(): Promise<Server | undefined> {
    for (;;) {
      try {
        return await spawnServer(binaries, launcher, dataDir, settings, watch)
      } catch (error) {
        if (!(await disk.makeRoom(messageOf(error)))) throw error
        cramped = true
      }
    }
  }

  async function bringUp(): Promise<'started' | 'adopted'> {
    const giveUpAt = systemClock.ticks() + busyTimeoutMs
    for (;;) {
      const adopted = await adopt(dataDir, keeperConnection, recipeId(settings))
      const found = adopted ?? (await spawnWithReserve())
      if (found) {
        try {
          keeper = await takeLock(keeperConnection, dataDir.root)
          server = found
          if (adopted) watch(adopted.pid) // not before the lock: it might belong to another process
          break
        } catch (error) {
          if (!adopted || error instanceof RungError) throw error // an adopted server may be stopping
        }
      }
      if (systemClock.ticks() > giveUpAt) throw inUse(dataDir.root)
      await sleep(50)
    }
    keeper.on('end', () => {
      if (!stopping) void recover()
    })
    if (cramped) await disk.look(keeper).catch(() => {}) // before writers use the freed space
    cramped = false
    return server.child ? 'started' : 'adopted'
  }

  async function recover(): Promise<void> {
    options.onEvent?.('lost', 'Postgres stopped answering')
    for (let attempt = 0; !stopping; attempt += 1) {
      try {
        await bringUp()
        if (stopping) return await stopServer(dataDir, server, keeper).finally(() => watchdog?.end())
        options.onEvent?.('recovered', `Postgres is back, process ${server.pid}`)
        return
      } catch (error) {
        options.onEvent?.('lost', messageOf(error))
        await sleep(Math.min(5_000, 100 * 2 ** attempt))
      }
    }
  }

  await removeAbandoned(dataDir)
  if (!(await hasDatabase(dataDir))) await initialise(binaries, launcher, dataDir)
  const how = await bringUp()
  try {
    await setUp(keeperConnection, connection)
  } catch (error) {
    stopping = true
    await stopServer(dataDir, server!, keeper!)
    watchdog?.end()
    throw error
  }
  options.onEvent?.(how, `process ${server!.pid}`)
  let looked = Promise.resolve()
  const stopLooking = every(diskLookEveryMs, () => {
    looked = disk.look(keeper).catch(() => {}) // `recover` handles a lost connection
  })

  return {
    connection,
    adminConnection,
    dataDir,
    pid: () => server.pid,
    answers: (withinMs) => answersAt(path.join(socketDir, `.s.PGSQL.${socketPort}`), withinMs),
    kill() {
      if (!stopping) void endHung(dataDir, server.pid)
    },
    async stop() {
      if (stopping) return
      stopping = true
      stopLooking()
      await stopServer(dataDir, server, keeper)
      watchdog?.end()
      await looked // it may be writing to a folder that the caller removes next
    },
  }
}

/**
 * Connects a tool (a migration, the doctor, a seed) to the server that runs on `root`, without its lock; starts one for the time
 * being if none runs.
 */
export async function attachEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const dataDir = await openDataDir(path.resolve(options.root))
  return (await reach(dataDir)) ?? startEmbedded(options)
}

const joinTimeoutMs = 60_000

/**
 * Connects another process of the app (a worker) to the server of the process that owns `root`, and waits until it runs.
 * @throws ENGINE_START_FAILED when it is not started in time
 */
export async function joinEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const dataDir = await openDataDir(path.resolve(options.root))
  for (const giveUpAt = systemClock.ticks() + joinTimeoutMs; ; await sleep(100)) {
    const server = await reach(dataDir)
    if (server) return server
    if (systemClock.ticks() > giveUpAt) {
      throw new RungError(
        'ENGINE_START_FAILED',
        `No Postgres runs on ${dataDir.root}. Start the app first, or set DATABASE_URL for both.`,
      )
    }
  }
}

/** A server that runs on a data directory. */
export interface FoundPostgres {
  pid: number
  /** Whether a process holds its lock; that process stops it. */
  owned: boolean
}

/** Finds a running server. One that does not answer yet, for example while it recovers, counts as not owned. */
export async function findRunning(root: string): Promise<FoundPostgres | undefined> {
  const postgres = path.join(path.resolve(root), 'postgres')
  const file = await readPidFile({ postgres })
  if (!file || !isRunning(file.pid)) return undefined
  try {
    const client = await connectOnce({ ...file.socket, user: superuser, database: 'postgres' })
    const { rows } = await client
      .query(
        `select current_setting('data_directory') as dir,
          exists (select from pg_locks where locktype = 'advisory' and objid = ${lockKey}) as owned`,
      )
      .finally(() => client.end())
    return path.resolve(rows[0].dir) === postgres ? { pid: file.pid, owned: rows[0].owned } : undefined
  } catch {
    // The pid may belong to another process by now: then nothing runs.
    return commandOf(file.pid).includes('postgres') ? { pid: file.pid, owned: false } : undefined
  }
}

/** Stops a server that no process owns (a fast shutdown), and waits for its end. */
export async function stopFound(root: string, { pid }: FoundPostgres): Promise<void> {
  process.kill(pid, 'SIGINT')
  await gone({ postgres: path.join(path.resolve(root), 'postgres') }, pid)
}

/** Connects to a server that another process runs. */
async function reach(dataDir: DataDir): Promise<EmbeddedPostgres | undefined> {
  const file = await readPidFile(dataDir)
  if (!file || !isRunning(file.pid)) return undefined
  const { pid, socket } = file
  const connection = { ...socket, user: appRole, database: appDatabase }
  const adminConnection = { ...connection, user: superuser }
  try {
    await (await connectOnce(connection)).end()
    return { connection, adminConnection, dataDir, pid: () => pid, async stop() {} }
  } catch {
    return undefined // it does not answer
  }
}

async function hasDatabase(dataDir: DataDir): Promise<boolean> {
  return (await readdir(dataDir.postgres).catch(() => [])).length > 0
}

async function privateDir(dir: string, owner: Launcher): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  if (owner.uid !== undefined) await chown(dir, owner.uid, owner.gid!)
}

/** Runs initdb in another folder and renames it: a start that is killed half-way leaves nothing that hinders the next one. */
async function initialise(binaries: PostgresBinaries, launcher: Launcher, dataDir: DataDir): Promise<void> {
  const fresh = path.join(dataDir.root, `postgres.new-${process.pid}`)
  mkdirSync(fresh, { mode: 0o700 })
  if (launcher.uid !== undefined) await chown(fresh, launcher.uid, launcher.gid!)
  const [command, ...args] = [...launcher.prefix, binaries.initdb, ...initdbArgs(fresh)]
  let output = ''
  // In its own session: Ctrl-C is for this process, which stops when the folder is complete.
  const ended = await new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    const child = spawn(command!, args, { ...identityOf(launcher), detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk
      })
    }
    const cancel = after(initdbMsMax, () => void child.kill('SIGKILL'))
    child.once('error', reject)
    child.once('close', (code, signal) => {
      cancel()
      resolve(signal ?? code)
    })
  })
  if (ended !== 0) {
    await rm(fresh, { recursive: true, force: true })
    throw new RungError(
      'ENGINE_START_FAILED',
      `Postgres could not create its data in ${dataDir.root} (initdb ended with ${ended}): ${lastLines(output)}`,
    )
  }
  try {
    await rename(fresh, dataDir.postgres)
  } catch (error) {
    await rm(fresh, { recursive: true, force: true })
    if (!(await hasDatabase(dataDir))) throw error // otherwise another first start was faster; the lock decides which one continues
  }
}

/** Removes what killed first starts left. An initdb that still runs keeps its folder. */
async function removeAbandoned(dataDir: DataDir): Promise<void> {
  for (const name of await readdir(dataDir.root)) {
    const pid = Number(/^postgres\.new-(\d+)$/.exec(name)?.[1])
    if (!(pid > 0) || isRunning(pid)) continue
    await rm(path.join(dataDir.root, name), { recursive: true, force: true, maxRetries: 5 }).catch(() => {})
  }
}

/** Takes over a server that runs on this directory. One with other settings is stopped instead. */
async function adopt(dataDir: DataDir, admin: ConnectionConfig, recipe: string): Promise<Server | undefined> {
  const file = await readPidFile(dataDir)
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
    if (path.resolve(rows[0].dir) !== path.resolve(dataDir.postgres)) return undefined
    if (rows[0].recipe === recipe) return { pid, child: undefined }
    if (rows[0].locks > 0) throw inUse(dataDir.root)
  } finally {
    await client.end()
  }
  process.kill(pid, 'SIGINT')
  await gone(dataDir, pid)
  return undefined
}

/** Starts a server and waits until it answers. Returns undefined while another one still holds the directory. */
async function spawnServer(
  binaries: PostgresBinaries,
  launcher: Launcher,
  dataDir: DataDir,
  settings: PostgresSettings,
  watch: (pid: number) => void,
): Promise<Server | undefined> {
  const log = openSync(dataDir.log, 'a', 0o600)
  const logStart = fstatSync(log).size
  const [command, ...args] = [...launcher.prefix, binaries.postgres, ...serverArgs(dataDir.postgres, settings)]
  const child = spawn(command!, args, { ...identityOf(launcher), detached: true, stdio: ['ignore', log, log] })
  closeSync(log)
  child.unref()
  if (child.pid !== undefined) watch(child.pid)
  const over = new AbortController()
  const exited = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(messageOf(error)))
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
  const outcome = await Promise.race([exited, ready(dataDir, () => child.pid, over.signal)])
  over.abort()
  if (outcome === undefined) return { pid: child.pid!, child }
  if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
    process.kill(child.pid, 'SIGQUIT')
  const reason = (await readFile(dataDir.log)).subarray(logStart).toString()
  // After a kill -9 the backends need a moment to notice that their postmaster has ended.
  if (/pre-existing shared memory block|lock file "postmaster.pid" already exists|could not lock/.test(reason)) {
    return undefined
  }
  if (outOfSpace.test(reason)) {
    throw new RungError(
      'DATA_DISK_FULL',
      `Postgres cannot recover, because the disk of ${dataDir.root} is full (No space left). Nothing is lost; free at least 20 MB.`,
    )
  }
  throw new RungError(
    'ENGINE_START_FAILED',
    `Postgres did not start on ${dataDir.postgres} (${outcome}): ${lastLines(reason)} See ${dataDir.log}.`,
  )
}

/** Waits, like pg_ctl, for the state in the server's pid file. Resolves to a reason when time runs out. */
async function ready(dataDir: DataDir, pid: () => number | undefined, over: AbortSignal): Promise<string | undefined> {
  const giveUpAt = systemClock.ticks() + startTimeoutMs
  while (systemClock.ticks() < giveUpAt && !over.aborted) {
    const file = await readPidFile(dataDir)
    if (file?.ready && file.pid === pid()) return undefined
    await sleep(5)
  }
  return `not ready after ${startTimeoutMs / 1000} s`
}

interface PidFile {
  pid: number
  /** Where it listens. */
  socket: { host: string; port: number }
  ready: boolean
}

/** Lines of the file: pid, data directory, start time, port, socket directory, address, shared memory, state. */
async function readPidFile(dataDir: Pick<DataDir, 'postgres'>): Promise<PidFile | undefined> {
  const text = await readFile(path.join(dataDir.postgres, 'postmaster.pid'), 'utf8').catch(() => '')
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

function inUse(root: string): RungError {
  return new RungError(
    'DATA_DIR_IN_USE',
    `Another process runs on the data directory ${root}. Stop it first, or set RUNG_DATA to a folder for this one.`,
  )
}

/** Creates the app's role and database. Most starts only open one connection. */
async function setUp(admin: ConnectionConfig, app: ConnectionConfig): Promise<void> {
  try {
    const client = await connectOnce(app)
    const { rows } = await client.query(`select 1 from pg_extension where extname = 'pg_stat_statements'`)
    await client.end()
    if (rows.length === 1) return
  } catch (error) {
    const code = (error as { code?: string }).code
    if (code !== '28000' && code !== '3D000') throw error // no such role, no such database
  }
  const client = await connectOnce(admin)
  try {
    await client.query(setupStatements.role)
    await client.query(setupStatements.grants)
    const { rows } = await client.query('select 1 from pg_database where datname = $1', [appDatabase])
    if (rows.length === 0) await client.query(setupStatements.database)
  } finally {
    await client.end()
  }
  const inApp = await connectOnce({ ...admin, database: appDatabase })
  await inApp.query(setupStatements.extension).finally(() => inApp.end())
}

/** The lock is held until the server has ended, so that no process takes over a server that is stopping. */
async function stopServer(dataDir: DataDir, server: Server, keeper: Client): Promise<void> {
  if (isRunning(server.pid)) {
    server.child?.ref()
    process.kill(server.pid, 'SIGINT') // fast shutdown: sessions end, a checkpoint is written
    await gone(dataDir, server.pid)
  }
  await keeper.end().catch(() => {})
}

const quitMsMax = 10_000

/**
 * Ends a server that hangs, first by an immediate shutdown (SIGCONT in case it was stopped), which ends its sessions and frees its
 * shared memory. After SIGKILL the next start has to wait for the sessions. Neither loses a commit.
 */
async function endHung(dataDir: DataDir, pid: number): Promise<void> {
  const patientUntil = systemClock.ticks() + quitMsMax
  for (const signal of ['SIGQUIT', 'SIGCONT'] as const) send(pid, signal)
  while (isRunning(pid) && (await readPidFile(dataDir))?.pid === pid) {
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
async function gone(dataDir: Pick<DataDir, 'postgres'>, pid: number): Promise<void> {
  const patientUntil = systemClock.ticks() + 60_000
  while (isRunning(pid) && (await readPidFile(dataDir))?.pid === pid) {
    if (systemClock.ticks() > patientUntil) process.kill(pid, 'SIGQUIT') // the next start replays the log
    await sleep(10)
  }
}

function lastLines(text: string): string {
  const lines = text.trim().split('\n').filter(Boolean)
  const fatal = lines.filter((line) => /FATAL|ERROR|HINT|PANIC|initdb:/.test(line))
  return (fatal.length > 0 ? fatal : lines).slice(-3).join(' ')
}
