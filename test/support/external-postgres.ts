import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { sleep } from '../../src/kernel/clock.ts'

/**
 * Starts the Postgres of a folder of binaries, of another version than Rung's own, with the roles that the tests use. As root it
 * runs as the user `postgres`, because it refuses to run as root.
 */
export async function startExternal(bin: string): Promise<{ url: string; stop(): Promise<void> }> {
  const dir = mkdtempSync(path.join(tmpdir(), 'rung-pg-'))
  chmodSync(dir, 0o755) // a pooler runs as another user
  const data = path.join(dir, 'data')
  const idOf = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  const user = process.getuid?.() === 0 ? { uid: idOf('-u'), gid: idOf('-g') } : {}
  if (user.uid !== undefined) chownSync(dir, user.uid, user.gid)
  const asUser = { ...user, cwd: dir, stdio: ['ignore', 'ignore', 'inherit'] as ['ignore', 'ignore', 'inherit'] }
  const initdb = ['-D', data, '-U', 'rung', '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync']
  execFileSync(path.join(bin, 'initdb'), initdb, asUser)
  const settings = ['fsync=off', 'max_connections=300', 'wal_level=logical', 'track_commit_timestamp=on']
  const args = ['-D', data, '-k', dir, '-c', 'listen_addresses=', ...settings.flatMap((each) => ['-c', each])]
  const child = spawn(path.join(bin, 'postgres'), args, { ...asUser, stdio: 'ignore' })
  const exited = once(child, 'exit')
  const connection = { host: dir, port: 5432, user: 'rung', database: 'postgres' }
  for (let attempt = 0; ; attempt += 1) {
    const client = await connectOnce(connection).catch((error) => {
      if (attempt > 600 || child.exitCode !== null) throw error
    })
    if (client) {
      await client.query('create role app login createdb; grant pg_monitor to app').finally(() => client.end())
      break
    }
    await sleep(50)
  }
  return {
    url: `postgres://app@/postgres?host=${encodeURIComponent(dir)}`,
    async stop() {
      child.kill('SIGINT')
      await exited
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
