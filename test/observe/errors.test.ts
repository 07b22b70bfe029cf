import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { defineApp, defineJob, defineModule, handle, principalOf, RungError } from 'rung'
import { Type } from 'typebox'
import { main } from '../../src/cli/main.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { type ErrorSample, fingerprintOf, sampleOf, withoutValues } from '../../src/observe/error-shape.ts'
import { observe } from '../../src/observe/observe.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { type ErrorGroup, pruneErrors, readErrors, saveErrors } from '../../src/primitives/upkeep/errors.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { bootForTest } from '../support/app.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres, urlOf } from '../support/postgres.ts'
import { until } from '../support/process.ts'

function fails(id: number): never {
  throw new TypeError(`article ${id} of "someone@example.org" has no author`)
}
const poison = defineJob('m.poison', Type.Object({}), { attempts: 1 })
const app = defineApp({
  name: 'a',
  modules: [
    defineModule({
      name: 'm',
      owner: 'tests',
      identify: () => (request) => {
        const id = request.headers.authorization
        return id === undefined ? undefined : { id }
      },
      routes(http, { data }) {
        http.get('/fails/:id', async (request) => {
          await principalOf(request)
          return fails(Number((request.params as { id: string }).id))
        })
        http.get('/wraps', async () => {
          try {
            fails(7)
          } catch (cause) {
            throw new RungError('HTTP_INTERNAL', 'That did not work.', { cause })
          }
        })
        http.get('/paints', () => {
          throw new TypeError('a \x1b[2J b \x9b31m c \u202e d')
        })
        http.get('/answers', (_request, reply) => reply.status(502).send('upstream'))
        http.get('/not-found', async () => {
          throw new RungError('HTTP_NOT_FOUND', 'There is none.')
        })
        http.post('/poison', () => data.write((tx) => tx.enqueue(poison, {})).then(() => 'ok'))
      },
      work: () => [
        handle(poison, () => {
          throw new RangeError('\0 nobody can do this \ud800')
        }),
      ],
    }),
  ],
})

describe('a group of errors', () => {
  const at = (name: string, line: number, folder = '/srv/app') =>
    `at ${name} (${folder}/src/orders/queries.ts:${line}:3)`
  const of = (message: string, stack: string[], where = 'GET /a', code?: string) =>
    fingerprintOf({ where, errors: [{ name: 'Error', message, stack, ...(code !== undefined && { code }) }] })

  it('has the same functions of the app, whatever the message, the line, the release and the route', () => {
    const one = of('no row 7', [at('load', 10), 'at node:internal:1:2'])
    assert.equal(of('no row 8', [at('load', 17, '/data/releases/05f/app')], 'GET /b'), one)
    assert.notEqual(of('no row 7', [at('save', 10)]), one)
    assert.notEqual(of('no row 7', [at('load', 10)], 'GET /a', 'DATA_CONFLICT'), one)
  })

  it('without functions of the app has the same unit of work and the same message, but for its values', () => {
    const library = ['at Pool.query (/srv/app/node_modules/pg/lib/pool.js:1:2)']
    assert.equal(of('row 7 of "a" is gone', library), of('row 19 of "b" is gone', library))
    assert.notEqual(of('row 7 is gone', library), of('row 7 is there', library))
    assert.notEqual(of('row 7 is gone', library), of('row 7 is gone', library, 'GET /b'))
    assert.equal(withoutValues(`id 7f9c2ba4e88f827d616045507605853e, 'x', 3 of 5 h`), 'id ?, ?, ? of ? h')
  })

  it('names places as the authors of the app know them, also in a release', () => {
    const error = new Error('no')
    error.stack = 'Error: no\n    at load (file:///srv/shop/.rung/releases/4c4669524fa3/above/app/src/orders.ts:45:24)'
    const { at, errors } = sampleOf(error, 'GET /')
    assert.deepEqual([at, errors[0]!.stack], ['src/orders.ts:45:24', ['at load (src/orders.ts:45:24)']])
  })

  it('is made of whatever was thrown', () => {
    const hostile = new Proxy({}, { get: () => { throw new Error('no') } }) // biome-ignore format: as long as it is odd
    for (const thrown of [undefined, null, 'text', 7, hostile, Object.create(null), new Error('\0'.repeat(10_000))]) {
      const sample = sampleOf(thrown, 'GET /')
      assert.match(fingerprintOf(sample), /^[0-9a-f]{10}$/)
      assert.ok(JSON.stringify(sample).length < 10_000)
    }
  })
})

