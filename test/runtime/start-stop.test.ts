import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type Client, connectOnce } from '../../src/engines/postgres/client.ts'
import { openDataDir } from '../../src/engines/postgres/data-dir.ts'
import { observe } from '../../src/observe/observe.ts'
import { readBindings } from '../../src/topology/bindings.ts'
import { bootForTest } from '../support/app.ts'
import ledger from '../support/apps/ledger/app.ts'
import { idsIn, write } from '../support/ledger.ts'
import { testPostgres } from '../support/postgres.ts'
import {
  type Finished,
  isRunning,
  type Launched,
  openScratch,
  postgresPidOf,
  processesOn,
  type Scratch,
  sameExit,
  until,
  withScratch,
} from '../support/process.ts'

/** A stopped data directory, made once: a copy starts in a third of the time of a first start. */
let template: Awaited<ReturnType<typeof openScratch>>
before(async () => {
  template = await openScratch()
  sameExit(await (await template.start()).stop(), 0)
})
after(() => template.end())

function copyTemplate(to: string): void {
  assert.equal(spawnSync('cp', ['-a', template.dataDir, to]).status, 0)
}

/** One line that says what happened and what to do; no stack, nothing beside it. */
function saysOnce(finished: Finished, code: string, about: RegExp): void {
  sameExit(finished, 1)
  const { error, stdout, stderr } = finished
  assert.equal(error?.code, code, stdout + stderr)
  assert.match(error.message, about)
  assert.match(error.message, /^[^\n]{10,400}[.)\w]$/)
  assert.doesNotMatch(stdout + stderr, /\n\s+at |Warning:|UNEXPECTED/)
  assert.equal(stderr, '')
}

