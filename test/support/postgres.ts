import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import { startEmbedded } from '../../src/engines/postgres/embedded.ts'

/** A private folder, gone after `body`. */
export async function withTempDir<T>(body: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  try {
    return await body(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

export interface TestPostgres {
  /** A fresh empty database, owned by the app's role. */
  createDatabase(): Promise<ConnectionConfig>
  /** The same server as its superuser. */
  admin: ConnectionConfig
  stop(): Promise<void>
}

/** A real Postgres for one test file. The test run starts one for all files and names its socket; alone, a file starts its own. */
export async function testPostgres(): Promise<TestPostgres> {
  const shared = process.env.RUNG_TEST_POSTGRES
  if (shared) return serve({ host: shared, port: 5432, user: 'rung', database: 'postgres' }, async () => {})
  return ownPostgres()
}

/** A server of one test file alone, with settings as apps have them: that of all files does not wait for its disk, which the doctor finds. */
export async function ownPostgres(): Promise<TestPostgres> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  const server = await startEmbedded({ root: dir, connectionsMax: 100 })
  return serve({ ...server.adminConnection, database: 'postgres' }, async () => {
    await server.stop()
    await rm(dir, { recursive: true, force: true })
  })
}

function serve(admin: ConnectionConfig, stop: () => Promise<void>): TestPostgres {
  return {
    admin,
    stop,
    async createDatabase() {
      const name = `t_${randomBytes(6).toString('hex')}`
      const client = await connectOnce(admin)
      await client.query(`create database ${name} owner app`).finally(() => client.end())
      return { ...admin, user: 'app', database: name }
    },
  }
}

/** As a URL, for a process of its own. */
export function urlOf({ host, user, database }: ConnectionConfig): string {
  return `postgres://${user}@/${database}?host=${encodeURIComponent(host!)}`
}
