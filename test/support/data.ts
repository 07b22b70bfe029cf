import type { Database } from '../../src/primitives/data/contract.ts'
import { type PostgresOptions, postgresDatabase } from '../../src/primitives/data/postgres.ts'
import type { TestPostgres } from './postgres.ts'

/** The Postgres adapter on a fresh database. */
export async function openPostgres(postgres: TestPostgres, options: Partial<PostgresOptions> = {}): Promise<Database> {
  return postgresDatabase({
    name: 'main',
    connection: await postgres.createDatabase(),
    connectionsMax: { read: 5, write: 5 },
    idleTimeoutMs: 60_000,
    limits: { statementTimeoutMs: 60_000, lockTimeoutMs: 30_000, idleInTransactionTimeoutMs: 30_000 },
    ...options,
  })
}
