import { AsyncLocalStorage } from 'node:async_hooks'
import type { Pool } from '../../engines/postgres/client.ts'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { isRungError, RungError } from '../../kernel/errors.ts'
import { backoffMs } from '../../kernel/random.ts'
import { currentScope, inDoubt, type Scope } from '../../kernel/scope.ts'
import { type BatchLoad, batcher } from './batch.ts'
import { cancelWithScope } from './cancel.ts'
import {
  type StatementDone,
  statementDone,
  statementWritten,
  type TransactionDone,
  transactionDone,
} from './channels.ts'
import type { Connection, Database, Need, Result, Statement, Target } from './contract.ts'
import { isNotBegun, isOutdated, otherPrimary, outcomeUnknown, sqlState, wasSent } from './errors.ts'
import { askPlace, noteSeen, placeIn } from './place.ts'
import { routedPool } from './pool.ts'
import { currentWriteRule, type ExtendTx, type Ride, type WriteRule } from './rides.ts'
import { compile, makeTag, type Piece, type Sql, type SqlTag } from './sql.ts'

/** What the app author holds. `Tx` is what a transaction offers besides statements. */
export interface Data<Tx extends SqlTag = SqlTag> {
  /**
   * Runs `fn` with a `sql` for reading. Statements sent together (`Promise.all`) share a connection and a round trip; no
   * connection is held while none runs. Inside an open `write` it reads in that transaction.
   * @throws DATA_READ_ONLY when a statement writes
   * @throws DATA_BEHIND when no server that shows what the session has seen has time for it
   */
  read<T>(fn: (sql: SqlTag) => PromiseLike<T> | T, options?: ReadOptions): Promise<T>
  /**
   * Runs `fn` in a transaction on the primary: all of it is committed when `fn` returns, none when it throws. Inside an
   * open `write` it joins that one. `fn` may run again after a serialisation failure or a deadlock.
   */
  write<T>(fn: (tx: Tx) => PromiseLike<T> | T, options?: WriteOptions): Promise<T>
  /**
   * Makes a look-up by key that is asked for one at a time and fetched many at once: `load` gets the keys that were asked
   * for in one turn of the event loop, by any requests, and returns the values in their order. Inside an open `write`
   * it reads in that transaction, alone.
   */
  batch<Key, Value>(load: BatchLoad<Key, Value>): (key: Key) => Promise<Value>
  /** Shaped like `pg.Pool`, for Kysely, Drizzle and others. Leads to the primary, or into the open transaction. */
  readonly pool: Pool
}

export interface ReadOptions {
  /**
   * `reports`: for long reads. They have few connections of their own, on a replica if there is one, with a time limit of a minute, and may
   * show what was true some seconds ago, also to a session that has written since.
   */
  target?: 'reports'
}

export interface WriteOptions {
  /** Default `read committed`. */
  isolation?: Isolation
  /** How often the whole function may run again after a serialisation failure or a deadlock. Default 3. */
  retries?: number
  /** Names this write among several of one request with an `Idempotency-Key`, so that a repetition can tell them apart. */
  step?: string
}

export type Isolation = 'read committed' | 'repeatable read' | 'serializable'

/** Asked before a statement runs; what it throws is the statement's failure. `undefined`: nothing to wait for. */
export type Guard = (text: string, module: string | undefined) => Promise<void> | undefined

export interface DataRoot<Tx extends SqlTag = SqlTag> {
  /** The data primitive as one module sees it. */
  forModule(module: string | undefined): Data<Tx>
  /** Returns whether the running code is inside an open `write`, of this database or another. */
  inTransaction(): boolean
  /** The main one first. */
  readonly databases: readonly Database[]
}

/** The open read or write of the running code, on whichever database: a transaction of one cannot hold a write of another. */
const open = new AsyncLocalStorage<Session>()

