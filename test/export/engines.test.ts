import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { installedHaproxy } from '../../src/engines/haproxy/server.ts'
import { natsAnswers } from '../../src/engines/nats/client.ts'
import { natsArgs, natsUrl } from '../../src/engines/nats/recipe.ts'
import { installedNats } from '../../src/engines/nats/server.ts'
import { purgeTags } from '../../src/engines/nginx/client.ts'
import { installedNginx } from '../../src/engines/nginx/server.ts'
import { installedPgbouncer } from '../../src/engines/pgbouncer/server.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { findLauncher, type Launcher } from '../../src/engines/process/launcher.ts'
import { type ServerProcess, startServer } from '../../src/engines/process/server-process.ts'
import { redisFacts } from '../../src/engines/redis/client.ts'
import { installedRedis } from '../../src/engines/redis/server.ts'
import { type Env, filesFor } from '../support/exported.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { noNats } from '../support/nats.ts'
import { noNginx } from '../support/nginx.ts'
import { freePort } from '../support/ports.ts'
import { type TestPostgres, testPostgres, withTempDir } from '../support/postgres.ts'

/** What is written for containers, run by the engines of this machine: only places and ports are others. */

const noRedis = installedRedis() ? false : 'Redis is not installed: rung engines install redis'
const noPgbouncer = installedPgbouncer() ? false : 'PgBouncer is not installed: rung engines install pgbouncer'

interface Running {
  name: string
  program: string
  dir: string
  args: readonly string[]
  files: Env
  env?: Env
  isReady(): Promise<boolean>
}

async function withServer(running: Running, body: (server: ServerProcess) => Promise<void>): Promise<void> {
  const { dir, files, name, program } = running
  const launcher = findLauncher({ program, versionFlag: name === 'nginx' ? '-v' : '--version', name, advice: 'skip' })
  const server = await startServer({
    ...running,
    launcher,
    address: dir,
    ...(running.env && { env: { PATH: process.env.PATH, ...running.env } }),
    async prepare() {
      for (const [file, text] of Object.entries(files)) await writeOwned(path.join(dir, file), text, launcher)
    },
    isReady: () => running.isReady().catch(() => false),
  })
  await body(server).finally(() => server.stop())
}

async function writeOwned(file: string, text: string, { uid, gid }: Launcher): Promise<void> {
  await writeFile(file, text)
  if (uid !== undefined) await chown(file, uid, gid!)
}

