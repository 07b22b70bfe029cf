import { sleep, systemClock } from '../../kernel/clock.ts'
import { isRungError, RungError } from '../../kernel/errors.ts'
import { type Place, parseLsn, parsePlace, placeAt, reaches, startOfLog, timelineOf } from '../../kernel/position.ts'
import { readRouted, serverChanged } from './channels.ts'
import type { Connection, Database, Need, PoolCounts, Result, ServerState, Statement, Target } from './contract.ts'
import { behind, otherPrimary, sqlState } from './errors.ts'
import { chooseReplica, chooseStale, PrimaryHistory } from './freshness.ts'
import { type Lent, OnPrimary, RoutedRead } from './routed-read.ts'
import { Turns } from './turns.ts'
import { type Answer, type Server, WatchedServer } from './watched.ts'

export interface ClusterOptions {
  name: string
  /** All servers of the database. Which of them is the primary is asked, since a failover changes it. */
  servers: readonly Server[]
  /** A replica that lags by more is not read until it lags by less than a fifth of this. */
  lagMsMax: number
  /** Reads that may run on the primary at the same time, because no replica is new enough. */
  primaryReadsMax: number
}

/** A reader waits this long for a replica to reach its position, before it goes to the primary. */
const replicaWaitMs = 20
/** A reader waits this long for its turn on the primary. Only a few may read there at the same time, which protects it. */
const primaryWaitMs = 1_000
/** How long a writer waits for a primary, while there is none. */
const failoverWaitMs = 5_000
/** Servers are asked where they are at this pace, and rarely while nobody reads. */
const pace = { busyMs: 75, idleMs: 1_000 }
const busyForMs = 2_000
/** Of the limit. A replica that came back at the limit itself would leave and come back again and again. */
const lagShareToReturn = 1 / 5

/**
 * A database of several servers: one primary, and replicas that follow its log and lag.
 *
 *   read ─► a replica that covers the position ─► wait a little for one ─► the primary, if it has a connection for readers
 *                                                                      ─► what is a little stale, if the route accepts that ─► DATA_BEHIND
 *
 * Each process asks the servers how far they are. A replica never goes back, so what it has answered holds for all later reads there.
 * What a read has seen is asked behind it in the same message: a replica may have gone on meanwhile, and the answer covers that.
 */
export function clusterDatabase(options: ClusterOptions): Database {
  return new Cluster(options)
}

class Cluster implements Database {
  readonly name: string
  readonly lags = true
  readonly #servers: readonly WatchedServer[]
  readonly #lagMsMax: number
  readonly #primaryReads: Turns
  readonly #history = new PrimaryHistory()
  /** The primary shows everything up to here. */
  #shown: Place = startOfLog
  /** The primary shows everything up to this place once transactions before `xmax`, which have ended on a replica, have ended there. */
  #pending: { place: Place; xmax: bigint; open: ReadonlySet<bigint> | undefined } | undefined
  #confirming: { place: Place; promise: Promise<void> } | undefined
  #usedAt = 0
  #closed = false
  readonly #watching: Promise<unknown>
  #wake = new AbortController()

  constructor({ name, servers, lagMsMax, primaryReadsMax }: ClusterOptions) {
    this.name = name
    this.#primaryReads = new Turns(primaryReadsMax)
    this.#lagMsMax = lagMsMax
    this.#servers = servers.map(
      (server, index) =>
        new WatchedServer(server, servers.length > 2 && index === servers.length - 1, (one) => this.#note(one)),
    )
    this.#watching = Promise.all(this.#servers.map((one) => this.#watch(one)))
  }

