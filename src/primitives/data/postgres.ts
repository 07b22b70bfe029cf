import {
  breakConnection,
  breakConnections,
  type ConnectionConfig,
  cancelSession,
  createPool,
  isOnReplica,
  isUnconfirmed,
  lastWordsOf,
  type PooledClient,
  type QueryConfig,
  queryPlain,
  queryTogether,
} from '../../engines/postgres/client.ts'
import { isReadOnly, limitsFor, type SessionLimits } from '../../engines/postgres/recipe.ts'
import { after, systemClock } from '../../kernel/clock.ts'
import { isRungError, RungError } from '../../kernel/errors.ts'
import type { Connection, Database, Result, Statement, Target } from './contract.ts'
import { isOfPooler, isOutdated, otherPrimary, sqlState, toDataError, toLostError } from './errors.ts'
import type { Server } from './watched.ts'

export interface PostgresOptions extends Omit<ServerOptions, 'name'> {
  name: string
}

export interface ServerOptions {
  /** Its name for people. */
  name: string
  /** The server itself. */
  connection: ConnectionConfig
  /** A transaction pooler in front of it, with an address for each target, since it makes the settings of its sessions. */
  pooler?: Record<Exclude<Target, 'session'>, ConnectionConfig> | undefined
  limits: SessionLimits
  /** Connections for each target. Default: 3 for Rung's own work, 4 for sessions, 2 for reports. */
  connectionsMax: { read: number; write: number } & Partial<Record<Target, number>>
  idleTimeoutMs: number
}

/** Opens a pool for each target when it is first needed. */
export function postgresServer(options: ServerOptions): Server {
  const connectionsMax = { own: 3, session: 4, reports: 2, ...options.connectionsMax }
  const addressOf = (target: Target) =>
    ({ ...options.pooler, session: options.connection })[target] ?? options.connection
  const pools = new Map<Target, ReturnType<typeof createPool>>()
  const waiting = new Set<() => void>()
  let closed = false

  function poolFor(target: Target): ReturnType<typeof createPool> {
    const known = pools.get(target)
    if (known) return known
    const pool = createPool({
      connection: addressOf(target),
      limits: limitsFor(target, options.limits),
      readOnly: isReadOnly(target),
      connectionsMax: connectionsMax[target],
      idleTimeoutMs: options.idleTimeoutMs,
    })
    pools.set(target, pool)
    return pool
  }

  return {
    name: options.name,
    async connect(target, deadlineAt) {
      if (closed) throw new RungError('DATA_UNAVAILABLE', 'The database is closed, because the process stops.')
      const client = await checkOut(poolFor(target), deadlineAt, waiting)
      return connection(client, addressOf(target), target)
    },
    abandon() {
      for (const pool of pools.values()) breakConnections(pool)
      for (const giveUp of waiting) giveUp()
    },
    counts(target) {
      const pool = pools.get(target)
      const max = connectionsMax[target]
      if (!pool) return { max, total: 0, idle: 0, waiting: 0 }
      return { max, total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }
    },
    async close() {
      closed = true
      await Promise.all(Array.from(pools.values(), (one) => one.end()))
    },
  }
}

/** A database of one server: nothing lags. */
export function postgresDatabase(options: PostgresOptions): Database {
  const server = postgresServer(options)
  return {
    name: options.name,
    lags: false,
    connect: ({ target, deadlineAt }) => server.connect(target, deadlineAt),
    primaryShows: () => undefined,
    counts: server.counts,
    servers: () => [],
    close: server.close,
  }
}

/** `pg`'s own limit covers connecting and waiting together; the scope's deadline may come first. */
function checkOut(
  from: ReturnType<typeof createPool>,
  deadlineAt: number,
  all: Set<() => void>,
): Promise<PooledClient> {
  return new Promise((resolve, reject) => {
    let stopWaiting = () => {}
    let late = false
    const fail = (error: RungError) => {
      late = true
      reject(error)
    }
    const giveUp = () => fail(unanswered())
    if (from.idleCount === 0) {
      all.add(giveUp)
      if (deadlineAt !== Number.POSITIVE_INFINITY) {
        stopWaiting = after(Math.max(0, deadlineAt - systemClock.ticks()), () => fail(poolTimeout()))
      }
    }
    from.connect((error, client) => {
      stopWaiting()
      all.delete(giveUp)
      if (late) return client?.release()
      if (client) return resolve(client)
      reject(/timeout exceeded when trying to connect/.test(String(error)) ? poolTimeout(error) : toDataError(error))
    })
  })
}

