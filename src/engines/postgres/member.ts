import { atMost, sleep, systemClock } from '../../kernel/clock.ts'
import { isRungError, messageOf } from '../../kernel/errors.ts'
import { type Lsn, parseLsn } from '../../kernel/position.ts'
import { backoffMs } from '../../kernel/random.ts'
import type { DatabaseMember, Standbys } from '../process/engine.ts'
import { endAllIn } from '../process/processes-in.ts'
import { type Client, connectOnce } from './client.ts'
import { openDataDir } from './data-dir.ts'
import { type EmbeddedEvent, type OwnedPostgres, startEmbedded } from './embedded.ts'
import {
  bringHome,
  checkRecord,
  firstMember,
  markIfSuperseded,
  memberFiles,
  primaryLink,
  primaryPlace,
  readPrimacy,
  setSynchronous,
  synchronousSetting,
  writePrimacy,
} from './members.ts'
import { synchronousNames } from './recipe.ts'
import { adminAt } from './server.ts'
import { ensureSlot } from './slots.ts'
import { type Standby, type StandbyEvent, startStandby } from './standby.ts'

/**
 * One of several servers of a database that Rung runs, whichever role it has: it starts as what `.rung/primary.json` says, is promoted when it
 * is told to, and becomes a replica when another one has taken its place while it was lost.
 */
export interface Member extends DatabaseMember, Pick<OwnedPostgres, 'pid' | 'answers' | 'kill' | 'stop'> {}

export interface StartMemberOptions {
  /** The folder `.rung`. */
  dataDir: string
  name: string
  connectionsMax: number
  endsWithOwner?: boolean
  /** For tests: nothing is written through to the disk. */
  throwaway?: boolean
  /** Asked before a lost server is started again; `false` if another one has taken its place. */
  mayReturn(name: string, why: string): Promise<boolean>
  onEvent?: (event: StandbyEvent, detail: string) => void
  onProgress?: (doneBytes: number, totalBytes: number) => void
  over?: AbortSignal
}

const followAgainMs = { base: 500, cap: 10_000 }
const receiverGoneWithinMs = 500
const takesEffectWithinMs = 5_000

/**
 * Starts a member as what it is, and resolves when it answers.
 * @throws what `startEmbedded` and `startStandby` throw
 */
export async function startMember(options: StartMemberOptions): Promise<Member> {
  const { dataDir, name, connectionsMax, endsWithOwner = false, throwaway = false } = options
  const { root, data, socketDir } = memberFiles(dataDir, name)
  const stopping = new AbortController()
  const over = options.over ? AbortSignal.any([options.over, stopping.signal]) : stopping.signal
  const own = {
    mayReturn: (why: string) => options.mayReturn(name, why),
    kill: () => endAllIn(data),
  }
  let now: OwnedPostgres | Standby
  let isUp = false
  let isPrimary = false
  /** The work of becoming a replica. */
  let following: Promise<void> | undefined

  function onEvent(event: StandbyEvent | EmbeddedEvent, detail: string): void {
    if (event === 'lost') isUp = false
    if (event === 'recovered') isUp = true
    options.onEvent?.(event, detail)
    if (event !== 'replaced') return
    isPrimary = false
    following = follow().catch(() => {}) // it was stopped
  }

  async function standby(leads: boolean): Promise<Standby> {
    if (!leads) await markIfSuperseded(dataDir, name)
    return startStandby({
      root,
      name,
      connectionsMax,
      endsWithOwner,
      throwaway,
      primary: () => primaryPlace(dataDir),
      member: { ...own, dataDir, leads, link: primaryLink(dataDir) },
      onEvent,
      ...(options.onProgress && { onProgress: options.onProgress }),
      over,
    })
  }

  async function start(): Promise<OwnedPostgres | Standby> {
    await openDataDir(dataDir)
    if (name === firstMember) await comeHome(dataDir)
    const primacy = await readPrimacy(dataDir)
    isPrimary = primacy.primary === name
    if (!isPrimary) return standby(false)
    await checkRecord(dataDir, name)
    // Until its replicas have caught up, commits are on this server alone.
    await writePrimacy(dataDir, { ...primacy, synchronous: [] })
    if (name !== firstMember) return standby(true)
    return startEmbedded({ root: dataDir, connectionsMax, endsWithOwner, throwaway, member: own, onEvent })
  }

  async function follow(): Promise<void> {
    await now.stop()
    for (let attempt = 1; !over.aborted; attempt += 1) {
      try {
        now = await standby(false)
        isUp = true
        options.onEvent?.('recovered', 'it is a replica now')
        return
      } catch (error) {
        options.onEvent?.('lost', messageOf(error))
        await sleep(backoffMs(attempt, followAgainMs.base, followAgainMs.cap), over)
      }
    }
  }

  now = await start()
  isUp = true
  return {
    name,
    pid: () => now.pid(),
    answers: (withinMs) => now.answers(withinMs),
    kill: () => now.kill(),
    isPrimary: () => isPrimary,
    leads: () => isPrimary && isUp,
    received: (withinMs) => receivedAt(socketDir, withinMs),
    async promote(replicas) {
      if (!('promote' in now)) throw new TypeError(`${name} is no replica`)
      isPrimary = true
      await now.promote()
      // A replica asks for its slot itself, should this fail.
      for (const replica of replicas) await ensureSlot(now.keeper(), replica).catch(() => {})
    },
    standbys: () => standbysOf(now.keeper()),
    waitFor: (replicas) => waitFor(now.keeper(), replicas),
    async stop() {
      stopping.abort(new Error(`${name} is being stopped`))
      await following
      await now.stop()
    },
  }
}

