import {
  type ConnectionConfig,
  cancelSession,
  createPool,
  lastWordsOf,
  type PooledClient,
  type QueryConfig,
  queryPlain,
  queryTogether,
  type SessionLimits,
} from '../../engines/postgres/client.ts'
import { after, systemClock } from '../../kernel/clock.ts'
import { isRungError, RungError } from '../../kernel/errors.ts'
import type { Connection, Database, Result, Statement, Target } from './contract.ts'
import { isOutdated, sqlState, toDataError, toLostError } from './errors.ts'

export interface PostgresOptions {
  name: string
  /** The server itself. */
  connection: ConnectionConfig
  /** A transaction pooler in front of it, with an address for each target, since it makes the settings of its sessions. */
  pooler?: Record<Exclude<Target, 'session'>, ConnectionConfig> | undefined
  limits: SessionLimits
  /** Connections for each target. Default: 3 for Rung's own work, 4 for sessions. */
  connectionsMax: { read: number; write: number; own?: number; session?: number }
  idleTimeoutMs: number
}

/** Limits of Rung's own statements: they are short, and upkeep works in small pieces. */
const ownLimits: SessionLimits = {
  statementTimeoutMs: 10_000,
  lockTimeoutMs: 5_000,
  idleInTransactionTimeoutMs: 10_000,
}

/** A pool for each target on one server. Sessions of the read pool are read-only, although they lead to the primary too. */
export function postgresDatabase(options: PostgresOptions): Database {
  const connectionsMax = { own: 3, session: 4, ...options.connectionsMax }
  const addressOf = (target: Target) =>
    ({ ...options.pooler, session: options.connection })[target] ?? options.connection
  const pool = (target: Target) =>
    createPool({
      connection: addressOf(target),
      limits: target === 'own' ? ownLimits : options.limits,
      readOnly: target === 'read',
      connectionsMax: connectionsMax[target],
      idleTimeoutMs: options.idleTimeoutMs,
    })
  const pools = { read: pool('read'), write: pool('write'), own: pool('own'), session: pool('session') }
  return {
    name: options.name,
    lags: false,
    async connect({ target, deadlineAt }) {
      const client = await checkOut(pools[target], deadlineAt)
      return connection(client, addressOf(target), target)
    },
    counts(target) {
      const { totalCount, idleCount, waitingCount } = pools[target]
      return { max: connectionsMax[target], total: totalCount, idle: idleCount, waiting: waitingCount }
    },
    async close() {
      await Promise.all(Object.values(pools).map((one) => one.end()))
    },
  }
}

/** `pg`'s own limit covers connecting and waiting together; the scope's deadline may come first. */
function checkOut(from: ReturnType<typeof createPool>, deadlineAt: number): Promise<PooledClient> {
  return new Promise((resolve, reject) => {
    let stopWaiting = () => {}
    let late = false
    const waiting = from.idleCount === 0
    if (waiting && deadlineAt !== Number.POSITIVE_INFINITY) {
      stopWaiting = after(Math.max(0, deadlineAt - systemClock.ticks()), () => {
        late = true
        reject(poolTimeout())
      })
    }
    from.connect((error, client) => {
      stopWaiting()
      if (late) return client?.release()
      if (client) return resolve(client)
      reject(/timeout exceeded when trying to connect/.test(String(error)) ? poolTimeout(error) : toDataError(error))
    })
  })
}

function poolTimeout(cause?: unknown): RungError {
  return new RungError(
    'DATA_POOL_TIMEOUT',
    'No database connection became free in time. Shorten the transactions, or raise the pool size.',
    { cause },
  )
}

/** States with which the server ends a session. The socket closes a moment later; until then the pool would lend it out again. */
const endsSession = /^(08(?!P01)|57P|25P0[34])/

function connection(client: PooledClient, config: ConnectionConfig, target: Target): Connection {
  let broken = false
  let cancelling: Promise<void> | undefined

  function giveBack(): void {
    // A transaction that somebody left open would swallow the work of the next one.
    const status = client.getTransactionStatus()
    client.release(broken || (status !== null && status !== 'I'))
  }

  async function result(answer: Promise<unknown>): Promise<Result> {
    try {
      return (await answer) as Result
    } catch (error) {
      // A value that could not be read: the server has done its part.
      if (isRungError(error)) throw error
      const state = sqlState(error)
      // Without a word from the server the failure was on this side, and what the server has of the statement is unknown.
      if (state === undefined || endsSession.test(state)) broken = true
      throw state === undefined ? toLostError(error, lastWordsOf(client), target) : toDataError(error, target)
    }
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