describe('start', () => {
  it('makes everything at the first start and finds it at the second', () =>
    withScratch(async ({ dataDir, start }) => {
      const first = await start({ firstStart: true })
      assert.equal(first.data, dataDir)
      await write(first, 'one')
      const { mode } = spawnMode(dataDir)
      assert.equal(mode, '700')
      sameExit(await first.stop(), 0)
      assert.deepEqual((await readdir(dataDir)).filter((name) => name.includes('new')).sort(), [])
      const second = await start()
      assert.deepEqual(await idsIn(second), ['one'])
      assert.equal(second.stderr(), '', 'a second start migrates nothing')
      sameExit(await second.stop(), 0)
      assert.deepEqual(await processesOn(dataDir), [])
    }))

  it('takes PORT, HOST and RUNG_DATA, and --port before PORT', () =>
    withScratch(async ({ dir, dataDir, start }) => {
      const [port, other] = [await freePort(), await freePort()]
      copyTemplate(dataDir)
      const first = await start({ env: { PORT: String(port), HOST: '0.0.0.0', RUNG_DATA: './data' } })
      assert.equal(first.url, `http://localhost:${port}`)
      assert.equal(first.data, dataDir)
      assert.deepEqual(await idsIn({ url: `http://127.0.0.1:${port}` }), [])
      sameExit(await first.stop(), 0)
      const byDefault = path.join(dir, '.rung')
      copyTemplate(byDefault)
      const second = await start({
        dataDir: byDefault,
        env: { PORT: String(port), HOST: undefined, RUNG_DATA: undefined },
        args: ['--port', String(other)],
      })
      assert.equal(second.url, `http://127.0.0.1:${other}`)
      assert.equal(second.data, byDefault)
      sameExit(await second.stop(), 0)
    }))

  it('runs in a folder whose path is longer than a socket may have', () =>
    withScratch(async ({ dir, start, startFails }) => {
      const dataDir = path.join(dir, 'd'.repeat(70), 'e'.repeat(70))
      assert.ok(dataDir.length > 107)
      const first = await start({ dataDir })
      await write(first, 'deep')
      saysOnce(await startFails({ dataDir }), 'DATA_DIR_IN_USE', /RUNG_DATA/)
      sameExit(await first.stop(), 0)
      const second = await start({ dataDir })
      assert.deepEqual(await idsIn(second), ['deep'])
      sameExit(await second.stop(), 0)
      assert.deepEqual(await processesOn(dataDir), [])
    }))

  it('is refused where another process runs, which goes on', () =>
    withScratch(async ({ dataDir, start, startFails }) => {
      copyTemplate(dataDir)
      const first = await start()
      await write(first, 'before')
      saysOnce(await startFails(), 'DATA_DIR_IN_USE', /^Another process runs on the data directory .*RUNG_DATA/)
      // With other settings the running server may not be restarted either.
      saysOnce(await startFails({ env: { RUNG_POOL_READ: '90' } }), 'DATA_DIR_IN_USE', /RUNG_DATA/)
      await write(first, 'since')
      assert.deepEqual(await idsIn(first), ['before', 'since'])
      assert.equal(postgresPidOf(dataDir), first.postgresPid)
      sameExit(await first.stop(), 0)
    }))

  it('lets one of several first starts at once win', () =>
    withScratch(async ({ dataDir, launch, start }) => {
      const racers = [launch(), launch(), launch()]
      const outcomes = await Promise.all(
        racers.map((racer) =>
          racer.started.then(
            (facts) => ({ facts, error: undefined }),
            async () => {
              await racer.exited
              return { facts: undefined, error: racer.stdout() }
            },
          ),
        ),
      )
      const winners = outcomes.flatMap(({ facts }) => facts ?? [])
      assert.equal(winners.length, 1, JSON.stringify(outcomes))
      for (const { error } of outcomes) if (error) assert.match(error, /"code": "DATA_DIR_IN_USE"/)
      await write(winners[0]!, 'won')
      await Promise.all(racers.map((racer) => racer.stop()))
      const next = await start()
      assert.deepEqual(await idsIn(next), ['won'])
      sameExit(await next.stop(), 0)
      assert.deepEqual(await processesOn(dataDir), [])
    }))

  it('begins while another process stops: it waits for the end, or is refused', () =>
    withScratch(async ({ dataDir, start, launch }) => {
      copyTemplate(dataDir)
      let current: Launched & { url: string } = await start()
      for (let round = 0; round < 4; round += 1) {
        await write(current, `round ${round}`)
        process.kill(current.pid, 'SIGTERM')
        // Earlier and later in the other's end.
        if (round % 2 === 1) await current.saw(/finishing requests and jobs/)
        const next = launch()
        const facts = await next.started.catch(() => undefined)
        sameExit(await current.exited, 0)
        if (facts === undefined) assert.match(next.stdout(), /"code": "DATA_DIR_IN_USE"/)
        current = facts === undefined ? await start() : { ...next, ...facts }
        assert.equal((await idsIn(current)).length, round + 1)
      }
      sameExit(await current.stop(), 0)
      assert.deepEqual(await processesOn(dataDir), [])
    }))

  it('says that the port is in use, and leaves no Postgres running', () =>
    withScratch(async ({ dataDir, startFails }) => {
      copyTemplate(dataDir)
      const taken = net.createServer()
      await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
      const { port } = taken.address() as net.AddressInfo
      const failed = await startFails({ env: { PORT: String(port) } })
      taken.close()
      saysOnce(failed, 'PORT_IN_USE', new RegExp(`Port ${port} .*set PORT`))
      assert.deepEqual(await processesOn(dataDir), [])
    }))

  it('keeps its secret over starts, and needs no data directory beside DATABASE_URL', () =>
    withScratch(async ({ dir, dataDir, start }) => {
      const owner = await start()
      const secret = await readFile(path.join(dataDir, 'secret'), 'utf8')
      const socket = encodeURIComponent(path.join(dataDir, 'run'))
      const empty = path.join(dir, 'empty')
      await mkdir(empty)
      const guest = await start({
        dataDir: path.join(empty, '.rung'),
        cwd: empty,
        env: { DATABASE_URL: `postgres://app@/app?host=${socket}` },
      })
      assert.equal(guest.data, 'DATABASE_URL')
      await write(guest, 'external')
      assert.deepEqual(await idsIn(owner), ['external'])
      sameExit(await guest.stop(), 0)
      assert.ok(isRunning(owner.postgresPid), 'it stops no Postgres that it did not start')
      sameExit(await owner.stop(), 0)
      const again = await start()
      assert.equal(await readFile(path.join(dataDir, 'secret'), 'utf8'), secret)
      sameExit(await again.stop(), 0)
    }))
})