  async connect(need: Need): Promise<Connection> {
    const { target, deadlineAt, isCheck } = need
    if (target !== 'own' && target !== 'session' && !isCheck) this.#used()
    if (target === 'read') {
      return new RoutedRead(await this.#lend(need, new Set()), (avoid) => this.#lend(need, avoid))
    }
    if (target === 'reports') return this.#reports(deadlineAt)
    const primary = await this.#primary(deadlineAt)
    try {
      return new OnPrimary(await primary.server.connect(target, deadlineAt), primary)
    } catch (error) {
      if (isRungError(error, 'DATA_UNAVAILABLE')) void primary.look().catch(() => {})
      throw error
    }
  }

  /** Reads may use several servers: those that have connections for them are added up. */
  counts(target: Target): PoolCounts {
    const isRead = target === 'read' || target === 'reports'
    const pools = this.#servers
      .filter((one) => isRead || one.isPrimary)
      .map(({ server }) => server.counts(target))
      .filter(({ total, waiting }) => total + waiting > 0)
    const sum = (what: keyof PoolCounts) => pools.reduce((all, counts) => all + counts[what], 0)
    const max = pools.length > 0 ? sum('max') : this.#servers[0]!.server.counts(target).max
    return { max, total: sum('total'), idle: sum('idle'), waiting: sum('waiting') }
  }

  servers(): readonly ServerState[] {
    return this.#servers.map(stateOf)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#wake.abort()
    for (const one of this.#servers) one.close()
    await Promise.all(this.#servers.map(({ server }) => server.close()))
    await this.#watching
  }

  // Which server reads

  async #lend(need: Need, avoid: ReadonlySet<WatchedServer>): Promise<Lent> {
    const { atLeast, deadlineAt } = need
    const passed = new Set(avoid)
    for (;;) {
      let server = atLeast === 'all' ? undefined : chooseReplica(this.#without(passed), atLeast)
      if (!server && typeof atLeast === 'bigint') server = await this.#waitFor(atLeast, passed)
      if (!server) return this.#lendPrimary(need, passed)
      try {
        return await this.#lendFrom(server, deadlineAt, 'replica')
      } catch (error) {
        if (isRungError(error, 'DATA_UNAVAILABLE')) server.away(error)
        else if (server.inRotation) throw error // all of its connections are busy
        passed.add(server)
      }
    }
  }

  #without(passed: ReadonlySet<WatchedServer>): readonly WatchedServer[] {
    return this.#servers.filter((one) => !passed.has(one))
  }

  /** Waits until one of the replicas has reached the place, but not long. */
  async #waitFor(atLeast: Place, passed: ReadonlySet<WatchedServer>): Promise<WatchedServer | undefined> {
    const until = systemClock.ticks() + replicaWaitMs
    for (;;) {
      const inRotation = this.#without(passed).filter((one) => one.inRotation)
      if (inRotation.length === 0) return undefined
      const looks = inRotation.map((one) => one.look().catch(() => {}))
      await Promise.race([...looks, sleep(Math.max(0, until - systemClock.ticks()))])
      const found = chooseReplica(this.#without(passed), atLeast)
      if (found || systemClock.ticks() >= until) return found
      await sleep(1)
    }
  }

  async #lendPrimary(need: Need, passed: ReadonlySet<WatchedServer>): Promise<Lent> {
    const { atLeast, staleMsMax, deadlineAt } = need
    try {
      let primary = await this.#primary(deadlineAt)
      if (typeof atLeast === 'bigint' && !reaches(this.#history.last ?? startOfLog, atLeast)) {
        const answers = await Promise.allSettled(this.#servers.map((one) => one.look()))
        primary = await this.#primary(deadlineAt)
        // Nobody has written so far: the place is of a database that was restored, or of a server that is gone.
        if (!reaches(this.#history.last!, atLeast)) {
          // Unless a server that does not answer has become the primary.
          const isLater = timelineOf(atLeast) > this.#history.timeline!
          if (isLater && answers.some(({ status }) => status === 'rejected')) throw behind()
          readRouted.publish({ database: this, server: '', why: 'absurd' })
          return await this.#lend({ ...need, atLeast: this.#history.last! }, passed)
        }
      }
      const shown = atLeast === undefined ? undefined : this.primaryShows(atLeast, deadlineAt)
      if (shown) await shown
      const endTurn = await this.#primaryReads.take(Math.min(deadlineAt, systemClock.ticks() + primaryWaitMs))
      const lent = await this.#lendFrom(primary, deadlineAt, 'primary').catch((error) => {
        endTurn()
        throw error
      })
      const release = (broken?: boolean) => {
        endTurn()
        lent.release(broken)
      }
      return { ...lent, release }
    } catch (error) {
      if (!isRungError(error, 'DATA_BEHIND') && !isRungError(error, 'DATA_UNAVAILABLE')) throw error
      const stale = staleMsMax === undefined ? undefined : chooseStale(this.#without(passed), staleMsMax)
      if (stale) return this.#lendFrom(stale, deadlineAt, 'stale')
      readRouted.publish({ database: this, server: '', why: 'refused' })
      throw error
    }
  }

  async #lendFrom(server: WatchedServer, deadlineAt: number, why: 'replica' | 'primary' | 'stale'): Promise<Lent> {
    server.reads += 1
    let isElsewhere = false
    try {
      const connection = await server.server.connect('read', deadlineAt)
      if (readRouted.hasSubscribers) readRouted.publish({ database: this, server: server.name, why })
      return {
        connection,
        server,
        seenIn: ({ rows }) => {
          const text = String(rows[0]?.place)
          isElsewhere = why === 'primary' && parseLsn(text) !== undefined
          if (isElsewhere) throw otherPrimary()
          return this.#seen(server, text)
        },
        mayRunElsewhere: (error) => why !== 'primary' && this.#mayRunElsewhere(server, error),
        release(broken) {
          server.reads -= 1
          connection.release(broken || isElsewhere)
        },
      }
    } catch (error) {
      server.reads -= 1
      throw error
    }
  }

  /** A promoted server says its timeline; a replica is on the primary's. */
  #seen({ last }: WatchedServer, text: string): Place | undefined {
    const lsn = parseLsn(text)
    if (lsn === undefined) return parsePlace(text)
    const timeline = last?.timeline ?? this.#history.timeline
    return timeline === undefined ? undefined : placeAt(timeline, lsn)
  }

  /** A read has no effect, so it may run again on another server when this one is lost, or has cancelled it for its replay. */
  #mayRunElsewhere(server: WatchedServer, error: unknown): boolean {
    const state = sqlState(error) ?? ''
    if (/^(40001|40P01)$/.test(state)) return true
    if (!isRungError(error, 'DATA_UNAVAILABLE')) return false
    void server.look().catch(() => {})
    return true
  }

