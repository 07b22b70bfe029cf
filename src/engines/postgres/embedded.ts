import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { chown, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir, totalmem } from 'node:os'
import path from 'node:path'
import { after, every, sleep, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { commandOf, isRunning } from '../process/is-running.ts'
import type { Launcher } from '../process/launcher.ts'
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
 * - It runs in a session of its own and writes its log to a file, so neither Ctrl-C nor the death of the app's process
 *   touches it: a server that survived is taken over by the next start. One of a fleet ends with its supervisor instead.
 * - One app process per data directory: the process holds a session lock inside the server (`rung.lock`). It is gone the
 *   instant the process is, however it died, so no stale lock file can exist.
 * - The connection that holds the lock is also the watch: when it breaks, the server is started again.
 */
export interface EmbeddedPostgres {
  /** The app's own role and database. */
  readonly connection: ConnectionConfig
  /** The superuser, for set-up and for the doctor's rolled-back experiments. */
  readonly adminConnection: ConnectionConfig
  readonly dataDir: DataDir
  /** The postmaster's process id. */
  pid(): number | undefined
  stop(): Promise<void>
}

/** One that this process runs, and starts again when it is lost. */
export interface OwnedPostgres extends EmbeddedPostgres {
  answers(withinMs: number): Promise<boolean>
  /** For one that hangs: it ends at once, and so is started again. */
  kill(): void
}

export interface EmbeddedOptions {
  /** The `.rung` folder. */
  root: string
  /** `max_connections`; see `databaseConnections` of the topology. */
  connectionsMax: number
  /** Of a fleet: a watchdog ends it (a fast shutdown) when this process is dead. */
  endsWithOwner?: boolean
  /** For tests: a crash of the machine may destroy the data, and nothing is written through to the disk. */
  throwaway?: boolean
  /** Called on state changes worth a line in the log. */
  onEvent?: (event: 'started' | 'adopted' | 'lost' | 'recovered' | DiskEvent, detail: string) => void
}

const lockKey = 0x72756e67 // 'rung'
/** On the slowest of disks; only what hangs takes longer. */
const initdbMsMax = 300_000
const startTimeoutMs = 60_000 // crash recovery replays the log before it answers
/** How long another server may stand in the way: one that stops, or the last processes of one that was killed. */
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

  /** As `spawnServer`; on a full disk the reserve is given up for a server that can at least be read from. */
  async function spawnSomehow(): Promise<Server | undefined> {
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
      const found = adopted ?? (await spawnSomehow())
      if (found) {
        try {
          keeper = await takeLock(keeperConnection, dataDir.root)
          server = found
          if (adopted) watch(adopted.pid) // not before: it might be somebody else's
          break
        } catch (error) {
          if (!adopted || error instanceof RungError) throw error // an adopted one may just have been told to stop
        }
      }
      if (systemClock.ticks() > giveUpAt) throw inUse(dataDir.root)
      await sleep(50)
    }
    keeper.on('end', () => {
      if (!stopping) void recover()
    })
    if (cramped) await disk.look(keeper).catch(() => {}) // before writers use up what was freed
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
    looked = disk.look(keeper).catch(() => {}) // a lost connection is the watch's business
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
      await looked // it may be renewing the reserve, in a folder that the caller removes next
    },
  }
}

/**
 * For a tool beside the app (a migration, a doctor, a seed): the server that runs on `root` already, without its lock, or
 * else one started for the time being.
 */
export async function attachEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const dataDir = await openDataDir(path.resolve(options.root))
  const file = await readPidFile(dataDir)
  const server = file && isRunning(file.pid) ? await reach(file) : undefined
  if (!file || !server) return startEmbedded(options)
  return { ...server, dataDir, pid: () => file.pid, async stop() {} }
}

/** How long a process that joins waits for the one that owns the server. */
const joinTimeoutMs = 60_000

/**
 * For another process of the app (a worker): the server that runs on `root`, or will soon. It is never started here: who
 * starts it owns it, and that is the app.
 * @throws ENGINE_START_FAILED when nobody starts it in time
 */