function unanswered(): RungError {
  return new RungError('DATA_UNAVAILABLE', 'The database server has stopped answering. Try again shortly.')
}

function poolTimeout(cause?: unknown): RungError {
  return new RungError(
    'DATA_POOL_TIMEOUT',
    'No database connection became free in time. Shorten the transactions, or raise the pool size.',
    { cause },
  )
}

/**
 * A server answers a cancelled statement at once. If it has not for this long, nobody is at the other end of the connection, which would be
 * missing in its pool until TCP notices: for hours.
 */
const cancelledMsMax = 5_000

/** States with which the server ends a session. The socket closes a moment later; until then the pool would lend it out again. */
const endsSession = /^(08(?!P01)|57P|25P0[34])/

function connection(client: PooledClient, config: ConnectionConfig, target: Target): Connection {
  let broken = false
  let cancelling: Promise<void> | undefined
  /** Answers that are awaited, and how many have come. */
  let [awaited, answered] = [0, 0]

  function giveBack(): void {
    // A transaction that somebody left open would swallow the work of the next one.
    const status = client.getTransactionStatus()
    client.release(broken || (status !== null && status !== 'I'))
  }

  async function result(answer: Promise<unknown>): Promise<Result> {
    awaited += 1
    try {
      const found = (await answer) as Result
      if (!isUnconfirmed(client)) return found
      broken = true
      throw new RungError('DATA_UNAVAILABLE', 'No replica has confirmed the commit in time. Try again shortly.')
    } catch (error) {
      // A value that could not be read: the server has done its part.
      if (isRungError(error)) throw error
      const state = sqlState(error)
      // Without a word from the server the failure was on this side, and what the server has of the statement is unknown.
      if (state === undefined || endsSession.test(state) || isOfPooler(error)) broken = true
      // It may be a replica by now; a new connection may lead to another server.
      if (state === '25006' && !isReadOnly(target)) {
        broken = true
        if (isOnReplica(client)) throw otherPrimary(error)
      }
      throw state === undefined ? toLostError(error, lastWordsOf(client), target) : toDataError(error, target)
    } finally {
      awaited -= 1
      answered += 1
    }
  }

  function breakIfSilent(): void {
    if (awaited === 0) return
    const before = answered
    after(cancelledMsMax, () => {
      if (answered === before) breakConnection(client)
    })
  }

  const toQuery = ({ text, values, name, driver }: Statement): QueryConfig =>
    ({ text, values, name: config.pooled ? undefined : name, ...driver }) as QueryConfig

  function send(statement: Statement): Promise<Result> {
    const query = toQuery(statement)
    const isPlain = statement.name === undefined && statement.values.length === 0
    return result(isPlain ? queryPlain(client, query) : queryTogether(client, [query])[0]!)
  }

  function isInTransaction(): boolean {
    return (client.getTransactionStatus() ?? 'I') !== 'I'
  }

  return {
    get inTransaction() {
      return isInTransaction()
    },
    async run(statement) {
      try {
        return await send(statement)
      } catch (error) {
        // It has done nothing, and is prepared anew. Inside a transaction all that came before it is lost.
        if (!isOutdated(error) || isInTransaction()) throw error
        return send(statement)
      }
    },
    runTogether: (statements) => queryTogether(client, statements.map(toQuery)).map(result),
    cancel() {
      breakIfSilent()
      cancelling ??= cancelSession(config, client).finally(() => {
        cancelling = undefined
      })
      return cancelling
    },
    release(discard = false) {
      broken ||= discard
      // A cancel that is still under way must not hit whoever has the connection next.
      if (cancelling) cancelling.then(giveBack, giveBack)
      else giveBack()
    },
  }
}
