import type { Database } from './contract.ts'
import { compile, type Sql } from './sql.ts'

/** One statement on the primary, in a transaction of its own and outside any scope: for the tables of the primitives. */
export async function runAlone<Row>(database: Database, statement: Sql): Promise<Row[]> {
  const connection = await database.connect('write', Number.POSITIVE_INFINITY)
  try {
    return (await connection.run(compile(statement))).rows as Row[]
  } finally {
    connection.release()
  }
}
