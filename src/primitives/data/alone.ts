import { after, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { currentScope } from '../../kernel/scope.ts'
import type { Connection, Database, Target } from './contract.ts'
import { compile, type Sql } from './sql.ts'

const waitMsMax = 5_000
/** The server ends such a statement after 10 s (`ownLimits`). Later than this, no answer comes: the connection is dead. */
export const ownAnswerMs = 12_000

/** Returns when Rung's own work gives up waiting for a connection: after 5 s, and no later than its scope ends. */
export function ownDeadline(): number {
  return Math.min(systemClock.ticks() + waitMsMax, currentScope()?.deadlineAt ?? Number.POSITIVE_INFINITY)
}

/**
 * Lends a connection of the pool for Rung's own work. A connection that stays silent is discarded, so that the few that there are
 * do not all wait for a server that is gone.
 * @throws DATA_UNAVAILABLE when there is no answer within this time; what was sent may have been done
 */
export async function withOwnConnection<Result>(
  database: Database,
  work: (connection: Connection) => Promise<Result>,
  answerMs = ownAnswerMs,
): Promise<Result> {
  const connection = await database.connect({ target: 'own', deadlineAt: ownDeadline() })
  const { promise: silence, reject } = Promise.withResolvers<never>()
  let isSilent = false
  const forget = after(answerMs, () => {
    isSilent = true
    const message = `The database has not answered within ${answerMs / 1_000} s, and its connection was closed. Try again shortly.`
    reject(new RungError('DATA_UNAVAILABLE', message))
  })
  try {
    return await Promise.race([work(connection), silence])
  } finally {
    forget()
    connection.release(isSilent)
  }
}

/** Runs one statement of Rung's own on the primary, in a transaction of its own, also inside an open `write`. */
export async function runAlone<Row>(
  database: Database,
  statement: Sql,
  target: Exclude<Target, 'read'> = 'own',
): Promise<Row[]> {
  const run = async (connection: Connection) => (await connection.run(compile(statement))).rows as Row[]
  if (target === 'own') return withOwnConnection(database, run)
  const connection = await database.connect({ target, deadlineAt: ownDeadline() })
  try {
    return await run(connection)
  } finally {
    connection.release()
  }
}