const retryable = new Set(['40001', '40P01'])
const statementStart =
  /^\s*(select|insert|update|delete|merge|with|values|call|do|create|alter|drop|truncate|lock|set)\b/i
const retryBaseMs = 10
const retryCapMs = 500
const forever = Number.POSITIVE_INFINITY
const commit: Statement = { text: 'commit', values: [], name: 'rung_commit' }
const rollback: Statement = { text: 'rollback', values: [], name: undefined }
const begins: Record<Isolation, Statement> = {
  'read committed': { text: 'begin', values: [], name: 'rung_begin' },
  'repeatable read': { text: 'begin isolation level repeatable read', values: [], name: 'rung_begin_rr' },
  serializable: { text: 'begin isolation level serializable', values: [], name: 'rung_begin_s' },
}
const isolationRank: Record<Isolation, number> = { 'read committed': 0, 'repeatable read': 1, serializable: 2 }

export interface DataPolicy<Tx extends SqlTag> {
  guard?: Guard | undefined
  /** What the handle of a transaction offers besides statements. */
  extend?: ExtendTx<Tx> | undefined
}

/** The policy over one database. */
export function createData<Tx extends SqlTag = SqlTag>(database: Database, policy: DataPolicy<Tx> = {}): DataRoot<Tx> {
  const { guard } = policy
  const extend = policy.extend as ExtendTx<SqlTag> | undefined

  function forModule(module: string | undefined): Data<Tx> {
    const core: SessionCore = { database, guard, extend, module }

    async function read<T>(fn: (sql: SqlTag) => PromiseLike<T> | T, options: ReadOptions = {}): Promise<T> {
      const outer = openWrite(database)
      if (outer) return fn(joinable(outer, core).tag)
      const session = new ReadSession(core, options.target ?? 'read')
      return fn(session.tag)
    }

    async function write<T>(fn: (tx: Tx) => PromiseLike<T> | T, options: WriteOptions = {}): Promise<T> {
      const outer = open.getStore()
      if (outer instanceof WriteSession && !outer.ended) {
        return fn(joinable(outer, core, options.isolation).tag as Tx)
      }
      const standing = currentWriteRule()
      const rule = standing && (await standing.begin({ database, module, step: options.step }))
      const known = rule?.recall?.()
      if (known) return known.value as T
      const retries = options.retries ?? 3
      const renewalsMax = database.counts('write').max
      let renewals = 0
      for (let attempt = 0; ; attempt += 1) {
        const session = new WriteSession(core, options.isolation ?? 'read committed')
        try {
          return await session.transact(fn as (tx: SqlTag) => PromiseLike<T> | T, attempt < retries, rule)
        } catch (error) {
          // Each connection may hold plans that are out of date; those that failed are made anew. None of it is a collision.
          if (isOutdated(error) && renewals <= renewalsMax && (retries > 0 || session.isAtFirst)) {
            renewals += 1
            attempt -= 1
            continue
          }
          if (!(retryable.has(sqlState(error) ?? '') || isNotBegun(error)) || attempt >= retries) throw error
          await sleep(backoffMs(attempt, retryBaseMs, retryCapMs))
        }
      }
    }

    function batch<Key, Value>(load: BatchLoad<Key, Value>): (key: Key) => Promise<Value> {
      const together = batcher(load, read)
      return (key) => {
        if (!openWrite(database)) return together(key)
        return read(async (sql) => (await load(sql, [key]))[0]!)
      }
    }

    return {
      read,
      write,
      batch,
      pool: routedPool({
        database,
        transaction() {
          const outer = open.getStore()
          if (!(outer instanceof WriteSession)) return undefined
          if (outer.ended) throw ended()
          return joinable(outer, core)
        },
        ready: () => untilPrimaryShows(database, currentScope()),
        statement: (connection, statement, waitMs) => observed(core, connection, statement, 'write', false, waitMs),
        guard: (text) => guard?.(text, module),
        written: (site) => announce(core, site),
      }),
    }
  }

  return {
    forModule,
    inTransaction,
    databases: [database],
  }
}

