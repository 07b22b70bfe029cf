import { readFileSync } from 'node:fs'
import { open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { totalmem } from 'node:os'
import path from 'node:path'
import { everyAlone, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { type Lsn, parseLsn } from '../../kernel/position.ts'
import { claim } from '../process/pid-file.ts'
import { makeDir } from '../process/server-process.ts'
import { findBinaries, findPostgresLauncher } from './binaries.ts'
import { type Client, type ConnectionConfig, connectOnce } from './client.ts'
import { copyPrimary, removeDrafts } from './copy.ts'
import { primaryDuties } from './duties.ts'
import type { EmbeddedEvent, MemberOptions } from './embedded.ts'
import { filesOf, firstMember, isSuperseded, lead } from './members.ts'
import { appDatabase, appRole, postgresMajor, replicaSettings } from './recipe.ts'
import { adminAt, findServer, type RunningServer, runServer, type ServerFiles, stopFoundServer } from './server.ts'
import { dropSlot, ensureSlot, renewSlot } from './slots.ts'

/**
 * A replica that Rung runs on the machine of its primary.
 *
 *   no folder ──copy──► start ──► follows ──cannot follow, or does not start──► copy beside, replace ──► start
 *                                    └──────promote──────► primary
 *
 * - Its folder is a cache of the primary's. It is replaced only by a complete copy, only while it is that of a replica, or of a primary
 *   that another one has replaced, and the event says why. Any other primary's folder is left alone: it may contain what nothing else contains.
 * - It starts without its primary if it has a copy: it can answer reads.
 * - How it is run and restarted is the same as for the primary (server.ts).
 */
export interface Standby {
  /** The app's own role and database; only for reads, until it is promoted. */
  readonly connection: ConnectionConfig
  readonly adminConnection: ConnectionConfig
  /** The postmaster's process id. */
  pid(): number | undefined
  answers(withinMs: number): Promise<boolean>
  /** Ends a server that hangs, so that it is restarted. */
  kill(): void
  /** Makes it the primary. It stays one over its restarts. */
  promote(): Promise<void>
  keeper(): Client
  stop(): Promise<void>
}

export interface StandbyPlace {
  /** Its own folder, such as `.rung/postgres-2`. */
  root: string
  /** `postgres-2`. */
  name: string
  /** Returns where the primary is now. */
  primary(): Promise<PrimaryPlace> | PrimaryPlace
}

export interface PrimaryPlace {
  dataFolder: string
  socketDir: string
}

export interface StandbyOptions extends StandbyPlace {
  /** `max_connections`; at least the primary's. */
  connectionsMax: number
  /** Whether a watchdog shuts it down when this process has died. */
  endsWithOwner?: boolean
  /** What it shows is at least this late; for tests of an app. */
  applyDelayMs?: number
  /** For tests: nothing is written through to the disk. */
  throwaway?: boolean
  /** As one of several servers that may be promoted, see members.ts. */
  member?: MemberOptions & {
    /** The folder `.rung`. */
    dataDir: string
    /** Whether it is the primary already. */
    leads: boolean
    /** What leads to the socket of the primary, whichever it is. */
    link: string
  }
  /** Called often during a copy. */
  onProgress?: (doneBytes: number, totalBytes: number) => void
  onEvent?: (event: StandbyEvent, detail: string) => void
  /** When aborted during the start, the copy or the server is ended. */
  over?: AbortSignal
}

/** `copying`: a copy of the primary begins, for this reason. */
export type StandbyEvent = EmbeddedEvent | 'copying' | 'copied'

/** Up to 2 GB of log may have to be replayed, and a copy is usable only at the place in the log where it ended. */
const startTimeoutMs = 600_000
const lookEveryMs = 500
/** A copy that does not start either is not made again for so long: the cause is elsewhere. */
const damagedAgainMs = 600_000

/**
 * Starts a replica, copying the primary at the first start, and resolves when it answers.
 * @throws DATA_DIR_IN_USE, DATA_DIR_PRIMARY, DATA_DIR_FOREIGN, DATA_DISK_FULL, BACKUP_UNSUPPORTED, ENGINE_*
 */
export async function startStandby(options: StandbyOptions): Promise<Standby> {
  const { name, throwaway, over, member } = options
  const files = filesOf(options)
  const { data, root, socketDir } = files
  const launcher = findPostgresLauncher(findBinaries())
  if (name !== firstMember) makeDir(root, launcher)
  const claimed = await claim(root, name)
  const tell = (event: StandbyEvent, detail: string) => options.onEvent?.(event, detail)
  const stopping = new AbortController()
  const log = newLinesOf(files.log)
  /** Why it cannot follow its primary. */
  let broken: string | undefined
  let server: RunningServer | undefined
  let leads = member?.leads ?? false
  const duties = member && primaryDuties(member.dataDir, tell)

  async function copy(reason: string, damaged = false): Promise<void> {
    tell('copying', reason)
    const began = systemClock.ticks()
    let bytes = 0
    const primary = await options.primary()
    await copyPrimary({
      from: primary.dataFolder,
      primary: adminAt(primary.socketDir),
      to: data,
      launcher,
      prepare: (client) => renewSlot(client, name),
      onProgress(done, total) {
        bytes = done
        options.onProgress?.(done, total)
      },
      throwaway,
      over: over ? AbortSignal.any([over, stopping.signal]) : stopping.signal,
    })
    await remember(root, { at: systemClock.now(), reason, damaged })
    await log.read() // what the replaced server wrote
    broken = undefined
    const [megabytes, seconds] = [bytes / 1024 ** 2, (systemClock.ticks() - began) / 1000]
    tell('copied', `${megabytes.toFixed(0)} MB in ${seconds.toFixed(1)} s`)
  }

  /** A server that does not start, though the same programs run the primary, has damaged files, unless the machine is the cause. */
  async function repair(error: unknown): Promise<boolean> {
    const reason = messageOf(error)
    if (leads) return duties!.disk.makeRoom(reason)
    if (broken === undefined && (machineTrouble.test(reason) || (await wasJustDamaged(root)))) return false
    await copy(broken ?? `it does not start: ${reason}`, broken === undefined)
    return true
  }

  async function look(): Promise<void> {
    const found = whatIsWrong(await log.read())
    if (leads || found === undefined || stopping.signal.aborted) return
    if (found === 'slot') return void (await withPrimary(options, (primary) => ensureSlot(primary, name)))
    broken = found
    await server?.renew(found, () => copy(found))
  }

  async function becomePrimary(keeper: Client): Promise<void> {
    await lead(keeper)
    duties?.begin(() => server?.keeper() ?? keeper, socketDir)
  }

  await log.read()
  const stopLooking = everyAlone(lookEveryMs, () => look().catch(() => {})) // the primary is away: it looks again
  try {
    await removeDrafts(data)
    const reason = leads ? undefined : await whyCopy(files, options)
    if (reason !== undefined) await copy(reason)
    else if (!leads) await withPrimary(options, (primary) => ensureSlot(primary, name)).catch(() => {})
    const follows = member?.link ?? (await options.primary()).socketDir
    server = await runServer({
      ...files,
      settings: () =>
        replicaSettings({
          name,
          memoryBytes: totalmem(),
          socketDir,
          primarySocketDir: follows,
          isMember: member !== undefined,
          connectionsMax: Math.max(options.connectionsMax, connectionsOf(data)),
          applyDelayMs: options.applyDelayMs,
          ...(throwaway && { throwaway }),
        }),
      endsWithOwner: options.endsWithOwner ?? false,
      startTimeoutMs,
      givesUp: () => (leads ? undefined : broken),
      ...(member && { mayReturn: member.mayReturn, kill: member.kill }),
      repair,
      async onUp(keeper) {
        if (leads) await becomePrimary(keeper)
      },
      onEvent: tell,
      ...(over && { over }),
    })
  } catch (error) {
    stopping.abort()
    await stopLooking()
    await claimed.release()
    throw error
  }
  const running = server
  tell(running.how, `process ${running.pid()}`)
  const adminConnection = { ...adminAt(socketDir), database: appDatabase }
  return {
    connection: { ...adminConnection, user: appRole },
    adminConnection,
    pid: running.pid,
    answers: running.answers,
    kill: running.kill,
    keeper: running.keeper,
    async promote() {
      leads = true
      await becomePrimary(running.keeper())
    },
    async stop() {
      stopping.abort(new Error(`${name} is being stopped`))
      const ended = duties?.end()
      await running.stop()
      await ended
      await stopLooking()
      await claimed.release()
    },
  }
}

/**
 * Removes a replica: its slot on the primary, and its folder. A server that still runs there without an owner is stopped.
 * @throws DATA_DIR_IN_USE, DATA_DIR_PRIMARY, DATA_DIR_FOREIGN; anything if the primary does not answer
 */
export async function removeStandby(place: StandbyPlace): Promise<void> {
  const { root, data, socketDir } = filesOf(place)
  const claimed = await claim(root, place.name)
  try {
    await checkReplica(data)
    const found = await findServer(data)
    if (found) await stopFoundServer(data, found)
    await withPrimary(place, (primary) => dropSlot(primary, place.name))
    await rm(data, { recursive: true, force: true, maxRetries: 5 })
    await rm(socketDir, { recursive: true, force: true })
  } finally {
    await claimed.release()
  }
  await rm(root, { recursive: true, force: true, maxRetries: 5 })
}

async function withPrimary<T>(place: StandbyPlace, work: (primary: Client) => Promise<T>): Promise<T> {
  const client = await connectOnce(adminAt((await place.primary()).socketDir))
  return work(client).finally(() => client.end())
}

/** Returns whether there is a replica in the folder. @throws if there is anything else */
async function checkReplica(data: string): Promise<boolean> {
  const names = await readdir(data).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  if (names.length === 0) return false
  if (names.includes('standby.signal') || (await isSuperseded(data))) return true
  if (names.includes('PG_VERSION')) {
    throw new RungError(
      'DATA_DIR_PRIMARY',
      `${data} is the data of a primary, not of a replica, and may contain what no other copy contains. Move the folder away if you do not need it; a new copy is made then.`,
    )
  }
  throw new RungError(
    'DATA_DIR_FOREIGN',
    `${data} is not a Postgres data directory. Move it away; a copy of the database is made there then.`,
  )
}

/** Returns why the folder must be copied before a start; `undefined` if it may be used. */
async function whyCopy({ data }: ServerFiles, options: StandbyOptions): Promise<string | undefined> {
  if (!(await checkReplica(data))) return 'there is no copy yet'
  if (await isSuperseded(data)) return 'another server has become the primary in its place'
  const version = await readFile(path.join(data, 'PG_VERSION'), 'utf8').catch(() => undefined)
  const control = readControl(data)
  if (version === undefined || control === undefined) return 'its files are damaged'
  if (Number(version) !== postgresMajor) return `it belongs to Postgres ${version.trim()}`
  const state = await withPrimary(options, primaryState).catch(() => undefined)
  if (state === undefined) return undefined // it can answer reads without its primary
  if (control.system !== state.system) return 'it belongs to another database'
  return hasDiverged(control, state) ? diverged : undefined
}

const diverged = 'its history has diverged from that of the primary'

/** How far a server is. */
interface Reached {
  timeline: number
  lsn: Lsn
}

interface PrimaryState extends Reached {
  system: bigint
  /** The places at which its earlier timelines ended. */
  history: readonly Reached[]
}

async function primaryState(primary: Client): Promise<PrimaryState> {
  const { rows } = await primary.query(
    `select system_identifier::text as system, left(pg_walfile_name(lsn), 8) as timeline, lsn,
        pg_read_file('pg_wal/' || left(pg_walfile_name(lsn), 8) || '.history', true) as history
      from pg_control_system(), pg_current_wal_flush_lsn() as lsn`,
  )
  const [{ system, timeline, lsn, history }] = rows as [Record<string, string | null>]
  const lines = (history ?? '').matchAll(/^\s*(\d+)\s+(\S+)/gm)
  return {
    system: BigInt(system!),
    timeline: Number.parseInt(timeline!, 16),
    lsn: parseLsn(lsn!)!,
    history: [...lines].map(([, number, end]) => ({ timeline: Number(number), lsn: parseLsn(end!) ?? 0n })),
  }
}

/**
 * Whether a replica contains something that its primary does not. Its log finds the rest: what is asked here is found before a
 * query can see it. Pure.
 */
export function hasDiverged(replica: Reached, primary: Omit<PrimaryState, 'system'>): boolean {
  if (replica.timeline === 0) return false // of an unknown format
  if (replica.timeline === primary.timeline) return replica.lsn > primary.lsn
  const end = primary.history.find(({ timeline }) => timeline === replica.timeline)
  return end === undefined || replica.lsn > end.lsn
}

interface Control extends Reached {
  system: bigint
  connectionsMax: number
}

/** The format of Postgres 18. */
const controlVersion = 1800

/**
 * Reads parts of `ControlFileData` (src/include/catalog/pg_control.h): the system, the place up to which its pages may have been written, and
 * `max_connections` of the primary. Returns `undefined` if the file cannot be read.
 */
function readControl(data: string): Control | undefined {
  try {
    const bytes = readFileSync(path.join(data, 'global', 'pg_control'))
    const system = bytes.readBigUInt64LE(0)
    if (bytes.readUInt32LE(8) !== controlVersion) return { system, timeline: 0, lsn: 0n, connectionsMax: 0 }
    const connectionsMax = bytes.readInt32LE(180)
    const minRecoveryPoint = bytes.readBigUInt64LE(136)
    // A server that was a primary, as the source of a copy is, has only its last checkpoint.
    return minRecoveryPoint === 0n
      ? { system, connectionsMax, lsn: bytes.readBigUInt64LE(32), timeline: bytes.readUInt32LE(48) }
      : { system, connectionsMax, lsn: minRecoveryPoint, timeline: bytes.readUInt32LE(144) }
  } catch {
    return undefined
  }
}

/** A replica refuses to start with fewer connections than its primary had at that place of the log. */
function connectionsOf(data: string): number {
  return readControl(data)?.connectionsMax ?? 0
}

/** Messages of Postgres, on causes for which a copy is no remedy. */
const machineTrouble =
  /No space left|quota exceeded|Cannot allocate memory|shared memory|Too many open files|Permission denied|Operation not permitted|could not create (lock file|Unix)|could not bind|unrecognized configuration|invalid value for parameter|could not load library|terminated by signal (9|15)|\(SIG[A-Z]+\)|told to stop|not ready after|is full/i

/** Messages of Postgres, and what they mean for a replica. */
const causes: readonly [RegExp, string][] = [
  [/can no longer access replication slot|replication slot "[^"]*" (does not exist|has been invalidated)/, 'slot'],
  [/requested WAL segment \S+ has already been removed/, 'the log that it needs is gone from the primary'],
  [/database system identifier differs/, 'it belongs to another database'],
  [
    /forked off current database system timeline|is behind recovery timeline|is not a child of this server's history|is not in this server's history|is ahead of the WAL flush position/,
    diverged,
  ],
  [/insufficient parameter settings/, 'it cannot replay a change of settings of the primary'],
]

/** Returns what these lines of the log of a replica mean: a reason to copy it anew, or `slot` if its slot has to be made. Pure. */
export function whatIsWrong(lines: string): string | undefined {
  const found = causes.filter(([pattern]) => pattern.test(lines)).map(([, meaning]) => meaning)
  return found.find((meaning) => meaning !== 'slot') ?? found[0]
}

/** Reads what was added to a file since the last time, at most its last 64 KiB. */
function newLinesOf(file: string): { read(): Promise<string> } {
  let at = 0
  return {
    async read() {
      const size = await stat(file).then(
        (found) => found.size,
        () => 0,
      )
      if (size === at) return ''
      const from = Math.max(size < at ? 0 : at, size - 65_536)
      const handle = await open(file, 'r')
      try {
        const bytes = Buffer.alloc(size - from)
        const { bytesRead } = await handle.read(bytes, 0, bytes.length, from)
        at = from + bytesRead
        return bytes.subarray(0, bytesRead).toString()
      } finally {
        await handle.close()
      }
    },
  }
}

interface Copied {
  /** ms since the epoch. */
  at: number
  reason: string
  damaged: boolean
}

async function remember(root: string, copied: Copied): Promise<void> {
  await writeFile(path.join(root, 'copied.json'), `${JSON.stringify(copied)}\n`, { mode: 0o600 })
}

async function wasJustDamaged(root: string): Promise<boolean> {
  try {
    const { at, damaged } = JSON.parse(await readFile(path.join(root, 'copied.json'), 'utf8')) as Copied
    return damaged && systemClock.now() - at < damagedAgainMs
  } catch {
    return false
  }
}
