import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { main } from '../../src/cli/main.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { readSightings, type Sighting, saveSightings, shapeOf, storable } from '../../src/observe/sighting-table.ts'
import { keepSightings } from '../../src/observe/sightings.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres, urlOf } from '../support/postgres.ts'

describe('the shape of a statement', () => {
  it('is the same whatever its values and however long its lists are', () => {
    const shape = 'select * from a where id in (?) and name = ? limit ?'
    for (const text of [
      'select * from a where id in ($1) and name = $2 limit $3',
      'select * from a\n  where id in ($1, $2,$3) and name = $4 limit 10',
      `select * from a where id in ( $1 , $2 ) and name = 'it''s' limit 10`,
    ])
      assert.equal(shapeOf(text), shape)
    assert.equal(shapeOf('insert into a values ($1, $2), ($3, $4)'), 'insert into a values (?)')
    assert.notEqual(shapeOf('select a1 from t'), shapeOf('select a2 from t'))
  })
})

describe('what was seen of statements', () => {
  let postgres: TestPostgres
  let database: Database
  let env: { DATABASE_URL: string }
  before(async () => {
    postgres = await testPostgres()
    const opened = await openSystemTables(postgres)
    database = opened.database
    env = { DATABASE_URL: urlOf(opened.connection) }
  })
  after(async () => {
    await database?.close()
    await postgres.stop()
  })
  beforeEach(async () => {
    const client = await connectOnce({ url: env.DATABASE_URL })
    await client.query('truncate rung.sighting')
    await client.end()
  })

  /** As one process of the app keeps it. */
  async function asProcess(work: (sightings: ReturnType<typeof keepSightings>) => void): Promise<void> {
    const hooks: (() => Promise<void>)[] = []
    const http = { addHook: (_name: string, hook: () => Promise<void>) => hooks.push(hook) }
    const failures: unknown[] = []
    work(keepSightings(http as never, database, (error) => failures.push(error)))
    for (const close of hooks) await close()
    assert.deepEqual(failures, [])
  }
  const slow = { durationMs: 200, rowCount: 3, name: 'GET /', module: 'm', lockTimeout: false, plan: undefined }

  it('is kept whatever its texts contain, and stays small', async () => {
    await asProcess((sightings) => {
      sightings.slow({ ...slow, name: 'GET /\0', statement: `select "\ud800\0"`, plan: 'Result\0\udc00' })
      sightings.slow({ ...slow, statement: `select "${'long '.repeat(1_000_000)}"`, plan: 'x'.repeat(5_000_000) })
    })
    const seen = await readSightings(database)
    assert.ok(seen.some(({ statement, plan }) => statement === `select "\ufffd"` && plan === 'Result\ufffd'))
    assert.equal(seen.length, 2)
    assert.ok(JSON.stringify(seen).length < 20_000)
  })

  it('is added up over all processes, with the longest run and the last plan that is known', async () => {
    const statement = (n: number) => `select * from a where id in (${Array.from({ length: n }, (_, i) => `$${i + 1}`)})`
    const runs = Array.from({ length: 8 }, (_, n) => n + 1)
    await Promise.all(
      runs.map((n) =>
        asProcess((sightings) => {
          sightings.slow({
            ...slow,
            statement: statement(n),
            durationMs: 100 * n,
            plan: n === 3 ? 'Seq Scan' : undefined,
          })
          sightings.slow({ ...slow, statement: statement(1), durationMs: 100 })
          sightings.nPlusOne({ statement: 'select 1', name: 'GET /b', site: '/app/b.ts:1:2', module: 'b' })
          sightings.slow({ ...slow, statement: statement(1), name: 'GET /other' })
        }),
      ),
    )
    const seen = await readSightings(database)
    const of = (route: string) => seen.find((one) => one.route === route)!
    assert.equal(seen.length, 3)
    const { count, totalMs, worstMs, rows, plan, module } = of('GET /')
    assert.deepEqual(
      { count, totalMs, worstMs, rows, plan, module },
      { count: 16, totalMs: 4_400, worstMs: 800, rows: 48, plan: 'Seq Scan', module: 'm' },
    )
    assert.equal(of('GET /other').count, 8)
    const found = of('GET /b')
    assert.deepEqual([found.kind, found.count, found.totalMs, found.site], ['n-plus-one', 8, null, '/app/b.ts:1:2'])
  })

  it('is bounded: the worst stay, however old, and the newest, however small', async () => {
    const at = (second: number) => new Date(Date.now() - 3_600_000 + second * 1_000).toISOString()
    const entry = (n: number, totalMs: number) =>
      storable({
        ...{ kind: 'slow', statement: `select c_${n}`, site: '', route: 'GET /', module: null, count: 1, plan: null },
        ...{ totalMs, worstMs: totalMs, rows: 1, firstAt: at(n), at: at(n) },
      })
    const heavy = Array.from({ length: 150 }, (_, n) => entry(n, 10_000 - n))
    await saveSightings(database, heavy)
    assert.equal((await readSightings(database)).length, 150)
    const light = Array.from({ length: 500 }, (_, n) => entry(1_000 + n, 100))
    await Promise.all([light.slice(0, 250), light.slice(250)].map((some) => saveSightings(database, some)))
    await saveSightings(database, [entry(2_000, 100)])
    const seen = await readSightings(database)
    assert.equal(seen.length, 200)
    assert.equal(seen.filter(({ totalMs }) => totalMs! > 9_900).length, 100)
    assert.equal(seen[0]!.statement, 'select c_2000')
  })

  it('outlives a crash of the server', async () => {
    const client = await connectOnce({ url: env.DATABASE_URL })
    const { rows } = await client.query(
      `select relpersistence as kind from pg_class where oid = 'rung.sighting'::regclass`,
    )
    assert.deepEqual(rows, [{ kind: 'p' }]) // in the log, unlike what processes report of themselves
    await client.end()
  })

  describe('rung statements', () => {
    async function rung(...args: string[]) {
      const told = { lines: [] as string[], json: undefined as unknown }
      const code = await main(['statements', ...args], env, process.cwd(), {
        line: (text = '') => void told.lines.push(...text.split('\n')),
        json: (value) => {
          told.json = value
        },
        note() {},
      })
      return { code, ...told, seen: told.json as Sighting[] }
    }

    it('says that nothing was seen', async () => {
      assert.deepEqual((await rung()).lines, ['Nothing was slow, and nothing ran again and again.'])
      assert.deepEqual((await rung('--json')).json, [])
    })

    it('shows the worst first, in 80 columns, and one with its plan', async () => {
      await asProcess((sightings) => {
        sightings.slow({ ...slow, statement: 'select quick', name: `GET /${'long/'.repeat(20)}` })
        sightings.slow({ ...slow, statement: 'select\n  worst', durationMs: 75_000, plan: 'Seq Scan on article' })
        sightings.slow({ ...slow, statement: 'update held set a = $1', lockTimeout: true, name: undefined })
        sightings.nPlusOne({ statement: 'select again', name: 'GET /b', site: '/app/b.ts:1:2', module: 'b' })
      })
      const { lines } = await rung()
      for (const line of lines) assert.ok(line.length <= 80, line)
      const text = lines.join('\n')
      assert.match(
        text,
        /Slow: .+\nid +total +worst +seen +where\n\w{10} +1m 15s +1m 15s +1 +GET \/\n {2}select worst\n/,
      )
      assert.match(text, /lock\n.+\n.+\(no request or job\)\n {2}update held set a = \$1\n/)
      assert.match(text, /N\+1: .+\n.+\n.+ 1 +GET \/b\n {2}select again\n/)
      const { seen } = await rung('--json', '--kind', 'slow', '--last', '1')
      assert.deepEqual(
        seen.map(({ statement }) => statement),
        ['select\n  worst'],
      )
      const one = (await rung(seen[0]!.fingerprint.slice(0, 6))).lines.join('\n')
      assert.match(one, /module +m\n/)
      assert.match(one, /rows +3 \(3\.0 each time\)\n\nselect\n {2}worst\n\nSeq Scan on article$/)
    })

    it('refuses what it does not know', async () => {
      assert.equal((await rung('nothing')).code, 1)
      assert.equal((await rung('--kind', 'fast')).code, 1)
      assert.equal((await rung('--since', 'soon')).code, 1)
    })
  })
})
