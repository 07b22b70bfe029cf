import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, realpath } from 'node:fs/promises'
import path from 'node:path'
import { writeWholeSynced } from '../engines/disk/atomic.ts'
import {
  type Client,
  type ConnectionConfig,
  connectOnce,
  connectReplication,
  type ReplicationClient,
} from '../engines/postgres/client.ts'
import { archiverSlot } from '../engines/postgres/recipe.ts'
import { every, sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, RungError } from '../kernel/errors.ts'
import { formatLsn, type Lsn, parseLsn } from '../kernel/position.ts'
import { backoffMs } from '../kernel/random.ts'
import { type Archive, openArchive } from './archive.ts'
import { archived } from './channels.ts'
import { type Left, parseHistory } from './history.ts'
import { historyName, indexOf, lsnOf, segmentName, systemFolder, timelineFolder, walFolder } from './layout.ts'
import { readMessage, standbyStatus } from './wire.ts'

/**
 * Follows the server's log into the archive, as a standby would: the server sends each commit as it becomes durable, and a
 * replication slot keeps what has not been confirmed yet. A restart of either side therefore leaves no gap. The slot is bounded
 * (`recipe.ts`), so that an archiver that never comes back does not fill the disk.
 *
 *   waiting ──lock──► connected ──START_REPLICATION──► streaming ──stop──► the rest is archived ──► ended
 *      ▲                                                   │
 *      └──────── back off ◄── connection or disk fails ◄───┘
 *
 * After a failover the new primary has a new timeline. It is archived from the segment in which it began, which contains what came before.
 */
export interface Archiver {
  /** Resolves once the log streams; rejects when it never will. */
  readonly streaming: Promise<void>
  state(): ArchiveState
  /** Resolves once the log up to `lsn` is safe in the archive. */
  reached(lsn: Lsn): Promise<void>
  /** Archives what is committed by now, if the server answers, and ends. */
  stop(): Promise<void>
}

export interface ArchiveState {
  /** The database's system identifier, once known. */
  system: string | undefined
  /** The timeline that is archived, once known. */
  timeline: number | undefined
  /** The log is safe in the archive up to here. */
  lsn: Lsn
  /** Everything committed until then is safe; ms since the epoch, 0 if nothing is known yet. */
  at: number
  /** End of the server's log when it was last asked. */
  serverLsn: Lsn
}

export type ArchiverEvent =
  /** `gap`: the archive could not be continued from where it stopped; it needs a new base backup. */
  { kind: 'streaming'; from: Lsn; gap: boolean } | { kind: 'lost'; error: unknown }

export interface ArchiverOptions {
  /** Returns where the primary is now: of a superuser, or of a role with REPLICATION that may list the log's directory. */
  primary(): Promise<ConnectionConfig>
  backupDir: string
  /**
   * `kept`: the slot outlives the archiver's connection, and a lost connection is opened again forever. `temporary`: the slot ends
   * with the connection, and the archiver with the first failure.
   */
  slot: 'kept' | 'temporary'
  onEvent?: (event: ArchiverEvent) => void
}

/** A loss is at most this much, and the time that the disk needs for one flush. */
const flushEveryMs = 250
/** On an idle server the archived time still advances. */
const idleFlushEveryMs = 1_000
const queueBytesMax = 8 * 1024 ** 2
const finishMsMax = 2_000
/** The server needs a moment to notice that a killed archiver's connections are closed. */
const lingersMs = 1_000
const lockClass = 0x6261636b // 'back'

