import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { chown, readdir, rename, rm } from 'node:fs/promises'
import { tmpdir, totalmem } from 'node:os'
import path from 'node:path'
import { after, sleep, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { isRunning } from '../process/is-running.ts'
import { identityOf } from '../process/launcher.ts'
import { findBinaries, findPostgresLauncher } from './binaries.ts'
import { type ConnectionConfig, connectOnce } from './client.ts'
import { type DataDir, openDataDir } from './data-dir.ts'
import type { DiskEvent } from './disk.ts'
import { primaryDuties } from './duties.ts'
import { bringHome, firstMember, lead, memberFiles, readPrimacy } from './members.ts'
import { appDatabase, appRole, initdbArgs, settings, setupStatements, socketDirFor, superuser } from './recipe.ts'
import {
  adminAt,
  type FoundServer,
  findServer,
  lastLines,
  type RunningServer,
  readPidFile,
  runServer,
  stopFoundServer,
} from './server.ts'

/** The Postgres that Rung starts itself; server.ts says how it runs. */
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
export interface OwnedPostgres extends EmbeddedPostgres, Pick<RunningServer, 'keeper'> {
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
  /** As one of several servers, see members.ts. */
  member?: MemberOptions
  /** Called on changes that should be logged. */
  onEvent?: (event: EmbeddedEvent, detail: string) => void
}

export type EmbeddedEvent = 'started' | 'adopted' | 'lost' | 'recovered' | 'replaced' | DiskEvent

export interface MemberOptions {
  /** Asked before it is started again after it was lost; `false` if another server has taken its place. */
  mayReturn(why: string): Promise<boolean>
  /** Kills all of its processes. */
  kill(): Promise<void>
}

/** Enough for the slowest disks. */
const initdbMsMax = 300_000
const startTimeoutMs = 60_000 // crash recovery replays the log before it answers

/**
 * Starts Postgres on `root`, creating it at the first start, and returns when it answers.
 * @throws DATA_DIR_* for a wrong folder, DATA_DIR_IN_USE when another process runs on it, ENGINE_*
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<OwnedPostgres> {
  const dataDir = await openDataDir(path.resolve(options.root))
  const socketDir = socketDirFor(dataDir.root, tmpdir())
  const { connectionsMax, throwaway, member } = options
  const wanted = settings({
    memoryBytes: totalmem(),
    socketDir,
    connectionsMax,
    isMember: member !== undefined,
    ...(throwaway && { throwaway }),
  })
  const keeperConnection = adminAt(socketDir)
  const adminConnection = { ...keeperConnection, database: appDatabase }
  const connection = { ...adminConnection, user: appRole }
  const duties = primaryDuties(dataDir.root, (event, detail) => options.onEvent?.(event, detail))
  let cramped = false

  if (!member) await bringHome(dataDir.root)
  await removeAbandoned(dataDir)
  if (!(await hasDatabase(dataDir))) await initialise(dataDir)
  const server = await runServer({
    root: dataDir.root,
    data: dataDir.postgres,
    log: dataDir.log,
    socketDir,
    settings: () => wanted,
    endsWithOwner: options.endsWithOwner ?? false,
    startTimeoutMs,
    ...(member && { mayReturn: member.mayReturn, kill: member.kill }),
    /** On a full disk the reserve is freed, so that the database can at least be read. */
    async repair(error) {
      cramped = await duties.disk.makeRoom(messageOf(error))
      return cramped
    },
    async onUp(keeper) {
      await lead(keeper) // it may have been chosen as the primary, and everything stopped before it was promoted
      if (cramped) await duties.disk.look(keeper).catch(() => {}) // before writers use the freed space
      cramped = false
    },
    onEvent: (event, detail) => options.onEvent?.(event, detail),
  })
  try {
    await setUp(keeperConnection, connection)
  } catch (error) {
    await server.stop()
    throw error
  }
  options.onEvent?.(server.how, `process ${server.pid()}`)
  duties.begin(server.keeper, socketDir)
  return {
    connection,
    adminConnection,
    dataDir,
    keeper: server.keeper,
    pid: server.pid,
    answers: server.answers,
    kill: server.kill,
    async stop() {
      const ended = duties.end()
      await server.stop()
      await ended
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

/** Finds a running server of a `.rung` folder. */
export function findRunning(root: string): Promise<FoundServer | undefined> {
  return findServer(memberFiles(root, firstMember).data)
}

/** Stops a server that no process owns, and waits for its end. */
export function stopFound(root: string, found: FoundServer): Promise<void> {
  return stopFoundServer(memberFiles(root, firstMember).data, found)
}

/** Connects to the primary, which another process runs. */
async function reach(dataDir: DataDir): Promise<EmbeddedPostgres | undefined> {
  const { primary } = await readPrimacy(dataDir.root)
  const file = await readPidFile(memberFiles(dataDir.root, primary).data)
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

/** Runs initdb in another folder and renames it: a start that is killed half-way leaves nothing that hinders the next one. */
async function initialise(dataDir: DataDir): Promise<void> {
  const binaries = findBinaries()
  const launcher = findPostgresLauncher(binaries)
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