  async #reports(deadlineAt: number): Promise<Connection> {
    const replicas = this.#servers.filter(({ place }) => place !== undefined)
    for (const replica of replicas.toSorted((a, b) => Number(b.isSpare) - Number(a.isSpare))) {
      try {
        return await replica.server.connect('reports', deadlineAt)
      } catch (error) {
        if (!isRungError(error, 'DATA_UNAVAILABLE')) throw error
        replica.away(error)
      }
    }
    return (await this.#primary(deadlineAt)).server.connect('reports', deadlineAt)
  }

  // Which server is the primary

  async #primary(deadlineAt: number): Promise<WatchedServer> {
    const until = Math.min(deadlineAt, systemClock.ticks() + failoverWaitMs)
    for (;;) {
      const found = this.#servers
        .filter((one) => one.isPrimary)
        .reduce<WatchedServer | undefined>(
          (best, one) => (best && best.last!.timeline >= one.last!.timeline ? best : one),
          undefined,
        )
      if (found) return found
      const answers = await Promise.allSettled(this.#servers.map((one) => one.look()))
      const isOver = systemClock.ticks() >= until || this.#closed
      if (!isOver && answers.some((answer) => answer.status === 'fulfilled' && answer.value.isPrimary)) continue
      if (isOver) {
        const cause = answers.find((answer) => answer.status === 'rejected')?.reason
        throw new RungError(
          'DATA_UNAVAILABLE',
          'No primary server of the database can be reached. Try again shortly.',
          { cause },
        )
      }
      await sleep(25)
    }
  }