describe('files for engines in containers', () => {
  it('HAProxy takes its own', { skip: noHaproxy }, () =>
    withTempDir(async (dir) => {
      const file = path.join(dir, 'haproxy.cfg')
      for (const files of [filesFor('compose', '100k'), filesFor('compose', '1k', { RUNG_BALANCER: 'on' })]) {
        await writeFile(file, files['haproxy.cfg']!)
        const { status, stderr } = spawnSync(installedHaproxy()!.path, ['-c', '-f', file], { encoding: 'utf8' })
        assert.equal(status, 0, stderr)
      }
    }),
  )

  it('Redis asks for the password of its command line', { skip: noRedis }, () =>
    withTempDir(async (root) => {
      const dir = path.join(root, 'redis')
      const port = await freePort()
      const url = `redis://:the-password@127.0.0.1:${port}`
      const place = ['--port', String(port), '--bind', '127.0.0.1']
      const running: Running = {
        name: 'Redis',
        program: installedRedis()!.path,
        dir,
        args: [path.join(dir, 'redis.conf'), '--requirepass', 'the-password', ...place],
        files: { 'redis.conf': filesFor('compose', '10k')['redis.conf']!.replace('/data', dir) },
        isReady: async () => (await redisFacts(url, 1_000)) !== undefined,
      }
      await withServer(running, async () => {
        await assert.rejects(redisFacts(url.replace('the-password', 'another'), 5_000))
      })
    }),
  )

  it('NATS asks for the password of its command line, alone and as a cluster of one', { skip: noNats }, () =>
    withTempDir(async (root) => {
      const [port, routes] = [await freePort(), await freePort()]
      const url = (password: string) => natsUrl(`127.0.0.1:${port}`, password)
      for (const cluster of [undefined, { port: routes, routes: [`127.0.0.1:${routes}`] }]) {
        const dir = path.join(root, cluster ? 'cluster' : 'alone')
        const file = filesFor('compose', '10k', { RUNG_EVENTS: 'jetstream' })['nats.conf']!
        const running: Running = {
          name: 'NATS',
          program: installedNats()!.path,
          dir,
          args: natsArgs(path.join(dir, 'nats.conf'), {
            ...{ name: 'nats-0', password: 'the-password' },
            ...(cluster && { cluster }),
          }),
          files: { 'nats.conf': file.replace('"/data', `"${dir}`).replace('0.0.0.0:4222', `127.0.0.1:${port}`) },
          isReady: () => natsAnswers(url('the-password'), 1_000),
        }
        await withServer(running, async () => {
          assert.equal(await natsAnswers(url('another'), 5_000), false)
        })
      }
    }),
  )

  it('nginx keeps its secret in the environment, and believes what trusted proxies forward', { skip: noNginx }, () =>
    withTempDir(async (root) => {
      await chmod(root, 0o755)
      const dir = path.join(root, 'edge')
      const [port, admin] = [await freePort(), await freePort()]
      const app = createServer((request, response) => response.end(JSON.stringify(request.headers)))
      await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve))
      const { port: appPort } = app.address() as { port: number }
      const files = filesFor('kubernetes', '10k', { RUNG_TRUST_PROXY: '127.0.0.1,10.9.0.0/16' })
      const placed = files['base/edge/nginx.conf']!.replaceAll('/etc/edge', dir)
        .replaceAll('/tmp/edge', dir)
        .replaceAll('0.0.0.0:3000', `127.0.0.1:${port}`)
        .replaceAll('0.0.0.0:9001', `127.0.0.1:${admin}`)
        .replaceAll('127.0.0.1:3001', `127.0.0.1:${appPort}`)
      const modules = installedNginx()!
        .modules!.map((file) => `load_module ${file};\n`)
        .join('')
      const headers = { 'x-forwarded-for': '203.0.113.7, 10.9.1.2', 'x-forwarded-proto': 'https' }
      const seen = async () =>
        (await (await fetch(`http://127.0.0.1:${port}/`, { headers })).json()) as Record<string, string>
      const running: Running = {
        name: 'nginx',
        program: installedNginx()!.path,
        dir,
        args: ['-p', dir, '-e', 'stderr', '-c', path.join(dir, 'nginx.conf')],
        env: { RUNG_EDGE_SECRET: 'secret-of-edge' },
        files: {
          'nginx.conf': `${modules}${placed}`,
          'rung_app.lua': files['base/edge/rung_app.lua']!,
          'rung_purge.lua': files['base/edge/rung_purge.lua']!,
        },
        isReady: async () => (await fetch(`http://127.0.0.1:${admin}/-/health`)).ok, // as the probe of Kubernetes
      }
      await mkdir(path.join(dir, 'tmp'), { recursive: true })
      for (const folder of [dir, path.join(dir, 'tmp')]) await chmod(folder, 0o777)
      try {
        await withServer(running, async () => {
          const { 'x-forwarded-for': client, 'x-forwarded-proto': scheme } = await seen()
          assert.deepEqual([client, scheme], ['203.0.113.7', 'https'])
          const url = `http://127.0.0.1:${admin}`
          await purgeTags({ url, secret: 'secret-of-edge' }, ['a'])
          await assert.rejects(purgeTags({ url, secret: 'another' }, ['a']))
        })
      } finally {
        app.close()
        app.closeAllConnections()
      }
    }),
  )

  describe('PgBouncer', { skip: noPgbouncer }, () => {
    let postgres: TestPostgres
    before(async () => {
      postgres = await testPostgres()
    })
    after(() => postgres.stop())

    it('lets the role of the app in by its password, to each server and target', () =>
      withTempDir(async (root) => {
        const dir = path.join(root, 'pooler')
        const port = await freePort()
        const { host, database } = await postgres.createDatabase()
        const users = path.join(dir, 'userlist.txt')
        const placed = filesFor('compose', '100k')
          ['pgbouncer.ini']!.replaceAll(/host='postgres(-\d)?'/g, `host='${host}'`)
          .replaceAll("dbname='app'", `dbname='${database}'`)
          .replace('listen_port = 6432', `listen_port = ${port}`)
          .replace('/etc/pgbouncer/userlist.txt', users)
        const at = (name: string, password: string) =>
          connectOnce({ url: `postgres://app:${password}@127.0.0.1:${port}/${name}`, pooled: true })
        const running: Running = {
          name: 'PgBouncer',
          program: installedPgbouncer()!.path,
          dir,
          args: [path.join(dir, 'pgbouncer.ini')],
          files: { 'pgbouncer.ini': placed, 'userlist.txt': '"app" "the-password"\n' },
          isReady: async () => {
            await (await at('postgres.own', 'the-password')).end()
            return true
          },
        }
        await withServer(running, async () => {
          for (const [name, readOnly] of [
            ['postgres.read', 'on'],
            ['postgres-3.write', 'off'],
          ] as const) {
            const client = await at(name, 'the-password')
            const { rows } = await client.query({ text: 'show default_transaction_read_only' })
            assert.deepEqual(Object.values(rows[0] as object), [readOnly])
            await client.end()
          }
          await assert.rejects(at('postgres.read', 'another'))
        })
      }))
  })

  it('scripts of Postgres are scripts', () =>
    withTempDir(async (dir) => {
      for (const name of ['postgres/app.sh', 'postgres/replica.sh']) {
        const file = path.join(dir, path.basename(name))
        await writeFile(file, filesFor('compose', '100k')[name]!)
        assert.equal(spawnSync('bash', ['-n', file]).status, 0)
      }
    }))
})
