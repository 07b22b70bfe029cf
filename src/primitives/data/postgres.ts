import {
  type ConnectionConfig,
  connectOnce,
  createPool,
  type PooledClient,
  type QueryConfig,
  type SessionLimits,
} from '../../engines/postgres/client.ts'
import { after, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import type { Connection, Database, Result, Statement, Target } from './contract.ts'
import { toDataError } from './errors.ts'

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
      return connection(client, options.connection)
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

function connection(client: PooledClient, config: ConnectionConfig): Connection {
  return {
    async run(statement: Statement): Promise<Result> {
      try {
        const { text, values, name, driver } = statement
        return (await client.query({ text, values, name, ...driver } as QueryConfig)) as Result
      } catch (error) {
        throw toDataError(error)
      }
    },
    async cancel() {
      const { processID } = client as PooledClient & { processID: number }
      const other = await connectOnce(config)
      await other.query('select pg_cancel_backend($1)', [processID]).finally(() => other.end())
    },
    release(broken = false) {
      client.release(broken)
    },
  }
}
