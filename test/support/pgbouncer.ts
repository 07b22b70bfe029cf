import { existsSync } from 'node:fs'
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type ConnectionConfig, connectOnce, sessionSettings } from '../../src/engines/postgres/client.ts'
import { findLauncher } from '../../src/engines/process/launcher.ts'
import { startServer } from '../../src/engines/process/server-process.ts'
import { testLimits } from './data.ts'

export const poolerPackages = {
  debian: ['pgbouncer'],
  debianServices: ['pgbouncer'],
  brew: ['pgbouncer'],
  dockerImage: '',
}

const program = ['/usr/sbin/pgbouncer', '/opt/homebrew/bin/pgbouncer', '/usr/local/bin/pgbouncer'].find((place) =>
  existsSync(place),
)

/** For `{ skip: noPooler }`: the reason, where there is none. */
export const noPooler: string | false = program
  ? false
  : 'no PgBouncer is installed: install it (apt install pgbouncer, brew install pgbouncer)'

export interface Pooler {
  addresses: Record<'read' | 'write' | 'own', ConnectionConfig>
  stop(): Promise<void>
}

/** A real PgBouncer in transaction mode, with few server connections, so that clients do share them. */
export async function startPooler(to: ConnectionConfig): Promise<Pooler> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-pooler-'))
  const launcher = findLauncher({ program: program!, name: 'PgBouncer', advice: 'run the tests as another user' })
  const entry = (readOnly: boolean) => {
    const settings = Object.entries(sessionSettings(testLimits, readOnly)).map(
      ([name, value]) => `set ${name}='${value}'`,
    )
    const query = settings.join('; ').replaceAll("'", "''")
    return `host=${to.host} port=${to.port ?? 5432} dbname=${to.database} user=${to.user} connect_query='${query}'`
  }
  const config = path.join(dir, 'pgbouncer.ini')
  const server = await startServer({
    name: 'PgBouncer',
    dir,
    program: program!,
    args: [config],
    launcher,
    async prepare() {
      const lines = [
        '[databases]',
        `read = ${entry(true)}`,
        `write = ${entry(false)}`,
        `own = ${entry(false)}`,
        '[pgbouncer]',
        'listen_addr =',
        `unix_socket_dir = ${dir}`,
        'listen_port = 6432',
        'auth_type = any',
        'pool_mode = transaction',
        'default_pool_size = 5',
      ]
      await writeFile(config, `${lines.join('\n')}\n`, { mode: 0o600 })
      if (launcher.uid !== undefined) await chown(config, launcher.uid, launcher.gid!)
    },
    async isReady() {
      const client = await connectOnce(address('own')).catch(() => undefined)
      await client?.end()
      return client !== undefined
    },
    address: dir,
  })
  function address(database: string): ConnectionConfig {
    return { host: dir, port: 6432, user: 'any', database, pooled: true }
  }
  return {
    addresses: { read: address('read'), write: address('write'), own: address('own') },
    async stop() {
      await server.stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