describe('a wrong start ends with a code and one sentence', { concurrency: 3 }, () => {
  it('for a data directory that cannot be written', () =>
    withScratch(async ({ dir, startFails }) => {
      const file = path.join(dir, 'file')
      await writeFile(file, '')
      for (const dataDir of ['/proc/rung', '/proc/self', file, path.join(file, 'below')]) {
        saysOnce(await startFails({ dataDir }), 'DATA_DIR_UNWRITABLE', /RUNG_DATA/)
      }
    }))

  it("for a directory that is somebody else's", () =>
    withScratch(async ({ dir, startFails }) => {
      const dataDir = path.join(dir, 'home')
      await mkdir(dataDir)
      await writeFile(path.join(dataDir, 'thesis.txt'), 'of years')
      saysOnce(await startFails({ dataDir }), 'DATA_DIR_FOREIGN', /thesis\.txt.*RUNG_DATA/)
      assert.deepEqual(await readdir(dataDir), ['thesis.txt'])
    }))

  it('for a damaged marker, another layout and another version of Postgres', () =>
    withScratch(async ({ dataDir, start, startFails }) => {
      copyTemplate(dataDir)
      const marker = path.join(dataDir, 'rung.json')
      const version = path.join(dataDir, 'postgres', 'PG_VERSION')
      const [right, rightVersion] = [await readFile(marker, 'utf8'), await readFile(version, 'utf8')]
      const refused = async (text: string, code: string) => {
        await writeFile(marker, text)
        await assert.rejects(openDataDir(dataDir), { code }, text)
      }
      for (const damaged of ['', '{', 'null', '7', '[]', '"rung"', '{}', '{"layout":"1"}', '\0\0\0'])
        await refused(damaged, 'DATA_DIR_FOREIGN')
      saysOnce(await startFails(), 'DATA_DIR_FOREIGN', /rung\.json/)
      for (const other of ['{"layout":0}', '{"layout":2,"postgres":18}']) await refused(other, 'DATA_DIR_VERSION')
      saysOnce(await startFails(), 'DATA_DIR_VERSION', /layout 2, .*RUNG_DATA/)
      await writeFile(marker, right)
      await writeFile(version, '17\n')
      saysOnce(await startFails(), 'DATA_DIR_VERSION', /Postgres 17; .*Postgres 18/)
      await writeFile(version, rightVersion)
      const started = await start()
      assert.deepEqual(await idsIn(started), [], 'the refusals have changed nothing')
      sameExit(await started.stop(), 0)
    }))

  it('for a setting that has no meaning', async () => {
    const settings = {
      PORT: ['abc', '70000', '-1', '80.5', '0x50', '1e3', ' '],
      NODE_ENV: ['prod'],
      LOG_LEVEL: ['loud'],
      DATABASE_URL: ['mysql://app:hidden@localhost/app', 'localhost:5432', 'postgres://app:hidden@[half/app'],
      RUNG_SECRET: ['too short'],
      RUNG_POOL_READ: ['0', '1e9'],
      RUNG_POOL_WRITE: ['many'],
      RUNG_LOG_SAMPLE: ['2', 'half'],
    }
    for (const [name, values] of Object.entries(settings)) {
      for (const value of values) {
        assert.throws(
          () => readBindings({ [name]: value }, '/nowhere'),
          (error: Error & { code: string }) => {
            assert.equal(error.code, 'CONFIG_INVALID')
            assert.match(error.message, new RegExp(`^[^\n]*${name}[^\n]*$`))
            assert.doesNotMatch(error.message, /hidden/)
            return true
          },
          `${name}=${value}`,
        )
      }
    }
  })

  for (const [name, value] of [
    ['PORT', 'abc'],
    ['NODE_ENV', 'prod'],
    ['DATABASE_URL', 'postgres://app:hidden@[half/app'],
    ['HOST', 'no.such.host.invalid'],
    ['HOST', '203.0.113.1'],
  ] as const) {
    it(`for ${name}=${value}`, () =>
      withScratch(async ({ dataDir, startFails }) => {
        if (name === 'HOST') copyTemplate(dataDir)
        const failed = await startFails({ env: { [name]: value } })
        saysOnce(failed, 'CONFIG_INVALID', new RegExp(name))
        assert.doesNotMatch(failed.stdout, /hidden/)
        if (name === 'HOST') assert.deepEqual(await processesOn(dataDir), [])
        else assert.ok(!existsSync(dataDir), 'nothing was begun')
      }))
  }

  it('for a database that does not answer, does not know the user, or does not exist', () =>
    withScratch(async ({ dataDir, start, startFails }) => {
      const port = await freePort()
      const env = { DATABASE_URL: `postgres://app:hidden@127.0.0.1:${port}/app` }
      const elsewhere = `${dataDir}-unused`
      const unreachable = await startFails({ dataDir: elsewhere, env })
      saysOnce(unreachable, 'DATA_UNAVAILABLE', /ECONNREFUSED.*DATABASE_URL/)
      assert.doesNotMatch(unreachable.stdout, /hidden/)
      copyTemplate(dataDir)
      const server = await start()
      const host = encodeURIComponent(path.join(dataDir, 'run'))
      for (const url of [`postgres://nobody@/app?host=${host}`, `postgres://app@/nothing?host=${host}`]) {
        saysOnce(
          await startFails({ dataDir: elsewhere, env: { DATABASE_URL: url } }),
          'DATA_UNAVAILABLE',
          /DATABASE_URL/,
        )
      }
      sameExit(await server.stop(), 0)
    }))

  it('for an app that is not there, cannot be loaded, or is none', () =>
    withScratch(async ({ dir, dataDir, startFails }) => {
      const app = path.join(dir, 'app.ts')
      saysOnce(await startFails({ app }), 'APP_NOT_FOUND', /rung new/)
      await writeFile(app, 'export default {')
      saysOnce(await startFails({ app }), 'APP_NOT_FOUND', /app\.ts cannot be loaded: \S*app\.ts:1:1: \S/)
      await writeFile(app, 'throw new Error("not today")')
      saysOnce(await startFails({ app }), 'APP_NOT_FOUND', /app\.ts:1:7: not today/)
      await writeFile(app, 'export const app = 1')
      saysOnce(await startFails({ app }), 'APP_INVALID', /export default defineApp/)
      assert.ok(!existsSync(dataDir), 'nothing was begun')
    }))

  it('for an applied migration that was changed or deleted, and in development says how to begin anew', () =>
    withScratch(async ({ dir, dataDir, launch, startFails }) => {
      const index = new URL('../../src/index.ts', import.meta.url).href
      const app = path.join(dir, 'app.ts')
      const file = path.join(dir, 'migrations', '0001_note.sql')
      await mkdir(path.dirname(file))
      await writeFile(file, 'create table notes.note (id int primary key);')
      await writeFile(
        app,
        `import { cron, defineApp, defineJob, defineModule } from '${index}'
import { Type } from '${import.meta.resolve('typebox')}'
const tidy = defineJob('tidy', Type.Object({}))
const work = () => [cron('0 0 1 1 *', tidy, {})]
const notes = defineModule({ name: 'notes', owner: 'tests', migrations: new URL('./migrations/', import.meta.url), work })
export default defineApp({ name: 'notes', modules: [notes] })`,
      )
      copyTemplate(dataDir)
      const NODE_ENV = 'development'
      const first = launch({ app, env: { NODE_ENV } })
      await first.started
      assert.match(first.stdout(), /Cron \\?"tidy\\?" enqueues the job \\?"tidy\\?", which no module/)
      sameExit(await first.stop(), 0)
      await writeFile(file, 'create table notes.note (id bigint primary key);')
      const anew = /Restore the file.* delete its data directory, \S+\.$/
      saysOnce(await startFails({ app, env: { NODE_ENV } }), 'MIGRATION_CHANGED', anew)
      await rm(file)
      await writeFile(path.join(dir, 'migrations', '0002_other.sql'), 'create table notes.other (id int primary key);')
      saysOnce(await startFails({ app, env: { NODE_ENV } }), 'MIGRATION_CHANGED', anew)
      saysOnce(await startFails({ app }), 'MIGRATION_CHANGED', /its file is gone\. Restore the file\.$/)
    }))

  it('also in words', () =>
    withScratch(async ({ startFails }) => {
      const asked = await startFails({ args: ['--prot', '1'] })
      saysOnce(asked, 'COMMAND_INVALID', /--prot.*rung start --help/)
    }))
})