export function startArchiver(options: ArchiverOptions): Archiver {
  const over = new AbortController()
  const started = Promise.withResolvers<void>()
  started.promise.catch(() => {})
  let waiters: { lsn: Lsn; resolve: () => void; reject: (error: unknown) => void }[] = []
  const state: ArchiveState = { system: undefined, timeline: undefined, lsn: 0n, at: 0, serverLsn: 0n }

  function onSafe(lsn: Lsn, at: number): void {
    state.lsn = lsn
    state.at = at
    for (const waiter of waiters) if (waiter.lsn <= lsn) waiter.resolve()
    waiters = waiters.filter((waiter) => waiter.lsn > lsn)
    if (archived.hasSubscribers) archived.publish({ backupDir: options.backupDir, at })
  }

  async function run(): Promise<void> {
    const lingersUntil = systemClock.ticks() + lingersMs
    for (let attempt = 0; !over.signal.aborted; attempt += 1) {
      try {
        await follow(options, over.signal, state, onSafe, (event) => {
          attempt = 0
          options.onEvent?.(event)
          started.resolve()
        })
      } catch (error) {
        if (over.signal.aborted) break
        if (options.slot === 'kept' && isRungError(error, 'BACKUP_RUNNING') && systemClock.ticks() < lingersUntil) {
          await sleep(50, over.signal).catch(() => {})
          continue
        }
        options.onEvent?.({ kind: 'lost', error })
        if (options.slot === 'temporary') {
          started.reject(error)
          for (const waiter of waiters) waiter.reject(error)
          return
        }
        await sleep(100 + backoffMs(attempt, 100, 5_000), over.signal).catch(() => {})
      }
    }
    const stopped = new RungError('BACKUP_FAILED', 'The archiver was stopped. Run it again.')
    started.reject(stopped)
    for (const waiter of waiters) waiter.reject(stopped)
  }
  const running = run()

  return {
    streaming: started.promise,
    state: () => state,
    reached(lsn) {
      if (state.lsn >= lsn) return Promise.resolve()
      return new Promise((resolve, reject) => waiters.push({ lsn, resolve, reject }))
    },
    stop() {
      over.abort()
      return running
    },
  }
}

/** Streams over one connection; returns after `over`, throws when the connection or the disk fails. */
async function follow(
  options: ArchiverOptions,
  over: AbortSignal,
  state: ArchiveState,
  onSafe: (lsn: Lsn, at: number) => void,
  onStreaming: (event: ArchiverEvent) => void,
): Promise<void> {
  const connection = await options.primary()
  const sql = await connectOnce(connection)
  let replication: ReplicationClient | undefined
  let archive: Archive | undefined
  let stopTicking = () => {}
  try {
    replication = await connectReplication(connection)
    const begun = await prepare(options, sql, replication)
    archive = begun.archive
    const { slot, from, gap, timeline } = begun
    state.system = begun.system
    state.timeline = timeline
    state.lsn = from

    let queue: Buffer[] = []
    let queuedBytes = 0
    let reported = false
    let arrived = Promise.withResolvers<void>()
    let tick = Promise.withResolvers<void>()
    stopTicking = every(flushEveryMs, () => tick.resolve())
    over.addEventListener('abort', () => tick.resolve(), { once: true })
    const { send, pause, resume } = replication
    const log = archive
    const streamed = replication
      .stream(`START_REPLICATION SLOT "${slot}" PHYSICAL ${formatLsn(from)} TIMELINE ${timeline}`, (chunk) => {
        const message = readMessage(chunk)
        if (!reported) onStreaming({ kind: 'streaming', from, gap })
        reported = true
        if (message?.kind === 'alive' && message.replyWanted) send(standbyStatus(log.end(), state.lsn, now()))
        if (message?.kind !== 'log') return
        queue.push(Buffer.from(message.bytes))
        queuedBytes += message.bytes.length
        if (queuedBytes > queueBytesMax) pause()
        arrived.resolve()
      })
      .then(() => {
        throw new RungError('BACKUP_FAILED', 'The server ended the stream of its log. It is followed again.')
      })
    send(standbyStatus(from, from, now(), true))

    /** Writes at once: what the system has survives a kill of this process. */
    const write = async (): Promise<never> => {
      for (;;) {
        await Promise.race([arrived.promise, streamed])
        arrived = Promise.withResolvers()
        const pieces = queue
        queue = []
        queuedBytes = 0
        for (const piece of pieces) await log.append(piece)
        resume()
      }
    }

    const flush = async (): Promise<void> => {
      let mark: Mark | undefined
      let flushedAt = Number.NEGATIVE_INFINITY
      let finishUntil: number | undefined
      for (;;) {
        await tick.promise
        tick = Promise.withResolvers()
        if (over.aborted && finishUntil === undefined) {
          finishUntil = systemClock.ticks() + finishMsMax
          mark = undefined // take the last one now
        }
        mark ??= await takeMark(sql)
        state.serverLsn = mark.lsn
        const caughtUp = log.end() >= mark.lsn
        const idleMs = systemClock.ticks() - flushedAt
        if (log.end() > state.lsn || idleMs >= idleFlushEveryMs || over.aborted) {
          const at = caughtUp ? mark.at : state.at
          const lsn = await log.flush(at)
          flushedAt = systemClock.ticks()
          onSafe(lsn, at)
          send(standbyStatus(lsn, lsn, now()))
        }
        if (finishUntil !== undefined && (caughtUp || systemClock.ticks() > finishUntil)) return
        if (caughtUp) mark = undefined
      }
    }
    const writing = write()
    await Promise.race([writing, flush()])
  } catch (error) {
    if ((error as { code?: string }).code === '55006') throw busy(options.backupDir) // the slot is in use
    throw error
  } finally {
    stopTicking()
    await replication?.end().catch(() => {})
    await archive?.close().catch(() => {})
    await sql.end().catch(() => {})
  }
}

