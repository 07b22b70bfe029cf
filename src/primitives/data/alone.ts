import { systemClock } from '../../kernel/clock.ts'
import { currentScope } from '../../kernel/scope.ts'
import type { Database, Target } from './contract.ts'
import { compile, type Sql } from './sql.ts'

const waitMsMax = 5_000

/** Returns when Rung's own work gives up waiting for a connection: after 5 s, and no later than its scope ends. */
export function ownDeadline(): number {
  return Math.min(systemClock.ticks() + waitMsMax, currentScope()?.deadlineAt ?? Number.POSITIVE_INFINITY)
}

/** Runs one statement of Rung's own on the primary, in a transaction of its own, also inside an open `write`. */
export async function runAlone<Row>(
  database: Database,
  statement: Sql,
  target: Exclude<Target, 'read'> = 'own',
): Promise<Row[]> {
  const connection = await database.connect({ target, deadlineAt: ownDeadline() })
  try {
    return (await connection.run(compile(statement))).rows as Row[]
  } finally {
    connection.release()
  }
}