describe('the table of errors', () => {
  let postgres: TestPostgres
  let database: Database
  before(async () => {
    postgres = await testPostgres()
    ;({ database } = await openSystemTables(postgres))
  })
  after(async () => {
    await database?.close()
    await postgres.stop()
  })
  const sample = (where: string): ErrorSample => ({ where, errors: [] })
  const minuteAgo = Date.now() - 60_000
  const group = (fingerprint: string, seconds: number, users: number[], where = `at ${seconds}`) => {
    const at = new Date(minuteAgo + seconds * 1_000).toISOString()
    return { fingerprint, firstAt: at, lastAt: at, count: users.length, users, sample: sample(where) }
  }
  const read = () => readErrors<ErrorSample>(database, 3_600_000)

  it('adds up what processes have counted at the same time, each user once, and keeps the newest sample', async () => {
    const rounds = Array.from({ length: 8 }, (_, n) => n)
    await Promise.all(
      rounds.flatMap((n) => [
        saveErrors(database, 'r1', [group('a', n, [1, 2, n + 3]), group('b', n, [n])]),
        saveErrors(database, 'r1', [group('b', n, [n]), group('a', n, [1])]),
      ]),
    )
    await saveErrors(database, undefined, [group('a', 9, [1])])
    const [last, a, b] = (await read()) as [ErrorGroup<ErrorSample>, ErrorGroup<ErrorSample>, ErrorGroup<ErrorSample>]
    assert.deepEqual([last.release, last.count], ['unknown', 1])
    assert.deepEqual([a.count, a.users.length, a.sample.where], [32, 10, 'at 7'])
    assert.deepEqual([b.count, b.users.length], [16, 8])
    assert.equal(Date.parse(a.lastAt) - Date.parse(a.firstAt), 7_000)
  })

  it('stays small', async () => {
    const many = Array.from({ length: 1_100 }, (_, n) => group(`many-${n}`, 10 + n / 1_000, [n]))
    const [first] = many.splice(0, 1)
    await saveErrors(database, 'r2', [{ ...first!, users: Array.from({ length: 3_000 }, (_, n) => n) }])
    await saveErrors(database, 'r2', [{ ...first!, users: [5_000] }])
    assert.equal((await read()).find(({ fingerprint }) => fingerprint === 'many-0')!.users.length, 1_000)
    await saveErrors(database, 'r2', many)
    assert.equal(await pruneErrors(database, 3_600_000), 103)
    assert.equal((await read()).length, 1_000)
    assert.equal(await pruneErrors(database, 0), 1_000)
    assert.deepEqual(await read(), [])
  })
})