interface SessionCore {
  database: Database
  guard: Guard | undefined
  extend: ExtendTx<SqlTag> | undefined
  module: string | undefined
}

type Session = ReadSession | WriteSession

/** Returns whether the running code is inside an open `write` of any database. */
export function inTransaction(): boolean {
  return openWrite() !== undefined
}

/** Returns the open `write` of the running code, if it is on this database. */
function openWrite(database?: Database): WriteSession | undefined {
  const session = open.getStore()
  if (!(session instanceof WriteSession) || session.ended) return undefined
  return database === undefined || session.core.database === database ? session : undefined
}

/** A transaction belongs to one module and one database: from nodes of its own another module could not join it either. */
function joinable(session: WriteSession, { module, database }: SessionCore, isolation?: Isolation): WriteSession {
  if (session.core.database !== database) {
    throw new RungError(
      'CALL_IN_TRANSACTION',
      `The database "${database.name}" was used inside a transaction of the database "${session.core.database.name}", and would not be part of it. Use it before or after data.write.`,
    )
  }
  if (session.core.module !== module) {
    throw new RungError(
      'CALL_IN_TRANSACTION',
      `Module "${module}" was reached inside a transaction of module "${session.core.module}". Call other modules before or after data.write.`,
    )
  }
  if (isolation && isolationRank[isolation] > isolationRank[session.isolation]) {
    throw new RungError(
      'DATA_OUTSIDE_TRANSACTION',
      `A nested write asks for ${isolation}, the open transaction has ${session.isolation}. Open the outer one with ${isolation}.`,
    )
  }
  return session
}

function swallowed(): RungError {
  return new RungError(
    'DATA_STATEMENT',
    'The transaction was rolled back: a statement in it had failed and the error was swallowed. Let it leave data.write.',
  )
}

function ended(): RungError {
  return new RungError(
    'DATA_TRANSACTION_ENDED',
    'A statement came after its transaction had ended. Await everything inside data.write before it returns.',
  )
}

function announce(
  { database, module }: Pick<SessionCore, 'database' | 'module'>,
  site: readonly string[] | string,
): void {
  if (statementWritten.hasSubscribers) statementWritten.publish({ database, site, scope: currentScope(), module })
}

/** Refuses work whose reader is gone, before it costs the database anything. */
function checkDeadline(scope: Scope | undefined): number {
  if (scope === undefined) return Number.POSITIVE_INFINITY
  if (scope.cancelled) throw scope.cancelled
  return scope.deadlineAt
}

/** Runs a statement, ends it when the scope is cancelled, and tells observers. */
async function observed(
  core: Pick<SessionCore, 'database' | 'module'>,
  connection: Connection,
  statement: Statement,
  target: Target,
  inTransaction: boolean,
  waitMs: number,
  sent: () => Promise<Result> = () => connection.run(statement),
): Promise<Result> {
  const scope = currentScope()
  const endCancel = cancelWithScope(connection)
  const startedAt = statementDone.hasSubscribers ? systemClock.now() : 0
  const start = startedAt === 0 ? 0 : systemClock.ticks()
  let result: Result | undefined
  let failure: RungError | undefined
  try {
    result = await sent()
    return result
  } catch (error) {
    failure = error as RungError
    throw scope?.cancelled && isRungError(error, 'DATA_TIMEOUT') ? scope.cancelled : error
  } finally {
    const cancelling = endCancel()
    if (cancelling) await cancelling
    if (startedAt !== 0) {
      const done: StatementDone = {
        statement,
        database: core.database,
        target,
        module: core.module,
        scope,
        inTransaction,
        startedAt,
        waitMs,
        durationMs: systemClock.ticks() - start,
        rowCount: result?.rowCount ?? 0,
        command: result?.command ?? '',
        error: failure,
      }
      statementDone.publish(done)
    }
  }
}

