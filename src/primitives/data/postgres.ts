import {
  type ConnectionConfig,
  connectOnce,
  createPool,
  type PooledClient,
  type QueryConfig,
  queryTogether,
  type SessionLimits,
} from '../../engines/postgres/client.ts'
import { after, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import type { Connection, Database, Result, Statement, Target } from './contract.ts'
import { sqlState, toDataError } from './errors.ts'

export interface PostgresOptions {
  name: string
  connection: ConnectionConfig
  limits: SessionLimits
  /** Connections for each target. */
  connectionsMax: Record<Target, number>
  idleTimeoutMs: number
}

/** A pool for each target. Sessions of the read pool are read-only, also while both lead to the same server. */
export function postgresDatabase(options: PostgresOptions): Database {
  const pools = {
    read: pool(options, 'read'),
    write: pool(options, 'write'),
  }
  return {
    name: options.name,
    async connect(target, deadlineAt) {
      const client = await checkOut(pools[target], deadlineAt)
      return connection(client, options.connection, target)
    },
    counts(target) {
      const { totalCount, idleCount, waitingCount } = pools[target]
      return { max: options.connectionsMax[target], total: totalCount, idle: idleCount, waiting: waitingCount }
    },
    async close() {
      await Promise.all([pools.read.end(), pools.write.end()])
    },
  }
}

function pool(options: PostgresOptions, target: Target) {
  return createPool({
    connection: options.connection,
    limits: options.limits,
    readOnly: target === 'read',
    connectionsMax: options.connectionsMax[target],
    idleTimeoutMs: options.idleTimeoutMs,
  })
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

/**
 * States in which a connection's prepared statements are not to be trusted any more: one that the server does not know
 * (26000), or whose columns a migration has changed (0A000, "cached plan must not change result type").
 */
const staleStatement = new Set(['26000', '0A000'])

/** With these the server says goodbye; the socket closes a moment later, and until then the pool would lend it out again. */
const endsSession = /^(08|57P|25P03)/

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
      const state = sqlState(error)
      // Without a word from the server the failure was on this side, and what the server has of the statement is unknown.
      if (state === undefined || staleStatement.has(state) || endsSession.test(state)) broken = true
      throw toDataError(error, target)
    }
  }

  return {
    get inTransaction() {
      return (client.getTransactionStatus() ?? 'I') !== 'I'
    },
    run: (statement) => result(client.query(toQuery(statement))),
    runTogether(statements) {
      try {
        return queryTogether(client, statements.map(toQuery)).map(result)
      } catch (error) {
        throw toDataError(error, target)
      }
    },
    cancel() {
      cancelling ??= cancelBackend(client, config).finally(() => {
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

function toQuery({ text, values, name, driver }: Statement): QueryConfig {
  return { text, values, name, ...driver } as QueryConfig
}

async function cancelBackend(client: PooledClient, config: ConnectionConfig): Promise<void> {
  const { processID } = client as PooledClient & { processID: number }
  const other = await connectOnce(config)
  await other.query('select pg_cancel_backend($1)', [processID]).finally(() => other.end())
}