describe('stop', () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`ends with 0 after ${signal}, and Postgres with it`, () =>
      withScratch(async ({ dataDir, start }) => {
        copyTemplate(dataDir)
        const one = await start()
        await write(one, 'kept')
        assert.ok(isRunning(one.postgresPid))
        sameExit(await one.stop(signal), 0)
        assert.ok(!isRunning(one.postgresPid))
        assert.match(one.stderr(), /finishing requests and jobs[\s\S]*stopped\n$/)
        assert.deepEqual(await processesOn(dataDir), [])
        assert.doesNotMatch(await postgresLog(dataDir), /not properly shut down/)
        const next = await start()
        assert.deepEqual(await idsIn(next), ['kept'])
        sameExit(await next.stop(), 0)
        assert.doesNotMatch(await postgresLog(dataDir), /not properly shut down/)
      }))
  }

  it('is a Ctrl-C in the terminal, which reaches the whole group of processes', () =>
    withScratch(async (scratch) => {
      copyTemplate(scratch.dataDir)
      const one = await scratch.start({ group: true })
      const release = await holdLock(scratch, 7)
      const inHand = held(one, 7)
      await release.waitedFor(1)
      process.kill(-one.pid, 'SIGINT')
      await one.saw(/finishing requests and jobs/)
      await release()
      assert.equal((await inHand).status, 200)
      sameExit(await one.exited, 0)
      assert.ok(!isRunning(one.postgresPid))
    }))

  it('is a Ctrl-C also while the first start makes the database', () =>
    withScratch(async ({ dataDir, launch, start }) => {
      const one = launch({ group: true })
      // What initdb has written, and not the empty folder: a signal to the group that arrives between the fork and the
      // new session of the child would end initdb.
      const making = async () =>
        (await readdir(dataDir, { recursive: true }).catch(() => [])).some(
          (name) => name.startsWith('postgres.new-') && name.includes(path.sep),
        )
      await until(making, 'initdb runs')
      process.kill(-one.pid, 'SIGINT')
      sameExit(await one.exited, 0)
      assert.deepEqual(await processesOn(dataDir), [])
      const next = await start()
      await write(next, 'after all')
      sameExit(await next.stop(), 0)
    }))

  it('answers what is in hand first, and says meanwhile that it is not ready', () =>
    withScratch(async (scratch) => {
      copyTemplate(scratch.dataDir)
      const one = await scratch.start()
      const release = await holdLock(scratch, 7)
      const inHand = held(one, 7)
      await release.waitedFor(1)
      const probe = await halfRequest(one, '/readyz')
      process.kill(one.pid, 'SIGTERM')
      await one.saw(/finishing requests and jobs/)
      const { status, body } = await probe.finish()
      assert.equal(status, 503)
      assert.deepEqual(JSON.parse(body), { status: 'not ready', checks: { draining: true, database: true } })
      assert.ok(isRunning(one.pid) && isRunning(one.postgresPid))
      await release()
      const answer = await inHand
      assert.equal(answer.status, 200)
      assert.deepEqual(await answer.json(), { key: 7 })
      sameExit(await one.exited, 0)
      assert.ok(!isRunning(one.postgresPid))
    }))

  it('waits for nobody who has not asked', () =>
    withScratch(async ({ dataDir, start }) => {
      copyTemplate(dataDir)
      const one = await start()
      // A browser opens connections ahead; a balancer keeps some; neither may hold up the end.
      const silent = await connected(one)
      const kept = await connected(one)
      kept.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n')
      await new Promise((resolve) => kept.once('data', resolve))
      const half = await halfRequest(one, '/readyz')
      sameExit(await one.stop(), 0)
      for (const socket of [silent, kept, half.socket]) socket.destroy()
      assert.ok(!isRunning(one.postgresPid))
    }))

  it('ends at once after a second signal, and the next start takes over', () =>
    withScratch(async (scratch) => {
      copyTemplate(scratch.dataDir)
      const one = await scratch.start()
      await write(one, 'kept')
      const release = await holdLock(scratch, 7)
      const inHand = held(one, 7).then(
        () => 'answered',
        () => 'broken',
      )
      await release.waitedFor(1)
      process.kill(one.pid, 'SIGTERM')
      await one.saw(/finishing requests and jobs/)
      process.kill(one.pid, 'SIGINT')
      sameExit(await one.exited, 1)
      assert.match(one.stderr(), /SIGINT again: ending at once/)
      assert.equal(await inHand, 'broken')
      await release()
      const next = await scratch.start()
      assert.deepEqual(await idsIn(next), ['kept'])
      sameExit(await next.stop(), 0)
      assert.deepEqual(await processesOn(scratch.dataDir), [])
    }))

  it('is legal while the start still runs', () =>
    withScratch(async (scratch) => {
      const { dir, dataDir } = scratch
      copyTemplate(dataDir)
      const folder = path.join(dir, 'migrations')
      await mkdir(folder)
      await writeFile(path.join(folder, '0001_entry.sql'), await readFile(firstMigration, 'utf8'))
      await writeFile(path.join(folder, '0002_wait.sql'), 'select pg_advisory_xact_lock(9);\n')
      const env = { LEDGER_MIGRATIONS: `file://${folder}/` }
      const holder = await scratch.start()
      const release = await holdLock(scratch, 9)
      await holder.kill() // its Postgres lives on and keeps the lock
      const one = scratch.launch({ env })
      await release.waitedFor(1)
      process.kill(one.pid, 'SIGTERM')
      await one.saw(/SIGTERM/)
      await release()
      sameExit(await one.exited, 0)
      assert.deepEqual(await processesOn(dataDir), [], 'no Postgres was left running')
      const next = await scratch.start({ env })
      sameExit(await next.stop(), 0)
    }))
})