/** While the primary runs elsewhere, this folder is a replica's. */
async function comeHome(dataDir: string): Promise<void> {
  await bringHome(dataDir).catch((error) => {
    if (!isRungError(error, 'DATA_DIR_IN_USE')) throw error
  })
}

async function receivedAt(socketDir: string, withinMs: number): Promise<Lsn | undefined> {
  let client: Client | undefined
  let found: Lsn | undefined
  async function ask(): Promise<void> {
    client = await connectOnce(adminAt(socketDir))
    const giveUpAt = systemClock.ticks() + Math.min(withinMs, receiverGoneWithinMs)
    for (;;) {
      const { rows } = await client.query(
        `select exists (select from pg_stat_wal_receiver where status = 'streaming') as receives,
          case when pg_last_wal_receive_lsn() is not null
            then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) end::text as received`,
      )
      const { receives, received } = rows[0] as { receives: boolean; received: string | null }
      if (!receives) found = received === null ? undefined : parseLsn(received)
      if (!receives || systemClock.ticks() > giveUpAt) return
      await sleep(5)
    }
  }
  const asked = ask().catch(() => {}) // it is down
  await atMost(withinMs, asked)
  asked.then(() => client?.end()).catch(() => {})
  return found
}

async function standbysOf(primary: Client): Promise<Standbys> {
  const { rows } = await primary.query(
    `select pg_current_wal_flush_lsn()::text as end, current_setting('synchronous_standby_names') as applied,
      coalesce(json_object_agg(application_name, flush_lsn) filter (where flush_lsn is not null), '{}') as streaming
      from pg_stat_replication where state = 'streaming' and application_name ~ '^postgres(-\\d+)?$'`,
  )
  const { end, applied, streaming } = rows[0] as { end: string; applied: string; streaming: Record<string, string> }
  return {
    end: parseLsn(end)!,
    applied: [...applied.matchAll(/"([^"]+)"/g)].map(([, name]) => name!).sort(),
    streaming: new Map(Object.entries(streaming).map(([name, lsn]) => [name, parseLsn(lsn)!])),
  }
}

async function waitFor(primary: Client, replicas: readonly string[]): Promise<void> {
  const before = await synchronousSetting(primary)
  await setSynchronous(primary, replicas)
  const giveUpAt = systemClock.ticks() + takesEffectWithinMs
  while ((await synchronousSetting(primary)) !== synchronousNames(replicas)) {
    if (systemClock.ticks() > giveUpAt) throw new Error('the server has not read its settings in time')
    await sleep(5)
  }
  // Whether commits wait at all is switched by the checkpointer, which reads the settings before each checkpoint that is asked for.
  // (src/backend/postmaster/checkpointer.c, SyncRepUpdateSyncStandbysDefined)
  if (before === '' && replicas.length > 0) await primary.query('checkpoint')
}