export async function joinEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const dataDir = await openDataDir(path.resolve(options.root))
  for (const giveUpAt = systemClock.ticks() + joinTimeoutMs; ; await sleep(100)) {
    const file = await readPidFile(dataDir)
    const server = file && isRunning(file.pid) ? await reach(file) : undefined
    if (file && server) return { ...server, dataDir, pid: () => file.pid, async stop() {} }
    if (systemClock.ticks() > giveUpAt) {
      throw new RungError(
        'ENGINE_START_FAILED',
        `Nobody runs Postgres on ${dataDir.root}. Start the app first, or set DATABASE_URL for both.`,
      )
    }
  }
}

/** The server that runs on `root`, whoever started it. `owned`: a process holds it, which is the one to stop. */
export interface FoundPostgres {
  pid: number
  owned: boolean
}

/** Looks without starting anything. One that does not answer yet, as while it recovers, counts as nobody's. */
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
    // Its number may belong to another process by now: then the server left its file behind, and nothing runs.
    return commandOf(file.pid).includes('postgres') ? { pid: file.pid, owned: false } : undefined
  }
}

/** Ends a server that nobody owns, as its owner would: sessions end, a checkpoint is written. Returns when it is gone. */
export async function stopFound(root: string, { pid }: FoundPostgres): Promise<void> {
  process.kill(pid, 'SIGINT')
  await gone({ postgres: path.join(path.resolve(root), 'postgres') }, pid)
}

async function reach({ socket }: PidFile) {
  const connection = { ...socket, user: appRole, database: appDatabase }
  try {
    await (await connectOnce(connection)).end()
    return { connection, adminConnection: { ...socket, user: superuser, database: appDatabase } }
  } catch {
    return undefined // nobody answers there
  }
}

async function hasDatabase(dataDir: DataDir): Promise<boolean> {
  return (await readdir(dataDir.postgres).catch(() => [])).length > 0
}

async function privateDir(dir: string, owner: Launcher): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  if (owner.uid !== undefined) await chown(dir, owner.uid, owner.gid!)
}

/** initdb into a folder beside, then one rename: a start that is killed half-way leaves nothing that the next one trips over. */
async function initialise(binaries: PostgresBinaries, launcher: Launcher, dataDir: DataDir): Promise<void> {
  const fresh = path.join(dataDir.root, `postgres.new-${process.pid}`)
  mkdirSync(fresh, { mode: 0o700 })
  if (launcher.uid !== undefined) await chown(fresh, launcher.uid, launcher.gid!)
  const [command, ...args] = [...launcher.prefix, binaries.initdb, ...initdbArgs(fresh)]
  let output = ''
  // In a session of its own: Ctrl-C is for this process, which stops when the folder is complete.
  const run = () =>
    new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
      const child = spawn(command!, args, { ...identity(launcher), detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (chunk) => {
          output += chunk
        })
      }
      const forget = after(initdbMsMax, () => void child.kill('SIGKILL'))
      child.once('error', reject)
      child.once('close', (code, signal) => {
        forget()
        resolve(signal ?? code)
      })
    })
  let ended = await run()
  // It takes a Ctrl-C itself, and ends with a code. Whom one kills had not yet become initdb, nor left this session.
  for (let again = 0; again < 3 && (ended === 'SIGINT' || ended === 'SIGTERM' || ended === 'SIGHUP'); again += 1) {
    ended = await run()
  }
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
    if (!(await hasDatabase(dataDir))) throw error // else another first start was faster; its lock decides who stays
  }
}

/** What a first start left behind that was killed. Its initdb may still run for a moment, and then keeps its folder. */
async function removeAbandoned(dataDir: DataDir): Promise<void> {
  for (const name of await readdir(dataDir.root)) {
    const pid = Number(/^postgres\.new-(\d+)$/.exec(name)?.[1])
    if (!(pid > 0) || isRunning(pid)) continue
    await rm(path.join(dataDir.root, name), { recursive: true, force: true, maxRetries: 5 }).catch(() => {})
  }
}

