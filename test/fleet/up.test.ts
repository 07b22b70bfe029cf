import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { appendFile, mkdir, open, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { shorten } from '../../src/fleet/short-logs.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { idsIn, post, write } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { freePort } from '../support/ports.ts'
import {
  bin,
  ended,
  environment,
  type Facts,
  type Launched,
  launchRung,
  ledgerApp,
  openScratch,
  processesOn,
  type Scratch,
  sameExit,
  until,
  withScratch,
} from '../support/process.ts'
import { noRedis, testRedis } from '../support/redis.ts'

const skip = noRedis || noNginx

interface Said {
  code: number | null
  stdout: string
  stderr: string
}

/** A command from another terminal. */
async function rung(
  command: readonly string[],
  dataDir: string,
  env: Record<string, string> = {},
  cwd = dataDir,
): Promise<Said> {
  const { exited, stdout, stderr } = launchRung({ command, dataDir, env, cwd })
  const { code } = await exited
  return { code, stdout: stdout(), stderr: stderr() }
}

async function pidsOf(dataDir: string): Promise<Record<string, { pid: number; restarts: number; state: string }>> {
  const { stdout } = await rung(['ps', '--brief', '--json'], dataDir)
  const { parts } = JSON.parse(stdout) as { parts: { name: string; pid: number; restarts: number; state: string }[] }
  return Object.fromEntries(parts.map((part) => [part.name, part]))
}

async function nothingLeft(dataDir: string, pids: readonly number[]): Promise<void> {
  for (const pid of pids) await ended(pid)
  await until(async () => (await processesOn(dataDir)).length === 0, 'nothing runs on the folder')
}

describe('rung up 10k', { skip }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let up: Launched
  let facts: Facts
  before(async () => {
    scratch = await openScratch()
    up = scratch.launch({ up: '10k', args: ['--web', '2'] })
    facts = await up.started
  })
  after(() => scratch?.end())

  it('answers through the edge', async () => {
    assert.deepEqual(
      facts.parts!.map(({ name }) => name),
      ['edge', 'web-1', 'web-2', 'worker-1', 'redis', 'postgres'],
    )
    await write(facts, 'first')
    const answer = await fetch(`${facts.url}/entries`)
    assert.ok(answer.headers.has('x-cache'))
  })

  it('is seen from another terminal', async () => {
    const table = await rung(['ps'], scratch.dataDir)
    assert.equal(table.code, 0)
    for (const { name, pid } of facts.parts!) assert.match(table.stdout, new RegExp(`^${name} .* ${pid} `, 'm'))
    for (const line of table.stdout.split('\n')) assert.ok(line.length <= 80, line)
    const logs = await rung(['logs', 'postgres', 'redis', '--lines', '5', '--json'], scratch.dataDir)
    const { lines } = JSON.parse(logs.stdout) as { lines: { part: string; text: string }[] }
    assert.deepEqual([...new Set(lines.map(({ part }) => part))], ['postgres', 'redis'])
    const unknown = await rung(['logs', 'nobody'], scratch.dataDir)
    assert.match(unknown.stderr, /no log of "nobody".*web-1/)
    const old = path.join(scratch.dataDir, 'fleet/web-7')
    await mkdir(old)
    await writeFile(path.join(old, 'server.log'), 'it ran once\n')
    const shows = async (...args: string[]) =>
      (await rung(['logs', ...args], scratch.dataDir)).stdout.includes('it ran once')
    assert.deepEqual([await shows(), await shows('web')], [false, false], 'the fleet has no web-7')
    assert.deepEqual([await shows('--all'), await shows('web', '--all'), await shows('web-7')], [true, true, true])
    await rm(old, { recursive: true })
  })

  it('shows what its parts write, as it comes', async () => {
    const following = spawn(process.execPath, ['--conditions=rung-source', bin, 'logs', 'redis', '-f', '--json'], {
      env: environment({ dataDir: scratch.dataDir, env: {} }),
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let said = ''
    following.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      said += chunk
    })
    try {
      await until(() => said.includes('Server initialized'), 'the old lines are there')
      await appendFile(path.join(scratch.dataDir, 'fleet/redis/server.log'), 'half a ')
      await appendFile(path.join(scratch.dataDir, 'fleet/redis/server.log'), 'line\n')
      await until(() => said.includes('{"part":"redis","text":"half a line"}\n'), 'the new one comes as a whole')
    } finally {
      following.kill('SIGKILL')
    }
  })

  it('tells no password: not in its state, nor on a command line', async () => {
    const state = await readFile(path.join(scratch.dataDir, 'fleet/state.json'), 'utf8')
    const secret = await readFile(path.join(scratch.dataDir, 'secret'), 'utf8')
    const { stdout } = await rung(['ps', '--json'], scratch.dataDir)
    const commands = await Promise.all(
      facts.parts!.map(({ pid }) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
    )
    const conf = await readFile(path.join(scratch.dataDir, 'fleet/redis/redis.conf'), 'utf8')
    const password = /requirepass "(.+)"/.exec(conf)![1]!
    for (const text of [state, stdout, ...commands, up.stdout(), up.stderr()])
      for (const hidden of [secret, password]) assert.ok(!text.includes(hidden))
  })

  it('refuses a second one on the same data directory, and does not wait for a change', async () => {
    const second = await scratch.startFails({ up: '10k' })
    sameExit(second, 1)
    assert.equal(second.error?.code, 'DATA_DIR_IN_USE')
    assert.match(second.error.message, new RegExp(`^Process ${up.pid} runs rung up on `))
    for (const command of ['start', 'dev']) {
      const { code, stderr } = await rung([command, facts.app], scratch.dataDir, {}, scratch.dir)
      assert.equal(code, 1, command)
      assert.match(stderr, new RegExp(`^rung up 10k runs here, as process ${up.pid}\\. End it with rung stop, `, 'm'))
      assert.doesNotMatch(stderr, /Waiting for a change/)
    }
  })

  it('starts again what is killed, and loses nothing that was acknowledged', async () => {
    const acknowledged: string[] = []
    let over = false
    let count = 0
    const writer = async () => {
      while (!over) {
        const id = `w${count++}`
        if ((await post(facts, id)) === '201') acknowledged.push(id)
        else await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
    const writing = Promise.all([writer(), writer()])
    try {
      for (const name of ['web-1', 'worker-1', 'redis', 'edge', 'postgres', 'web-2']) {
        const { [name]: old } = await pidsOf(scratch.dataDir)
        process.kill(old!.pid, 'SIGKILL')
        const isBack = async () => {
          const { [name]: now } = await pidsOf(scratch.dataDir)
          return now?.state === 'running' && now.restarts === old!.restarts + 1 && now.pid !== old!.pid
        }
        await until(isBack, `${name} is back`)
        const before = acknowledged.length
        await until(() => acknowledged.length > before + 5, `writes are taken after the end of ${name}`)
      }
    } finally {
      over = true
      await writing
    }
    const ids = new Set(await idsIn(facts))
    assert.ok(acknowledged.length > 30)
    assert.deepEqual(
      acknowledged.filter((id) => !ids.has(id)),
      [],
    )
    assert.ok(ids.has('first'))
  })

  it('ends with its supervisor, also when that is killed; the next one finds everything', async () => {
    const pids = Object.values(await pidsOf(scratch.dataDir)).map(({ pid }) => pid)
    const before = await idsIn(facts)
    await up.kill()
    await nothingLeft(scratch.dataDir, pids)
    const gone = await rung(['ps'], scratch.dataDir)
    assert.deepEqual([gone.code, gone.stdout], [1, 'Nothing runs here (data directory .).\n'])
    up = scratch.launch({ up: '10k' })
    facts = await up.started
    assert.deepEqual(await idsIn(facts), before)
  })

  it('is taken over at once, too', async () => {
    const pids = Object.values(await pidsOf(scratch.dataDir)).map(({ pid }) => pid)
    const before = await idsIn(facts)
    const killed = up.kill()
    up = scratch.launch({ up: '10k' })
    await killed
    facts = await up.started
    for (const pid of pids) await ended(pid)
    assert.deepEqual(await idsIn(facts), before)
  })

  it('stops from another terminal, from the edge inwards, and leaves nothing', async () => {
    const pids = Object.values(await pidsOf(scratch.dataDir)).map(({ pid }) => pid)
    const stopped = await rung(['stop', '--json'], scratch.dataDir)
    assert.deepEqual(JSON.parse(stopped.stdout), { stopped: true, data: scratch.dataDir, pid: up.pid })
    sameExit(await up.exited, 0)
    await nothingLeft(scratch.dataDir, pids)
    const again = await rung(['stop'], scratch.dataDir)
    assert.deepEqual([again.code, again.stdout], [0, 'Nothing runs here (data directory .).\n'])
  })
})

describe('rung up 100k', { skip: skip || noHaproxy || noPooler }, () => {
  it('answers through edge, balancer and pooler, while each part is killed, and leaves nothing', async () => {
    await withScratch(async ({ launch, dataDir }) => {
      const up = launch({ up: '100k', args: ['--replicas', '0'] })
      const facts = await up.started
      const front = ['edge', 'balancer', 'web-1', 'web-2', 'web-3']
      assert.deepEqual(
        facts.parts!.map(({ name }) => name),
        [...front, 'worker-1', 'redis', 'pooler', 'postgres'],
      )
      const table = await rung(['ps'], dataDir)
      for (const { name, pid } of facts.parts!) assert.match(table.stdout, new RegExp(`^${name} .* ${pid} `, 'm'))
      await write(facts, 'first')
      const acknowledged = ['first']
      for (const name of ['web-1', 'balancer', 'pooler']) {
        const { [name]: old } = await pidsOf(dataDir)
        process.kill(old!.pid, 'SIGKILL')
        if (name === 'web-1') assert.equal((await fetch(`${facts.url}/entries`)).status, 200)
        await until(async () => {
          const { [name]: now } = await pidsOf(dataDir)
          return now?.state === 'running' && now.pid !== old!.pid
        }, `${name} runs again`)
        await until(async () => (await post(facts, `after-${name}`)) === '201', 'writes go on')
        acknowledged.push(`after-${name}`)
      }
      const ids = await idsIn(facts)
      for (const id of acknowledged) assert.ok(ids.includes(id), id)
      const pids = Object.values(await pidsOf(dataDir)).map(({ pid }) => pid)
      sameExit(await up.stop(), 0)
      await nothingLeft(dataDir, pids)
      const files = await readdir(path.join(dataDir, 'fleet'), { recursive: true, withFileTypes: true })
      assert.deepEqual(
        files.filter((file) => file.isSocket()).map(({ name }) => name),
        [],
      )
    })
  })
})

describe('rung up', { skip }, () => {
  it('finishes the request in hand when it is told to stop', () =>
    withScratch(async ({ launch, connect, dataDir }) => {
      const up = launch({ up: '10k' })
      const { url } = await up.started
      const lock = await connect()
      await lock.query('select pg_advisory_lock(7)')
      const held = fetch(`${url}/held/7`)
      await until(
        async () =>
          (await lock.query(`select 1 from pg_locks where locktype = 'advisory' and objid = 7 and not granted`))
            .rowCount,
        'the request waits',
      )
      const stopping = up.stop('SIGINT')
      await up.saw(/finishing requests and jobs/)
      await lock.query('select pg_advisory_unlock(7)')
      const answer = await held
      assert.equal(answer.status, 200, await answer.text())
      sameExit(await stopping, 0)
      assert.deepEqual(await processesOn(dataDir), [])
    }))

  it('stops in the middle of its start', () =>
    withScratch(async ({ launch, dataDir }) => {
      const up = launch({ up: '10k' })
      await until(async () => (await processesOn(path.join(dataDir, 'fleet'))).length > 0, 'something runs')
      sameExit(await up.stop(), 0)
      await nothingLeft(dataDir, [])
    }))

  it('uses a Redis of yours, no edge, and one process at 1k', () =>
    withScratch(async ({ launch, dir, dataDir }) => {
      const redis = await testRedis()
      try {
        // The app as people have it: a folder with a file, and its topology beside it.
        await mkdir(path.join(dir, 'app'))
        await writeFile(path.join(dir, 'app/app.ts'), `export { default } from ${JSON.stringify(ledgerApp)}\n`)
        await symlink(path.resolve('node_modules'), path.join(dir, 'app/node_modules'))
        const config = { rung: '10k', cache: { url: redis.url }, edge: 'off' }
        await writeFile(path.join(dir, 'app/rung.config.ts'), `export default ${JSON.stringify(config)}\n`)
        const app = path.join(dir, 'app/app.ts')
        const up = launch({ up: '10k', app })
        const { url, parts } = await up.started
        assert.deepEqual(
          parts!.map(({ name }) => name),
          ['web-1', 'worker-1', 'postgres'],
        )
        await write({ url }, 'x')
        sameExit(await up.stop(), 0)
        const small = launch({ up: '1k', app, env: { RUNG_REDIS_URL: redis.url } })
        const facts = await small.started
        assert.deepEqual(
          facts.parts!.map(({ name }) => name),
          ['app-1', 'postgres'],
        )
        assert.deepEqual(await idsIn(facts), ['x'])
        sameExit(await small.stop(), 0)
        await nothingLeft(dataDir, [])
      } finally {
        await redis.stop()
      }
    }))

  it('says before a second process runs what the app keeps in one', { skip: noHaproxy }, () =>
    withScratch(async ({ launch, dataDir }) => {
      const app = path.resolve(import.meta.dirname, '../support/apps/till/app.ts')
      const kept =
        /^The app keeps in one process.*\n {2}\S*till\/app\.ts:64 {2}"failures" is a Map in the memory of one process/m
      const two = launch({ up: '10k', app, args: ['--web', '2'] })
      await two.started
      assert.match(two.stderr(), kept)
      await two.stop()
      const env = { RUNG_BALANCER: 'on', RUNG_EDGE: 'off' } // so that it can be scaled while it runs
      const one = launch({ up: '10k', app, env, args: ['--web', '1', '--worker', '0'] })
      await one.started
      assert.doesNotMatch(one.stderr(), kept)
      const scaled = await rung(['scale', 'web=2'], dataDir)
      assert.equal(scaled.code, 0, scaled.stderr)
      assert.match(scaled.stderr, kept)
      assert.doesNotMatch((await rung(['scale', 'web=3'], dataDir)).stderr, kept)
    }),
  )

  it('believes the edge for whom it asks, and nobody else', () =>
    withScratch(async ({ launch }) => {
      const up = launch({ up: '10k', env: { RUNG_LIMITS: 'on' } })
      const { url, parts } = await up.started
      const remaining = async (at: string, from: string) => {
        const answer = await fetch(`${at}/entries`, { headers: { 'x-forwarded-for': from } })
        await answer.text()
        return Number(/r=(\d+)/.exec(answer.headers.get('ratelimit') ?? '')?.[1])
      }
      const first = await remaining(url, '203.0.113.1')
      assert.equal(await remaining(url, '203.0.113.2'), first - 1, 'a client cannot choose its address')
      const web = parts!.find(({ name }) => name === 'web-1')!
      assert.equal(await remaining(`http://${web.address}`, '203.0.113.3'), first, 'the edge may say')
      sameExit(await up.stop(), 0)
    }))

  it('says in one sentence what is wrong, and starts nothing', () =>
    withScratch(async ({ startFails, dir, dataDir }) => {
      const port = await freePort()
      const other = createServer().listen(port, '127.0.0.1')
      const cases: [options: Parameters<typeof startFails>[0], code: string, says: RegExp][] = [
        [
          { args: ['--port', String(port)] },
          'PORT_IN_USE',
          /^Port \d+ of 127\.0\.0\.1 is in use\. .*set PORT \(or --port\) to another one\.$/,
        ],
        [{ args: ['--web', 'two'] }, 'CONFIG_INVALID', /^--web is "two"/],
        [{ up: '100m' }, 'COMMAND_INVALID', /^"100m" is not a rung\. Rungs are 1k, 10k, 100k and 500k\.$/],
        [{ up: '100kk' }, 'COMMAND_INVALID', /^"100kk" is not a rung\./],
        [{ up: '100K' }, 'COMMAND_INVALID', /^"100K" is not a rung\./],
        [{ env: { RUNG_EDGE: 'yes' } }, 'CONFIG_INVALID', /^RUNG_EDGE is "yes"/],
        [{ env: { LOG_LEVEL: 'loud' } }, 'CONFIG_INVALID', /^LOG_LEVEL is "loud"/],
        [{ env: { RUNG_TRUST_PROXY: 'everybody' } }, 'CONFIG_INVALID', /^RUNG_TRUST_PROXY is "everybody"/],
        [{ app: path.join(dir, 'none.ts') }, 'APP_NOT_FOUND', /^There is no none\.ts here/],
        [{ env: { RUNG_BACKUP_DIR: dir, RUNG_BACKUP_KEEP: 'all' } }, 'CONFIG_INVALID', /^RUNG_BACKUP_KEEP is "all"/],
      ]
      try {
        for (const [options, code, says] of cases) {
          const failed = await startFails({ up: '10k', ...options })
          sameExit(failed, 1)
          assert.equal(failed.error?.code, code, failed.stdout)
          assert.match(failed.error.message, says)
          assert.equal(failed.stderr, '')
        }
        await writeFile(path.join(dir, 'rung.config.ts'), 'export default { cache: 7 }\n')
        const failed = await startFails({ up: '10k' })
        assert.match(failed.error!.message, /^rung\.config\.ts has "cache"/)
        await writeFile(path.join(dir, 'rung.config.ts'), 'export default { cdn: { name: "fastly", id: "x" } }\n')
        const keyless = await startFails({ up: '10k', env: { RUNG_CDN_TOKEN: '' } })
        assert.match(keyless.error!.message, /^A CDN needs RUNG_CDN_TOKEN, a token that may purge/)
      } finally {
        other.close()
      }
      assert.deepEqual(await processesOn(dataDir), [])
    }))

  it('tells what the app itself says when it does not start, and stops the rest', () =>
    withScratch(async ({ startFails, dir, dataDir }) => {
      const app = path.join(dir, 'app.ts')
      await writeFile(app, 'export default { name: 7 }\n')
      const failed = await startFails({ up: '10k', app })
      assert.equal(failed.error?.code, 'APP_INVALID', failed.stdout)
      assert.match(failed.error.message, /must export an app/)
      await writeFile(app, 'export const one = 1\nexport default { one: 1,, }\n')
      const unread = await startFails({ up: '10k', app })
      assert.match(unread.error!.message, /app\.ts:2:25: Unexpected token/)
      assert.match(String((unread.error as { at?: string }).at), /app\.ts:2:25$/)
      await nothingLeft(dataDir, [])
    }))

  it('names the command where engines are not installed', (t) =>
    withScratch(async ({ dir, dataDir }) => {
      if (process.getuid?.() !== 0 || process.platform !== 'linux')
        return t.skip('only root on Linux can hide a program')
      const programs = ['redis-server', 'valkey-server', 'nginx', 'openresty'].map(
        (name) => `/usr/bin/${name} /usr/sbin/${name}`,
      )
      const hide = `for f in ${programs.join(' ')}; do [ ! -e "$f" ] || mount --bind /dev/null "$f"; done; exec "$@"`
      const command = [process.execPath, '--conditions=rung-source', bin, 'up', '10k', ledgerApp, '--json']
      const { stdout } = spawnSync('unshare', ['--mount', 'sh', '-c', hide, 'sh', ...command], {
        cwd: dir,
        env: environment({ dataDir, env: {} }),
        encoding: 'utf8',
      })
      const { error } = JSON.parse(stdout) as { error: { code: string; message: string } }
      assert.equal(error.code, 'ENGINE_MISSING')
      assert.equal(
        error.message,
        'Redis is not installed, and nginx is not installed. Run: rung engines install redis nginx',
      )
      assert.deepEqual(await processesOn(dataDir), [])
    }))
})

describe('a log that has grown large', () => {
  it('goes aside, and begins anew under its writer', () =>
    withScratch(async ({ dir }) => {
      const file = path.join(dir, 'server.log')
      const log = await open(file, 'a')
      await log.write('x'.repeat(100))
      await shorten(file, 100)
      assert.equal((await readFile(file, 'utf8')).length, 100)
      await log.write('y')
      await shorten(file, 100)
      await log.write('z')
      await log.close()
      assert.equal(await readFile(file, 'utf8'), 'z')
      assert.equal((await readFile(`${file}.1`, 'utf8')).length, 101)
    }))
})

describe('rung topology', () => {
  it('prints what runs where, in 80 columns, without passwords', () =>
    withScratch(async ({ dir }) => {
      const env = { DATABASE_URL: 'postgres://me:hidden@db/app' }
      const table = await rung(['topology', '10k'], dir, env)
      assert.equal(table.code, 0, table.stderr)
      for (const line of table.stdout.split('\n')) assert.ok(line.length <= 80, line)
      assert.match(table.stdout, /^postgres +yours +Postgres at db$/m)
      assert.match((await rung(['topology', '10k', '--web', '3'], dir, env)).stdout, /^web +3 /m)
      const described = await rung(['topology', '10k', '--json'], dir, env)
      const { topology } = JSON.parse(described.stdout) as { topology: { rung: string; data: { engine: string } } }
      assert.deepEqual([topology.rung, topology.data.engine], ['10k', 'external'])
      assert.ok(!described.stdout.includes('hidden'))
      const file = 'export default { cdn: { name: "fastly", id: "abc" } }\n'
      await writeFile(path.join(dir, 'rung.config.ts'), file)
      const token = { RUNG_CDN_TOKEN: 'hidden' }
      const shown = await rung(['topology', '10k'], dir, token)
      assert.match(shown.stdout, /^cdn +yours +Fastly, service abc$/m)
      const data = await rung(['topology', '10k', '--json'], dir, token)
      const { cdn } = (JSON.parse(data.stdout) as { topology: { cdn: object } }).topology
      assert.deepEqual(cdn, { name: 'fastly', id: 'abc' })
      assert.ok(!`${shown.stdout}${data.stdout}`.includes('hidden'))
    }))
})
