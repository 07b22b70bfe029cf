import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import { migrate } from '../../src/migrations/migrate.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { type PostgresOptions, postgresDatabase } from '../../src/primitives/data/postgres.ts'
import { systemMigrations } from '../../src/runtime/migrations.ts'
import type { TestPostgres } from './postgres.ts'

export const testLimits = { statementTimeoutMs: 60_000, lockTimeoutMs: 30_000, idleInTransactionTimeoutMs: 30_000 }

/** The Postgres adapter on a fresh database. */
export async function openPostgres(postgres: TestPostgres, options: Partial<PostgresOptions> = {}): Promise<Database> {
  return postgresDatabase({
    name: 'main',
    connection: options.connection ?? (await postgres.createDatabase()),
    connectionsMax: { read: 5, write: 5 },
    idleTimeoutMs: 60_000,
    limits: testLimits,
    ...options,
  })
}

/** The same with Rung's own tables. */
export async function openSystemTables(
  postgres: TestPostgres,
): Promise<{ database: Database; connection: ConnectionConfig }> {
  const connection = await postgres.createDatabase()
  await migrate({ connection, migrations: systemMigrations })
  return { connection, database: await openPostgres(postgres, { connection, connectionsMax: { read: 5, write: 10 } }) }
}