function identity(launcher: Launcher): { uid?: number; gid?: number } {
  return launcher.uid === undefined ? {} : { uid: launcher.uid, gid: launcher.gid! }
}

/** A server that runs on this directory already: its pid, or nothing. One with other settings is stopped first. */
async function adopt(dataDir: DataDir, admin: ConnectionConfig, recipe: string): Promise<Server | undefined> {
  const file = await readPidFile(dataDir)
  if (!file?.socket.host || !isRunning(file.pid)) return undefined
  const { pid, socket } = file
  let client: Client
  try {
    client = await connectOnce({ ...admin, ...socket })
  } catch {
    return undefined // the pid is somebody else's, or the server is on its way down; spawning will tell
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

/** A server that answers, or nothing while another one, or what is left of it, still has the directory. */
async function spawnServer(
  binaries: PostgresBinaries,
  launcher: Launcher,
  dataDir: DataDir,
  settings: PostgresSettings,
  watch: (pid: number) => void,
): Promise<Server | undefined> {
  const logStart = await sizeOf(dataDir.log)
  const log = openSync(dataDir.log, 'a', 0o600)
  const [command, ...args] = [...launcher.prefix, binaries.postgres, ...serverArgs(dataDir.postgres, settings)]
  const child = spawn(command!, args, { ...identity(launcher), detached: true, stdio: ['ignore', log, log] })
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
  const reason = await readFrom(dataDir.log, logStart)
  // After a kill -9 the backends need a moment to notice that their postmaster is gone.
  if (/pre-existing shared memory block|lock file "postmaster.pid" already exists|could not lock/.test(reason)) {
    return undefined
  }
  if (outOfSpace.test(reason)) {
    throw new RungError(
      'DATA_DISK_FULL',
      `Postgres cannot recover, for the disk of ${dataDir.root} is full (No space left). Nothing is lost; free 20 MB or more.`,
    )
  }
  throw new RungError(
    'ENGINE_START_FAILED',
    `Postgres did not start on ${dataDir.postgres} (${outcome}): ${lastLines(reason)} See ${dataDir.log}.`,
  )
}

/** Waits as pg_ctl does, for the state in the server's own pid file. Resolves to a reason when time runs out. */
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
  /** Where it listens; with other settings than ours it may be elsewhere. */
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
  // A process that was just killed may keep its session for the moment that the server needs to see the closed socket.
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

/** The app's role and database, made once; the common start pays one connection attempt. */
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

/** The lock goes with the server, not before it: nobody may take over a server that is about to end. */
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
 * First an immediate shutdown, which a postmaster that was stopped takes once it goes on: it ends its sessions (after 5 s by
 * force) and takes its shared memory along. What SIGKILL leaves, the next start has to wait for; no commit is lost by either.
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

/** Waits for a server to end. Its pid file goes last; the process itself may stay a zombie while nobody reaps it. */
async function gone(dataDir: Pick<DataDir, 'postgres'>, pid: number): Promise<void> {
  const patientUntil = systemClock.ticks() + 60_000
  while (isRunning(pid) && (await readPidFile(dataDir))?.pid === pid) {
    if (systemClock.ticks() > patientUntil) process.kill(pid, 'SIGQUIT') // at once; the next start replays the log
    await sleep(10)
  }
}

async function sizeOf(file: string): Promise<number> {
  const handle = await open(file, 'a', 0o600)
  try {
    return (await handle.stat()).size
  } finally {
    await handle.close()
  }
}

async function readFrom(file: string, start: number): Promise<string> {
  const text = await readFile(file).catch(() => Buffer.alloc(0))
  return text.subarray(start).toString()
}

function lastLines(text: string): string {
  const lines = text.trim().split('\n').filter(Boolean)
  const fatal = lines.filter((line) => /FATAL|ERROR|HINT|PANIC|initdb:/.test(line))
  return (fatal.length > 0 ? fatal : lines).slice(-3).join(' ')
}