describe('the errors of an app', () => {
  let postgres: TestPostgres
  let running: Running
  let env: { DATABASE_URL: string }
  before(async () => {
    postgres = await testPostgres()
    env = { DATABASE_URL: urlOf(await postgres.createDatabase()) }
    running = await bootForTest(app, postgres, { build: 'r1' }, [observe()], env)
  })
  after(async () => {
    await running?.stop()
    await postgres.stop()
  })

  async function rung(...args: string[]) {
    const told = { lines: [] as string[], json: undefined as unknown }
    const code = await main(['errors', ...args], env, process.cwd(), {
      line: (text = '') => void told.lines.push(text),
      json: (value) => {
        told.json = value
      },
      note() {},
    })
    return { code, ...told }
  }
  interface Shown {
    fingerprint: string
    count: number
    users: number
    releases: { release: string; count: number }[]
    sample: ErrorSample
  }
  const shown = async () => (await rung('--json')).json as Shown[]
  const where = async (text: string) => (await shown()).find(({ sample }) => sample.where === text)

  it('are grouped by what failed, with their users, wherever they happened; refusals are none', async () => {
    const ask = (path: string, user?: string, method = 'GET') =>
      fetch(running.url + path, { method, headers: user === undefined ? {} : { authorization: user } })
    for (const user of ['ada', 'ada', 'bob']) await ask('/fails/7', user)
    for (const path of ['/wraps', '/answers', '/not-found', '/fails/not-a-number']) await ask(path)
    assert.equal((await ask('/poison', undefined, 'POST')).status, 200)
    await until(async () => (await shown()).length >= 4 || undefined, 'all are written')
    const failing = await where('GET /fails/:id')
    assert.deepEqual([failing!.count, failing!.users], [4, 2])
    assert.deepEqual(
      failing!.releases.map(({ release, count }) => [release, count]),
      [['r1', 4]],
    )
    assert.match(failing!.sample.at!, /errors\.test\.ts:/)
    assert.match(failing!.sample.traceId!, /^[0-9a-f]{32}$/)
    assert.equal((await where('GET /wraps'))!.sample.errors.length, 2)
    assert.equal((await where('GET /answers'))!.sample.errors[0]!.name, 'HTTP 502')
    assert.match((await where('job m.poison'))!.sample.errors[0]!.message, / nobody can do this /)
    assert.equal(await where('GET /not-found'), undefined)
  })

  it('are shown in 80 columns, one group with its releases and its stack', async () => {
    const { lines } = await rung()
    for (const line of lines) assert.ok(line.length <= 80, line)
    assert.match(lines[0]!, /^group +last seen +count +users +where$/)
    const { fingerprint } = (await where('GET /wraps'))!
    const one = (await rung(fingerprint.slice(0, 6))).lines.join('\n')
    assert.match(one, /^RungError HTTP_INTERNAL: That did not work\.$/m)
    assert.match(one, /^caused by TypeError: article 7 of "someone@example.org" has no author\n {2}at fails/m)
    assert.deepEqual((await rung('--release', 'r2', '--json')).json, [])
    assert.equal((await rung('nothing')).code, 1)
  })

  it('paint no terminal, whatever a visitor has sent', async () => {
    await fetch(`${running.url}/paints`)
    const found = await until(() => where('GET /paints'), 'it is written')
    for (const args of [[], [found.fingerprint]]) {
      const text = (await rung(...args)).lines.join('\n')
      assert.match(text, /a \?\[2J b \?31m c \? d/)
      assert.doesNotMatch(text, /(?!\n)[\p{Cc}\u202e]/u)
    }
  })

  it('are none of a process that is asked and is not ready', async () => {
    running.drain()
    assert.equal((await fetch(`${running.url}/readyz`)).status, 503)
    await fetch(`${running.url}/wraps`)
    await until(async () => (await where('GET /wraps'))!.count >= 2 || undefined, 'what came later is written')
    assert.equal(await where('GET /readyz'), undefined)
  })

  it('are written when the database takes them again, each once', async () => {
    const count = async () => (await where('GET /answers'))!.count
    const before = await count()
    const client = await connectOnce({ url: env.DATABASE_URL } as never)
    await client.query('begin; lock table rung.error in access exclusive mode')
    await fetch(`${running.url}/answers`)
    const waiting = `select 1 from pg_locks where relation = 'rung.error'::regclass and not granted`
    await until(async () => ((await client.query(waiting)).rowCount ?? 0) > 0 || undefined, 'a write waits')
    await client.query(
      `select pg_terminate_backend(pid) from pg_locks where relation = 'rung.error'::regclass and not granted`,
    )
    await fetch(`${running.url}/answers`)
    await client.query('commit')
    await client.end()
    await until(async () => (await count()) >= before + 2 || undefined, 'both are written')
    assert.equal(await count(), before + 2)
  })
})
