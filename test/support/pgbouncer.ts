import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { poolsOf } from '../../src/engines/pgbouncer/recipe.ts'
import { installedPgbouncer, startPgbouncer } from '../../src/engines/pgbouncer/server.ts'
import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import { withDatabase } from '../../src/topology/urls.ts'
import { testLimits } from './data.ts'

/** For `{ skip: noPooler }`: the reason, where there is none. */
export const noPooler: string | false = installedPgbouncer()
  ? false
  : 'PgBouncer is not installed: rung engines install pgbouncer'

export interface Pooler {
  addresses: Record<'read' | 'write' | 'own' | 'reports', ConnectionConfig>
  stop(): Promise<void>
}

/** A real PgBouncer in transaction mode, with few server connections, so that clients do share them. */
export async function startPooler(to: ConnectionConfig): Promise<Pooler> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-pooler-'))
  const server = {
    ...{ host: to.host!, port: to.port ?? 5432, database: to.database! },
    ...{ user: to.user, password: to.password, tls: undefined },
  }
  const few = { read: 5, write: 5, own: 5, reports: 5 }
  const pools = poolsOf([{ name: 'postgres', server }], few, {
    ...testLimits,
    ...{ readConnectionsMax: 5, writeConnectionsMax: 5, idleTimeoutMs: 60_000, lagMsMax: 5_000 },
  }).map((pool) => ({ ...pool, limits: testLimits }))
  const pooler = await startPgbouncer({ dir, pools, clientsMax: 100 })
  const address = (target: string): ConnectionConfig => ({
    url: withDatabase(pooler.url, `postgres.${target}`),
    pooled: true,
  })
  return {
    addresses: { read: address('read'), write: address('write'), own: address('own'), reports: address('reports') },
    async stop() {
      await pooler.stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