/** What a read in the scope asks of the database. */
export function toRead(database: Database, scope: Scope | undefined, target: 'read' | 'reports' = 'read'): Need {
  return {
    target,
    atLeast: scope?.positionUnknown ? 'all' : scope?.position.get(database.name),
    staleMsMax: scope?.staleMsMax,
    deadlineAt: scope?.deadlineAt ?? forever,
  }
}

/** Before a scope uses the primary: resolves when that shows all that the scope has seen. */
export async function untilPrimaryShows(database: Database, scope: Scope | undefined): Promise<void> {
  if (!scope || !database.lags) return
  await scope.recallPosition()
  const place = scope.positionUnknown ? 'all' : scope.position.get(database.name)
  if (place !== undefined) await database.primaryShows(place, scope.deadlineAt)
}

/** Holds a connection only while statements are in flight: no read can starve another of its second connection. */
class ReadSession {
  readonly core: SessionCore
  readonly tag: SqlTag
  readonly #target: 'read' | 'reports'
  #held: Held | undefined

  constructor(core: SessionCore, target: 'read' | 'reports') {
    this.core = core
    this.#target = target
    this.tag = makeTag(
      (piece) => this.#run(piece),
      (piece) => announce(core, piece.strings),
    )
  }

  async #run(piece: Piece): Promise<unknown[]> {
    const { core } = this
    if (openWrite(core.database)) {
      throw new RungError(
        'DATA_OUTSIDE_TRANSACTION',
        'A statement of an outer read ran inside data.write and would not see what it wrote. Use the tx of the transaction.',
      )
    }
    const scope = currentScope()
    checkDeadline(scope)
    const statement = compile(piece)
    const checking = core.guard?.(statement.text, core.module)
    if (checking) await checking
    const { database } = core
    if (database.lags && this.#target === 'read') await scope?.recallPosition()
    for (let isAgain = false; ; isAgain = true) {
      const held = this.#hold(scope)
      const asked = held.inFlight === 0 && statementDone.hasSubscribers ? systemClock.ticks() : 0
      held.inFlight += 1
      let connection: Connection | undefined
      try {
        connection = await held.connection
        checkDeadline(currentScope()) // the wait may have taken all the time there was
        const waitMs = asked === 0 ? 0 : systemClock.ticks() - asked
        const { rows, seen } = await observed(core, connection, statement, this.#target, false, waitMs)
        if (this.#target === 'read') noteSeen(scope, database, seen)
        return rows
      } catch (error) {
        const isLost = connection !== undefined && isRungError(error, 'DATA_UNAVAILABLE')
        if (!isLost || isAgain || this.#target !== 'read') throw error
        // A read has no effect, and a connection that was lost says nothing of the next one.
        if (this.#held === held) this.#held = undefined
      } finally {
        held.inFlight -= 1
        if (held.inFlight === 0) {
          if (this.#held === held) this.#held = undefined
          connection?.release()
        }
      }
    }
  }

  /** Returns the connection of the statements in flight, unless the scope has seen more since that was chosen. */
  #hold(scope: Scope | undefined): Held {
    const { database } = this.core
    if (this.#held && !database.lags) return this.#held
    const need = toRead(database, scope, this.#target)
    if (this.#held === undefined || this.#held.atLeast !== need.atLeast) {
      this.#held = { atLeast: need.atLeast, connection: database.connect(need), inFlight: 0 }
    }
    return this.#held
  }
}

interface Held {
  readonly atLeast: Need['atLeast']
  readonly connection: Promise<Connection>
  inFlight: number
}

/** One transaction on one connection; `begin` travels with the first statement, `commit` with what rides it. */
export class WriteSession {
  readonly core: SessionCore
  readonly isolation: Isolation
  readonly tag: SqlTag
  ended = false
  #connection: Promise<Connection> | undefined
  #begun: Promise<unknown> | undefined
  #barrier: Promise<void> | undefined
  #sent = 0
  readonly #pieces: Sql[] = []
  readonly #rides: (() => readonly Ride[])[] = []

  constructor(core: SessionCore, isolation: Isolation) {
    this.core = core
    this.isolation = isolation
    this.tag = makeTag(
      async (piece) => (await this.run(compile(piece))).rows,
      (piece) => {
        this.#pieces.push(piece)
        announce(core, piece.strings)
      },
    )
    if (core.extend) {
      const ride = (make: () => readonly Ride[]) => {
        if (this.ended) throw ended()
        this.#rides.push(make)
      }
      Object.assign(this.tag, core.extend({ module: core.module, ride }))
    }
  }

  /** Runs a statement in this transaction. */
  async run(statement: Statement): Promise<Result> {
    if (this.ended) throw ended()
    const deadlineAt = checkDeadline(currentScope())
    const checking = this.core.guard?.(statement.text, this.core.module)
    // A statement seen for the first time waits for its check; those behind it wait too, so that the order stays.
    if (checking) this.#barrier = this.#barrier ? this.#barrier.then(() => checking) : checking
    if (this.#barrier) await this.#barrier
    const asked = this.#connection === undefined ? systemClock.ticks() : 0
    const connection = await this.#lend(deadlineAt)
    checkDeadline(currentScope())
    const waitMs = asked === 0 ? 0 : systemClock.ticks() - asked
    const sent = () => this.#send(connection, [statement])[0]!
    return observed(this.core, connection, statement, 'write', true, waitMs, sent)
  }

  #lend(deadlineAt: number): Promise<Connection> {
    const { database } = this.core
    const connect = () => database.connect({ target: 'write', deadlineAt })
    this.#connection ??= database.lags ? untilPrimaryShows(database, currentScope()).then(connect) : connect()
    return this.#connection
  }

  /** No more than one statement was sent so far. */
  get isAtFirst(): boolean {
    return this.#sent <= 1
  }

  /** The first to be sent take the `begin` along; whether that succeeded is asked before the commit. */
  #send(connection: Connection, statements: readonly Statement[]): Promise<Result>[] {
    const [first] = statements
    this.#sent += statements.length
    // A library's text may be several statements, and only a message of its own can carry those.
    const alone = statements.length === 1 && first!.name === undefined && first!.values.length === 0
    const together = alone ? [] : statements
    if (this.#begun) return alone ? [connection.run(first!)] : connection.runTogether(together)
    const [begun, ...answers] = connection.runTogether([begins[this.isolation], ...together])
    this.#begun = begun!
    this.#begun.catch(() => {})
    return alone ? [connection.run(first!)] : answers
  }

  async transact<T>(fn: (tx: SqlTag) => PromiseLike<T> | T, mayRetry: boolean, rule?: WriteRule): Promise<T> {
    const start = systemClock.ticks()
    let outcome: TransactionDone['outcome'] = 'rollback'
    try {
      const value = await open.run(this, async () => fn(this.tag))
      this.#checkUnused()
      if (this.#barrier) await this.#barrier
      checkDeadline(currentScope()) // whoever was told "too late" must not find it done
      const rides = this.#rides.flatMap((make) => make())
      const own = rule?.ride(value)
      if (own) rides.push(own)
      // A transaction of rides alone begins only now.
      if (rides.length > 0) {
        const deadlineAt = currentScope()?.deadlineAt ?? forever
        await this.#lend(deadlineAt)
      }
      this.ended = true
      await this.#commit(rides)
      outcome = 'commit'
      return value
    } catch (error) {
      // First of all, whatever was thrown: a connection that is not given back is lost.
      if (!this.ended) {
        this.ended = true
        await this.#rollback()
      }
      if ((mayRetry && retryable.has(sqlState(error) ?? '')) || isOutdated(error)) outcome = 'retry'
      throw error
    } finally {
      if (transactionDone.hasSubscribers) {
        const done: TransactionDone = {
          database: this.core.database,
          module: this.core.module,
          outcome,
          durationMs: systemClock.ticks() - start,
        }
        transactionDone.publish(done)
      }
    }
  }

  /** A statement that nobody awaited does nothing, and would go unnoticed. */
  #checkUnused(): void {
    // A condition that was written and then not needed is no statement.
    const forgotten = this.#pieces.find((piece) => !piece.used && statementStart.test(piece.strings[0]!))
    if (!forgotten) return
    const text = forgotten.strings.join('?').replace(/\s+/g, ' ').trim()
    throw new RungError(
      'DATA_STATEMENT_UNUSED',
      `A statement of a transaction was never awaited: ${text.slice(0, 120)}. Put an await before it; nothing was committed.`,
    )
  }

  async #commit(rides: readonly Ride[]): Promise<void> {
    if (!this.#connection) return // nothing was done
    const connection = await this.#connection
    const after: (void | Promise<void>)[] = []
    // Outside any scope nobody keeps the position.
    const scope = currentScope()
    let broken = false
    let onReplica = false
    let settle = () => {}
    let asked: Promise<Result> | undefined
    try {
      // Before anything more is sent: without a transaction each statement would be committed by itself.
      await this.#begun
      if (scope?.cancelled) {
        // A caller that was told "too late" must not find it done.
        await connection.run(rollback).catch(() => {})
        throw scope.cancelled
      }
      const riding = rides.map(({ statement }) => compile(statement))
      const positioned = scope !== undefined || rides.some((ride) => ride.positioned)
      const sent = this.#send(connection, positioned ? [...riding, commit, askPlace] : [...riding, commit])
      settle = inDoubt(scope)
      const [committed, at] = sent.slice(riding.length)
      asked = committed!
      asked.catch(() => {})
      at?.catch(() => {})
      const ridden = riding.map((statement, index) =>
        observed(this.core, connection, statement, 'write', true, 0, () => sent[index]!),
      )
      const answers = await Promise.allSettled(ridden)
      for (const [index, answer] of answers.entries()) {
        if (answer.status === 'fulfilled') continue
        // Without a word from the server the commit may have run all the same.
        if (isRungError(answer.reason, 'DATA_UNAVAILABLE')) throw answer.reason
        settle()
        await connection.run(rollback).catch(() => {})
        // In a transaction that had failed before, every statement fails.
        if (sqlState(answer.reason) === '25P02') throw swallowed()
        throw rides[index]!.failed?.(answer.reason) ?? answer.reason
      }
      const done = await asked
      settle()
      // Postgres answers ROLLBACK to the commit of a transaction in which a statement had failed.
      if (done.command !== 'COMMIT') throw swallowed()
      if (scope) scope.wrote = true
      // It is committed, whatever becomes of the question for the position: without one, the next read asks the primary.
      const answer = await at?.catch((error) => {
        onReplica = sqlState(error) === '55000'
      })
      const place = placeIn(answer || undefined)
      noteSeen(scope, this.core.database, place)
      for (const [index, answer] of answers.entries()) {
        if (answer.status === 'fulfilled') after.push(rides[index]!.committed?.(answer.value.rows, place))
      }
    } catch (error) {
      broken = isRungError(error, 'DATA_UNAVAILABLE')
      if (!broken) settle() // the server itself said that it did not commit
      throw asked && broken && wasSent(error as RungError) ? outcomeUnknown(error) : error
    } finally {
      connection.release(broken || onReplica)
    }
    // It has written nothing, and what it has read may be old.
    if (onReplica) throw otherPrimary()
    await Promise.all(after)
  }

  async #rollback(): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    if (!connection) return
    try {
      await connection.run(rollback)
      connection.release()
    } catch {
      connection.release(true)
    }
  }
}