const now = () => systemClock.now()

/** Everything committed until `at` lies before `lsn`: the clock is read first. */
interface Mark {
  at: number
  lsn: Lsn
}

async function takeMark(sql: Client): Promise<Mark> {
  const { rows } = await sql.query(
    'select (extract(epoch from clock_timestamp()) * 1000)::float8 as at, pg_current_wal_flush_lsn()::text as lsn',
  )
  return { at: Math.floor(rows[0].at), lsn: parseLsn(rows[0].lsn)! }
}

/** Where the archive is continued. */
interface Begun {
  archive: Archive
  timeline: number
  from: Lsn
  gap: boolean
}

/** Finds the database's folder, makes sure that no other process archives there, and finds where to continue. */
async function prepare(options: ArchiverOptions, sql: Client, replication: ReplicationClient) {
  // Its stream would end with the promotion, without a word.
  const { rows: states } = await sql.query('select pg_is_in_recovery() as promoting')
  if (states[0].promoting) throw new RungError('BACKUP_FAILED', 'The server is not the primary yet. It is asked again.')
  const { systemid, timeline: current, xlogpos } = await replication.command('IDENTIFY_SYSTEM')
  const timeline = Number(current)
  await mkdir(options.backupDir, { recursive: true, mode: 0o700 })
  const folder = systemFolder(await realpath(options.backupDir), systemid!)
  if (!(await holdsLock(sql, folder))) throw busy(options.backupDir)
  await mkdir(timelineFolder(folder, timeline), { recursive: true, mode: 0o700 })
  const history = timeline > 1 ? parseHistory(await keepHistory(replication, folder, timeline)) : []
  const { rows } = await sql.query(`select setting::int as bytes from pg_settings where name = 'wal_segment_size'`)
  const segmentBytes: number = rows[0].bytes
  const slot = await takeSlot(options.slot, sql, replication)
  const place = { folder, segmentBytes, sql }
  const left = history.at(-1)
  const begun = await continueAt(place, timeline, left, slot.restartLsn)
  const { archive, from } = begun
  const { resumable } = archive
  if (resumable !== undefined && resumable > parseLsn(xlogpos!)!) {
    await archive.close()
    throw foreign(folder, 'the archive is ahead of this database')
  }
  await archive.begin(from)
  return { ...begun, slot: slot.name, system: systemid! }
}

interface ArchivePlace {
  folder: string
  segmentBytes: number
  sql: Client
}