  // What the primary shows

  primaryShows(place: Place | 'all', deadlineAt: number): Promise<void> | undefined {
    if (place !== 'all' && reaches(this.#shown, place)) return undefined
    const under = this.#confirming
    if (under && place !== 'all' && reaches(under.place, place)) return under.promise
    return this.#confirm(place, deadlineAt)
  }

  async #confirm(wanted: Place | 'all', deadlineAt: number): Promise<void> {
    let place = wanted
    if (place === 'all') {
      await Promise.allSettled(this.#servers.map((one) => one.look()))
      place = this.#servers.reduce((most, { place: of = startOfLog }) => (of > most ? of : most), startOfLog)
    }
    const promise = this.#waitUntilShown(place, deadlineAt)
    const confirming = { place, promise }
    this.#confirming = confirming
    try {
      await promise
      if (place > this.#shown && reaches(this.#history.last ?? startOfLog, place)) this.#shown = place
    } finally {
      if (this.#confirming === confirming) this.#confirming = undefined
    }
  }

  /**
   * A commit is in the log before it is visible on the primary: with synchronous replication it waits for a standby in between. So
   * transactions that have ended on a replica which covers the place must have ended on the primary too.
   */
  async #waitUntilShown(place: Place, deadlineAt: number): Promise<void> {
    for (;;) {
      const replica = await this.#replicaBeyond(place)
      if (!replica) return this.#waitUntilConfirmed(deadlineAt)
      const shown = await replica.look().catch(() => undefined)
      if (shown && (await this.#waitUntilEndedAsOn(replica, shown, deadlineAt))) return
      if (systemClock.ticks() >= deadlineAt) throw behind()
    }
  }

  /**
   * @returns false if the replica has to be asked again: it went away before it could tell which transactions it shows, or what it has
   * shown is not in the log of a primary that was promoted meanwhile
   */
  async #waitUntilEndedAsOn(replica: WatchedServer, shown: Answer, deadlineAt: number): Promise<boolean> {
    const { xmax } = shown.snapshot
    let suspects: ReadonlySet<string> | undefined
    for (;;) {
      const { snapshot, timeline } = await (await this.#primary(deadlineAt)).look()
      if (snapshot.xmax < xmax && timeline > shown.timeline) return false
      if (snapshot.xmax >= xmax) {
        const open = snapshot.open.filter((xid) => xid < xmax).map(String)
        if (open.length === 0) return true
        suspects ??= await replica
          .run({ ...committed, values: [open] })
          .then(xidsOf)
          .catch(() => undefined)
        if (!suspects) return false
        if (!open.some((xid) => suspects!.has(xid))) return true
      }
      if (systemClock.ticks() >= deadlineAt) throw behind()
      await sleep(1)
    }
  }

  async #replicaBeyond(place: Place): Promise<WatchedServer | undefined> {
    for (const replica of this.#servers) {
      if (replica.place !== undefined && !reaches(replica.place, place)) await replica.look().catch(() => {})
      if (replica.place !== undefined && reaches(replica.place, place)) return replica
    }
    return undefined
  }

  /** No replica can tell. Commits that wait for a standby are the only ones that one may have shown. */
  async #waitUntilConfirmed(deadlineAt: number): Promise<void> {
    let suspects: ReadonlySet<string> | undefined
    for (;;) {
      const open = xidsOf(await (await this.#primary(deadlineAt)).run(waiting))
      suspects ??= open
      if (![...suspects].some((xid) => open.has(xid))) return
      if (systemClock.ticks() >= deadlineAt) throw behind()
      await sleep(1)
    }
  }

  // Watching

  /** Rung's own statements do not count: they come steadily, also while nobody uses the app. */
  #used(): void {
    const wasIdle = systemClock.ticks() - this.#usedAt > busyForMs
    this.#usedAt = systemClock.ticks()
    if (!wasIdle) return
    this.#wake.abort()
    this.#wake = new AbortController()
  }

  async #watch(server: WatchedServer): Promise<void> {
    while (!this.#closed) {
      await server.look().catch(() => {})
      if (this.#closed) return
      const isBusy = systemClock.ticks() - this.#usedAt < busyForMs
      await sleep(isBusy ? pace.busyMs : pace.idleMs, this.#wake.signal).catch(() => {})
    }
  }

  #note(server: WatchedServer): void {
    const { last } = server
    if (last?.isPrimary) this.#notePrimary(last)
    const was = server.inRotation
    const trouble = server.trouble
    if (!last || last.isPrimary) {
      server.place = undefined
      server.inRotation = false
      if (!last && was) server.server.abandon() // reads that wait for it run elsewhere
    } else {
      const before = server.place
      server.place = this.#history.placeOf(last)
      this.#expect(before, last)
      const current = server.place === undefined ? undefined : this.#history.currentAt(server.place)
      const primaryAt = this.#servers.find((one) => one.isPrimary)?.last?.askedAt
      // While no primary answers there is nothing newer to compare with, or to read.
      server.lagMs = current === undefined ? Number.POSITIVE_INFINITY : Math.max(0, (primaryAt ?? current) - current)
      const limit = was ? this.#lagMsMax : this.#lagMsMax * lagShareToReturn
      server.inRotation = server.place !== undefined && server.lagMs <= limit
      if (server.place === undefined) server.trouble = 'its log may be another one than the primary’s'
      else if (!server.inRotation) server.trouble = `it lags by ${lagText(server.lagMs)}`
    }
    if (was !== server.inRotation || (trouble === undefined) !== (server.trouble === undefined)) {
      serverChanged.publish({ database: this, server: stateOf(server) })
    }
  }

  #notePrimary({ timeline, lsn, snapshot, askedAt }: Answer): void {
    this.#history.add(askedAt, placeAt(timeline, lsn))
    const pending = this.#pending
    if (pending === undefined || snapshot.xmax < pending.xmax) return
    const open = new Set(snapshot.open.filter((xid) => xid < pending.xmax))
    pending.open ??= open
    if ([...pending.open].some((xid) => open.has(xid))) return
    this.#pending = undefined
    if (pending.place > this.#shown) this.#shown = pending.place
  }

  /** What this replica showed before its last answer will be shown by the primary once it has ended the same transactions. */
  #expect(before: Place | undefined, { snapshot }: Answer): void {
    if (before === undefined || reaches(this.#shown, before)) return
    this.#pending ??= { place: before, xmax: snapshot.xmax, open: undefined }
  }
}

const committed: Statement = {
  text: `select xid::text from unnest($1::text[]::xid8[]) as xid where pg_xact_status(xid) = 'committed'`,
  values: [],
  name: undefined,
}
const waiting: Statement = {
  text: `select backend_xid::text as xid from pg_stat_activity where wait_event = 'SyncRep' and backend_xid is not null`,
  values: [],
  name: undefined,
}

function xidsOf({ rows }: Result): ReadonlySet<string> {
  return new Set(rows.map(({ xid }) => String(xid)))
}

function stateOf({ name, last, inRotation, lagMs, trouble }: WatchedServer): ServerState {
  const role = last === undefined ? 'away' : last.isPrimary ? 'primary' : 'replica'
  return { name, role, inRotation, lagMs: role === 'primary' ? 0 : lagMs, trouble }
}

function lagText(ms: number): string {
  return Number.isFinite(ms) ? `${(ms / 1000).toFixed(1)} s` : 'an unknown time'
}