describe('a stop has an end', () => {
  it('for whoever never finishes asking, and whatever never finishes answering', async () => {
    const postgres = await testPostgres()
    const http = { headersTimeout: '500ms', requestTimeout: '1s' } as const
    const running = await bootForTest({ ...ledger, http }, postgres)
    const client = await connectOnce(running.server.connection)
    try {
      await client.query('select pg_advisory_lock(55_000_005)')
      const sockets = [await connected(running), (await halfRequest(running, '/readyz')).socket]
      const halfBody = await connected(running)
      halfBody.write(
        'POST /entries HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{',
      )
      const never = held(running, 55_000_005)
      await waiters(client, 55_000_005, 1)
      await running.stop()
      const answer = await never
      assert.equal(answer.status, 503)
      assert.equal(((await answer.json()) as { code: string }).code, 'HTTP_TIMEOUT')
      for (const socket of [...sockets, halfBody]) socket.destroy()
    } finally {
      await client.end()
      await running.stop()
      await postgres.stop()
    }
  })
})

describe('two apps in one process', () => {
  it('do not mix, neither their data nor their figures', async () => {
    const postgres = await testPostgres()
    const [one, other] = [
      await bootForTest(ledger, postgres, {}, [observe()]),
      await bootForTest(ledger, postgres, {}, [observe()]),
    ]
    try {
      for (const id of ['a', 'b', 'c']) await write(one, id)
      assert.deepEqual(await idsIn(one), ['a', 'b', 'c'])
      assert.deepEqual(await idsIn(other), [])
      const [figures, otherFigures] = [await metricsOf(one), await metricsOf(other)]
      assert.equal(count(figures, 'http_request_duration_seconds_count', 'route="/entries"'), 4)
      assert.equal(count(otherFigures, 'http_request_duration_seconds_count', 'route="/entries"'), 1)
      assert.equal(count(figures, 'db_statement_duration_seconds_count', 'command="INSERT"'), 6)
      assert.equal(count(otherFigures, 'db_statement_duration_seconds_count', 'command="INSERT"'), 0)
      assert.equal(count(figures, 'db_transaction_duration_seconds_count', 'outcome="commit"'), 3)
      assert.equal(count(otherFigures, 'db_transaction_duration_seconds_count', 'outcome="commit"'), 0)
      await one.stop()
      await one.stop()
      await write(other, 'alone')
      assert.deepEqual(await idsIn(other), ['alone'])
    } finally {
      await one.stop()
      await other.stop()
      await postgres.stop()
    }
  })
})