async function continueAt(
  { folder, segmentBytes, sql }: ArchivePlace,
  timeline: number,
  left: Left | undefined,
  keptFrom: Lsn,
): Promise<Begun> {
  const startOf = (lsn: Lsn) => lsnOf(indexOf(lsn, segmentBytes), 0, segmentBytes)
  const archive = await openArchive(timelineFolder(folder, timeline), timeline, segmentBytes)
  const { resumable } = archive
  const begun = { archive, timeline }
  if (resumable !== undefined && (await isOnServer(sql, resumable, timeline, segmentBytes))) {
    return { ...begun, from: resumable, gap: false }
  }
  // The server has no earlier segment of its timeline than the one in which it began.
  const first = left && startOf(left.end)
  const from = first !== undefined && startOf(keptFrom) < first ? first : startOf(keptFrom)
  return { ...begun, from, gap: true } // a base backup of its own, from which a restore need not cross timelines
}

/** The lock belongs to the connection, so it ends with the archiver. */
async function holdsLock(sql: Client, folder: string): Promise<boolean> {
  const key = createHash('sha256').update(folder).digest().readInt32BE()
  const { rows } = await sql.query('select pg_try_advisory_lock($1::int, $2::int) as held', [lockClass, key])
  return rows[0].held
}

function busy(backupDir: string): RungError {
  return new RungError(
    'BACKUP_RUNNING',
    `Another process, perhaps the app itself, archives the log of this database (requested for ${backupDir}). One archiver is enough; stop the other one first to replace it.`,
  )
}

/** Two databases restored from one backup may both be timeline 2. Only one of them may archive here: the first that does, whoever reserved it. */
async function keepHistory(replication: ReplicationClient, folder: string, timeline: number): Promise<string> {
  const { content } = await replication.command(`TIMELINE_HISTORY ${timeline}`)
  const text = String(content)
  const file = path.join(walFolder(folder), historyName(timeline))
  const known = await readFile(file, 'utf8').catch(() => undefined)
  if (known === undefined) await writeWholeSynced(file, text)
  else if (known !== text) {
    const isArchived = (await readdir(timelineFolder(folder, timeline))).length > 0
    if (isArchived) throw foreign(folder, `timeline ${timeline} branched off elsewhere`)
    await writeWholeSynced(file, text)
  }
  return text
}

function foreign(folder: string, why: string): RungError {
  return new RungError(
    'BACKUP_FOREIGN',
    `${folder} belongs to another copy of this database: ${why}. Set RUNG_BACKUP_DIR to a new directory for this one.`,
  )
}

async function takeSlot(kind: 'kept' | 'temporary', sql: Client, replication: ReplicationClient) {
  const name = kind === 'kept' ? archiverSlot : `${archiverSlot}_${process.pid}`
  const look = async () =>
    (await sql.query('select wal_status, restart_lsn::text from pg_replication_slots where slot_name = $1', [name]))
      .rows[0]
  let slot = await look()
  if (slot?.wal_status === 'lost') {
    await sql.query('select pg_drop_replication_slot($1)', [name]) // the archiver was away for too long
    slot = undefined
  }
  if (!slot) {
    const temporary = kind === 'temporary' ? 'TEMPORARY ' : ''
    await replication.command(`CREATE_REPLICATION_SLOT "${name}" ${temporary}PHYSICAL RESERVE_WAL`)
    slot = await look()
  }
  return { name, restartLsn: parseLsn(slot.restart_lsn)! }
}

/** At the start of a segment the file before it is enough: the next one may not exist yet. */
async function isOnServer(sql: Client, lsn: Lsn, timeline: number, segmentBytes: number): Promise<boolean> {
  const index = indexOf(lsn, segmentBytes)
  const wanted = [segmentName(timeline, index, segmentBytes)]
  if (lsn === lsnOf(index, 0, segmentBytes)) wanted.push(segmentName(timeline, index - 1, segmentBytes))
  const { rows } = await sql.query('select 1 from pg_ls_waldir() where name = any($1)', [wanted])
  return rows.length > 0
}
