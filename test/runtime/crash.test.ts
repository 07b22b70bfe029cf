import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { idsIn, post, write } from '../support/ledger.ts'
import { type TestPostgres, testPostgres, urlOf } from '../support/postgres.ts'
import {
  ended,
  type Finished,
  isRunning,
  type Launched,
  postgresPidOf,
  processesOn,
  type Scratch,
  sameExit,
  until,
  withScratch,
} from '../support/process.ts'

const rounds = 2
const writersMax = 8
const writesBeforeKill = 40

/** Writes that go on whatever happens, and what was answered. */
interface Ledger {
  /** Ids of writes that were answered with 201. */
  acknowledged: Set<string>
  /** Every other answer: `503 DATA_UNAVAILABLE`; or `no answer`. */
  others: Map<string, number>
}

function newLedger(): Ledger {
  return { acknowledged: new Set(), others: new Map() }
}

let lastId = 0

/** Several writers at once, each one write after the other, until `stop`. */
function startWriters(url: string, ledger: Ledger) {
  let running = true
  const before = ledger.acknowledged.size
  const counts = new Array<number>(writersMax).fill(0)

  async function writer(index: number): Promise<void> {
    while (running) {
      lastId += 1
      const id = `w${lastId}`
      const outcome = (await post({ url }, id)).replace(/^no answer:.*/, 'no answer')
      if (outcome === '201') {
        ledger.acknowledged.add(id)
        counts[index]! += 1
      } else ledger.others.set(outcome, (ledger.others.get(outcome) ?? 0) + 1)
      // Refused at once: without a pause this would be a busy loop.
      if (outcome === 'no answer') await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  const all = Promise.all(counts.map((_, index) => writer(index)))
  return {
    acknowledgedMore: (count: number) =>
      until(() => ledger.acknowledged.size - before >= count, `${count} writes are acknowledged`),
    /** Until each of them has got through again. */
    async allGetThrough() {
      counts.fill(0)
      await until(() => counts.every((count) => count > 0), 'each writer gets through')
    },
    async stop() {
      running = false
      await all
    },
  }
}

/** Each acknowledged write is there, as a whole. */
async function nothingIsLost(at: { url: string }, { acknowledged }: Ledger): Promise<void> {
  const there = new Set(await idsIn(at))
  const lost = [...acknowledged].filter((id) => !there.has(id))
  assert.deepEqual(lost, [], `${lost.length} of ${acknowledged.size} acknowledged writes are lost`)
}

async function answersOf(url: string): Promise<number> {
  const answer = await fetch(url)
  await answer.text()
  return answer.status
}

function outcomes({ others }: Ledger): string[] {
  return [...others.keys()].sort()
}

/** While the database is away. A commit whose answer was lost is told as such. */
const away = ['503 DATA_UNAVAILABLE', '503 DATA_POOL_TIMEOUT', '503 DATA_OUTCOME_UNKNOWN']

function onlyThese(ledger: Ledger, allowed: readonly string[]): void {
  assert.deepEqual(
    outcomes(ledger).filter((one) => !allowed.includes(one)),
    [],
  )
}

function inWords({ acknowledged, others }: Ledger): string {
  const rest = [...others].map(([outcome, count]) => `, ${count} ${outcome}`).join('')
  return `${acknowledged.size} acknowledged, 0 lost${rest}`
}

describe('kill -9 loses no acknowledged write', () => {
  it(`of the app, ${rounds} times: the next start takes over the Postgres that survived`, (t) =>
    withScratch(async ({ start }) => {
      const ledger = newLedger()
      let app = await start()
      for (let round = 0; round < rounds; round += 1) {
        const writers = startWriters(app.url, ledger)
        await writers.acknowledgedMore(writesBeforeKill)
        await app.kill()
        await writers.stop()
        assert.ok(isRunning(app.postgresPid), 'Postgres runs on')
        const next = await start()
        assert.equal(next.postgresPid, app.postgresPid, 'it was taken over')
        app = next
        await nothingIsLost(app, ledger)
      }
      t.diagnostic(inWords(ledger))
      assert.deepEqual(outcomes(ledger), ['no answer'])
      sameExit(await app.stop(), 0)
      assert.ok(!isRunning(app.postgresPid), 'the one who took it over also stops it')
    }))

  it(`of Postgres, ${rounds} times: the app answers 503 and recovers by itself`, (t) =>
    withScratch(async ({ dataDir, start }) => {
      const ledger = newLedger()
      const app = await start()
      let pid = app.postgresPid
      for (let round = 0; round < rounds; round += 1) {
        const writers = startWriters(app.url, ledger)
        await writers.acknowledgedMore(writesBeforeKill)
        process.kill(pid, 'SIGKILL')
        await ended(pid)
        pid = await until(async () => {
          assert.ok([200, 503].includes(await answersOf(`${app.url}/entries`)))
          assert.equal(await answersOf(`${app.url}/healthz`), 200)
          const ready = await answersOf(`${app.url}/readyz`)
          assert.ok(ready === 200 || ready === 503)
          const now = postgresPidOf(dataDir)
          return ready === 200 && now !== pid && now
        }, 'the app is ready again')
        await writers.allGetThrough()
        await writers.stop()
        await nothingIsLost(app, ledger)
      }
      t.diagnostic(inWords(ledger))
      onlyThese(ledger, away)
      assert.ok(isRunning(app.pid))
      sameExit(await app.stop(), 0)
      assert.deepEqual(await processesOn(dataDir), [])
    }))

  it(`of both, ${rounds} times`, (t) =>
    withScratch(async ({ start }) => {
      const ledger = newLedger()
      let app = await start()
      for (let round = 0; round < rounds; round += 1) {
        const writers = startWriters(app.url, ledger)
        await writers.acknowledgedMore(writesBeforeKill)
        // Either may be the first to go.
        const [first, second] = round % 2 === 0 ? [app.pid, app.postgresPid] : [app.postgresPid, app.pid]
        process.kill(first, 'SIGKILL')
        process.kill(second, 'SIGKILL')
        await app.exited
        await ended(app.postgresPid)
        await writers.stop()
        const next = await start()
        assert.notEqual(next.postgresPid, app.postgresPid)
        app = next
        await nothingIsLost(app, ledger)
      }
      t.diagnostic(inWords(ledger))
      onlyThese(ledger, [...away, 'no answer'])
      sameExit(await app.stop(), 0)
    }))

  it('of one Postgres session: Postgres restarts all of them, the app lives on', (t) =>
    withScratch(async ({ start, connect }) => {
      const ledger = newLedger()
      const app = await start()
      for (let round = 0; round < 2; round += 1) {
        const client = await connect()
        const { rows } = await client.query(
          // The youngest may be the one that records the start, which ends at any moment.
          `select pid from pg_stat_activity where usename = 'app' and backend_type = 'client backend'
            order by backend_start limit 1`,
        )
        const writers = startWriters(app.url, ledger)
        await writers.acknowledgedMore(writesBeforeKill)
        process.kill(rows[0]?.pid ?? (await backendOf(client)), 'SIGKILL')
        await ended(rows[0]?.pid)
        await until(async () => (await answersOf(`${app.url}/readyz`)) === 200, 'the app is ready again')
        await writers.allGetThrough()
        await writers.stop()
        await nothingIsLost(app, ledger)
      }
      t.diagnostic(inWords(ledger))
      onlyThese(ledger, away)
      sameExit(await app.stop(), 0)
      assert.ok(!isRunning(app.postgresPid))
    }))
})

describe('the watch over Postgres', () => {
  it('takes the lock again when only its connection was lost', () =>
    withScratch(async ({ start, startFails, connect }) => {
      const app = await start()
      const client = await connect()
      const holder = async () => {
        const { rows } = await client.query(
          `select pid from pg_locks where locktype = 'advisory' and granted and database =
            (select oid from pg_database where datname = 'postgres')`,
        )
        return rows[0]?.pid as number | undefined
      }
      const before = await holder()
      assert.ok(before)
      await client.query('select pg_terminate_backend($1)', [before])
      await until(async () => {
        const now = await holder()
        return now !== undefined && now !== before
      }, 'the lock is held again')
      assert.equal((await startFails()).error?.code, 'DATA_DIR_IN_USE')
      await write(app, 'one')
      sameExit(await app.stop(), 0)
      assert.ok(!isRunning(app.postgresPid))
    }))

  it('does not keep the app from stopping while Postgres is away', () =>
    withScratch(async ({ dataDir, start }) => {
      const app = await start()
      process.kill(app.postgresPid, 'SIGKILL')
      sameExit(await app.stop(), 0)
      assert.deepEqual(await processesOn(dataDir), [])
      const next = await start()
      await write(next, 'one')
      sameExit(await next.stop(), 0)
    }))
})

describe('a first start that is killed', () => {
  const instants: [name: string, reached: (dataDir: string) => Promise<boolean> | boolean][] = [
    ['with nothing but the folder', (dataDir) => existsSync(dataDir)],
    ['when initdb begins', (dataDir) => newFolder(dataDir, '.')],
    ['when initdb has half its files', (dataDir) => newFolder(dataDir, 'global/pg_control')],
    ['when the database folder is complete', (dataDir) => existsSync(path.join(dataDir, 'postgres/PG_VERSION'))],
    ['when Postgres starts', (dataDir) => existsSync(path.join(dataDir, 'postgres/postmaster.pid'))],
    ['when Postgres answers', (dataDir) => existsSync(path.join(dataDir, 'run/.s.PGSQL.5432'))],
  ]
  for (const [name, reached] of instants) {
    it(`${name}, leaves nothing that the next start cannot use`, () =>
      withScratch(async ({ dataDir, launch, start }) => {
        const first = launch()
        await until(() => reached(dataDir), name)
        await first.kill()
        const second = await start()
        await write(second, 'one')
        sameExit(await second.stop(), 0)
        await until(async () => (await processesOn(dataDir)).length === 0, 'an initdb without a parent has ended')
        const third = await start()
        assert.equal(await answersOf(`${third.url}/entries/one`), 200)
        assert.deepEqual(await leftovers(dataDir), [])
        sameExit(await third.stop(), 0)
      }))
  }

  it('in its first migration, leaves nothing half-done', () =>
    withScratch(async (scratch) => {
      const { launch, start } = scratch
      const migrations = await migrationsIn(scratch)
      await migrations.write('0001_entry.sql', `create table half (x int);\n${entry}\nselect pg_sleep(3600);\n`)
      const first = launch(migrations.options)
      const client = await until(() => scratch.connect().catch(() => undefined), 'Postgres answers')
      await until(async () => {
        const { rows } = await client.query(`select 1 from pg_stat_activity where wait_event = 'PgSleep'`)
        return rows.length === 1
      }, 'the migration runs')
      await first.kill()
      await migrations.write('0001_entry.sql', entry)
      const second = await start(migrations.options)
      await write(second, 'one')
      const { rows } = await client.query(`select to_regclass('ledger.half') as half`)
      assert.equal(rows[0].half, null)
      sameExit(await second.stop(), 0)
    }))
})

describe('a migration', () => {
  it('that fails half-way leaves nothing, and the corrected one is applied by the next start', () =>
    withScratch(async (scratch) => {
      const migrations = await migrationsIn(scratch)
      await migrations.write('0001_entry.sql', entry)
      await migrations.write(
        '0002_half.sql',
        'create table half (x int);\ninsert into half values (1);\nselect 1 / 0;\n',
      )
      await migrations.write('0003_more.sql', 'create table more (x int);\n')
      for (let attempt = 0; attempt < 2; attempt += 1) {
        const failed = await scratch.startFails(migrations.options)
        refused(failed, 'MIGRATION_FAILED', /ledger\/0002_half\.sql .*division by zero/)
        assert.deepEqual(await processesOn(scratch.dataDir), [], 'Postgres was stopped')
      }
      await migrations.write('0002_half.sql', 'create table if not exists half (x int);\n')
      const app = await scratch.start(migrations.options)
      await write(app, 'one')
      const client = await scratch.connect()
      assert.deepEqual((await client.query('select * from ledger.half')).rows, [])
      assert.deepEqual(await applied(client), ['0001_entry.sql', '0002_half.sql', '0003_more.sql'])
      sameExit(await app.stop(), 0)
    }))

  it('that was applied may not be changed, removed, or get a predecessor', () =>
    withScratch(async (scratch) => {
      const migrations = await migrationsIn(scratch)
      await migrations.write('0002_entry.sql', entry)
      await migrations.write('0003_more.sql', 'create table more (x int);\n')
      sameExit(await (await scratch.start(migrations.options)).stop(), 0)
      await migrations.write('0002_entry.sql', `${entry}\n-- a remark`)
      refused(await scratch.startFails(migrations.options), 'MIGRATION_CHANGED', /ledger\/0002_entry\.sql was changed/)
      await migrations.remove('0002_entry.sql')
      refused(await scratch.startFails(migrations.options), 'MIGRATION_CHANGED', /file is gone/)
      await migrations.write('0002_entry.sql', entry.replaceAll('\n', '\r\n'))
      await migrations.write('0001_late.sql', 'create table late (x int);\n')
      refused(await scratch.startFails(migrations.options), 'MIGRATION_INVALID', /0001_late\.sql sorts before/)
      await migrations.remove('0001_late.sql')
      const app = await scratch.start(migrations.options)
      assert.equal(await post(app, 'one'), '201', 'line ends are no change')
      sameExit(await app.stop(), 0)
    }))

  it('is applied once by three processes that start at the same time on one database', () =>
    withExternal(async (scratch, options, client) => {
      const migrations = await migrationsIn(scratch)
      await migrations.write('0001_entry.sql', entry)
      for (let n = 2; n <= 6; n += 1) await migrations.write(`000${n}_step.sql`, `create table step${n} (x int);\n`)
      const all = options(migrations.options)
      const apps = await Promise.all([scratch.start(all), scratch.start(all), scratch.start(all)])
      for (const [index, app] of apps.entries()) await write(app, `from ${index}`)
      assert.equal((await applied(client)).length, 6)
      const told = apps.flatMap((app) => app.stderr().match(/migrated ledger\/\S+/g) ?? [])
      assert.equal(told.length, 6)
      assert.equal(new Set(told).size, 6)
      for (const app of apps) sameExit(await app.stop(), 0)
    }))

  it('is taken over from a process that was killed in it', () =>
    withExternal(async (scratch, options, client) => {
      const migrations = await migrationsIn(scratch)
      await migrations.write('0001_entry.sql', entry)
      // Held up for as long as the test holds the lock.
      await migrations.write('0002_wait.sql', 'create table waited (x int);\nselect pg_advisory_xact_lock(4711);\n')
      await client.query('select pg_advisory_lock(4711)')
      const all = options(migrations.options)
      const first = scratch.launch(all)
      await waiting(client, first)
      const second = scratch.launch(all)
      await second.saw(/waiting: another process is migrating/)
      await first.kill()
      await client.query('select pg_advisory_unlock(4711)')
      const { url } = await second.started
      await write({ url }, 'one')
      assert.deepEqual(await applied(client), ['0001_entry.sql', '0002_wait.sql'])
      sameExit(await second.stop(), 0)
    }))
})

type TestClient = Awaited<ReturnType<typeof connectOnce>>

async function backendOf(client: TestClient): Promise<number> {
  return (await client.query('select pg_backend_pid() as pid')).rows[0].pid
}

async function waiting(client: TestClient, launched: Launched): Promise<void> {
  await until(async () => {
    assert.ok(isRunning(launched.pid), launched.stdout())
    const { rows } = await client.query(`select 1 from pg_locks where objid = 4711 and not granted`)
    return rows.length === 1
  }, 'the migration waits')
}

async function applied(client: TestClient): Promise<string[]> {
  const { rows } = await client.query(`select name from rung.migration where module = 'ledger' order by name`)
  return rows.map(({ name }) => name)
}

function refused(finished: Finished, code: string, about: RegExp): void {
  sameExit(finished, 1)
  assert.equal(finished.error?.code, code, finished.stdout)
  assert.match(finished.error.message, about)
}

const entry = await readFile(new URL('../support/apps/ledger/migrations/0001_entry.sql', import.meta.url), 'utf8')

/** The ledger with migrations of the test's own. */
async function migrationsIn({ dir }: Pick<Scratch, 'dir'>) {
  const folder = path.join(dir, 'migrations')
  await mkdir(folder)
  return {
    options: { env: { LEDGER_MIGRATIONS: `${pathToFileURL(folder)}/` } },
    write: (name: string, text: string) => writeFile(path.join(folder, name), text),
    remove: (name: string) => rm(path.join(folder, name)),
  }
}

type WithEnv = { env: Record<string, string> }

async function withExternal(
  body: (scratch: Scratch, options: (from: WithEnv) => WithEnv, client: TestClient) => Promise<void>,
): Promise<void> {
  const postgres: TestPostgres = await testPostgres()
  const database = await postgres.createDatabase()
  const client = await connectOnce({ ...postgres.admin, database: database.database })
  const env = { DATABASE_URL: urlOf(database), RUNG_SECRET: 'a secret of the tests, long enough to be one' }
  try {
    await withScratch((scratch) => body(scratch, (from) => ({ env: { ...env, ...from.env } }), client))
  } finally {
    await client.end()
    await postgres.stop()
  }
}

async function newFolder(dataDir: string, file: string): Promise<boolean> {
  const names = await readdir(dataDir).catch(() => [])
  return names.some((name) => name.startsWith('postgres.new-') && existsSync(path.join(dataDir, name, file)))
}

/** Drafts of a start that did not finish: of the marker, the database and the secret. */
async function leftovers(dataDir: string): Promise<string[]> {
  return (await readdir(dataDir)).filter((name) => /^(\.|postgres\.new-|secret\.)/.test(name))
}