const firstMigration = new URL('../support/apps/ledger/migrations/0001_entry.sql', import.meta.url)

function spawnMode(folder: string): { mode: string } {
  return { mode: (spawnSync('stat', ['-c', '%a', folder], { encoding: 'utf8' }).stdout ?? '').trim() }
}

function held({ url }: { url: string }, key: number): Promise<Response> {
  const answer = fetch(`${url}/held/${key}`)
  answer.catch(() => {}) // a test that fails first must be the failure that is reported
  return answer
}

/** Holds an advisory lock; the returned function lets it go. */
async function holdLock(scratch: Scratch, key: number) {
  const client = await scratch.connect()
  await client.query('select pg_advisory_lock($1)', [key])
  const release = async () => {
    // What waited may end the app, and with it the server, before this answer is on its way.
    await client.query('select pg_advisory_unlock($1)', [key]).catch((error: { code?: string }) => {
      if (error.code !== '57P01') throw error
    })
  }
  return Object.assign(release, { waitedFor: (by: number) => waiters(client, key, by) })
}

async function waiters(client: Client, key: number, atLeast: number): Promise<void> {
  await until(async () => {
    const { rows } = await client.query(
      `select count(*)::int as n from pg_locks where locktype = 'advisory' and objid = $1 and not granted`,
      [key],
    )
    return rows[0].n >= atLeast
  }, `${atLeast} wait for lock ${key}`)
}

async function connected({ url }: { url: string }): Promise<net.Socket> {
  const { hostname, port } = new URL(url)
  const socket = net.connect(Number(port), hostname)
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('connect', resolve))
  return socket
}

/** A request whose last line is yet to come: its connection is neither idle nor answered. */
async function halfRequest(app: { url: string }, route: string) {
  const socket = await connected(app)
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  socket.write(`GET ${route} HTTP/1.1\r\nHost: a\r\n`)
  await (await fetch(`${app.url}/healthz`)).text() // a round trip later the server has read the half
  return {
    socket,
    async finish() {
      text = ''
      const closed = new Promise((resolve) => socket.once('close', resolve))
      socket.write('Connection: close\r\n\r\n')
      await closed
      const [head = '', body = ''] = text.split('\r\n\r\n', 2)
      return { status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]), body }
    },
  }
}

async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

function postgresLog(dataDir: string): Promise<string> {
  return readFile(path.join(dataDir, 'postgres.log'), 'utf8')
}

async function metricsOf({ url }: { url: string }): Promise<string> {
  return (await fetch(`${url}/metrics`)).text()
}

/** The sum of a metric over the series that carry a label. */
function count(text: string, name: string, label: string): number {
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) && line.includes(label))
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
}
