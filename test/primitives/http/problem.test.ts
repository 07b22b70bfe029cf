import assert from 'node:assert/strict'
import path from 'node:path'
import { Readable } from 'node:stream'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { defineApp, defineModule, RungError } from 'rung'
import { Type } from 'typebox'
import { type FaultProxy, openProxy } from '../../../src/chaos/proxy.ts'
import { onResponseEnd } from '../../../src/primitives/http/response-end.ts'
import type { Running } from '../../../src/runtime/boot.ts'
import { bootForTest } from '../../support/app.ts'
import { type TestPostgres, testPostgres, urlOf, withTempDir } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

async function ask(running: Running, route: string, headers: Record<string, string> = {}, method = 'POST') {
  const answer = await fetch(running.url + route, {
    method,
    headers: { authorization: 'User one', 'content-type': 'application/json', ...headers },
    ...(method === 'POST' && { body: '{}' }),
  })
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, text, problem: JSON.parse(text) as Record<string, unknown> }
}

type Answer = Awaited<ReturnType<typeof ask>>

describe('requests that no route takes', () => {
  let running: Running
  const ended: number[] = []
  before(async () => {
    const things = defineModule({
      name: 'things',
      owner: 'tests',
      routes(http) {
        http.get('/things/:id', async () => ({}))
        http.put('/things/:id', async () => ({}))
        http.get('/numbers/:n', { schema: { params: Type.Object({ n: Type.Integer() }) } }, async () => ({}))
        http.post('/things', { bodyLimit: 1_000 }, async ({ body }) => body)
        http.get('/stream', async (_request, reply) => {
          const before = reply.raw.listenerCount('close')
          for (let n = 0; n < 20; n += 1) onResponseEnd(reply.raw, () => ended.push(n))
          return Readable.from([`${before} `, String(reply.raw.listenerCount('close'))])
        })
      },
    })
    running = await bootForTest(defineApp({ name: 'a', modules: [things] }), postgres)
  })
  after(() => running?.stop())

  it('with another method are told which ones there are', async () => {
    for (const [method, route, allow] of [
      ['POST', '/things/7', 'GET, HEAD, PUT'],
      ['DELETE', '/things/7?x=1', 'GET, HEAD, PUT'],
      ['GET', '/things', 'POST'],
      ['OPTIONS', '/things', 'POST'],
    ] as const) {
      const { status, headers, problem } = await ask(running, route, {}, method)
      assert.deepEqual([status, headers.get('allow'), problem.code], [405, allow, 'HTTP_METHOD_NOT_ALLOWED'])
    }
    for (const route of ['/thing/7', '/things/7/8', '/'])
      assert.equal((await ask(running, route, {}, 'DELETE')).status, 404, route)
    assert.equal((await ask(running, '/metrics', {}, 'DELETE')).status, 404, 'what is not for clients is not there')
  })

  it('are streamed with one listener, for however many wait for the end', async () => {
    // Eleven of their own on one answer made Node warn of a leak.
    const answer = await fetch(`${running.url}/stream`)
    const [before, after] = (await answer.text()).split(' ').map(Number)
    assert.equal(after, before)
    await (await fetch(`${running.url}/stream`)).text()
    await until(() => ended.length === 40, 'all were told of both ends')
  })

  it('with a wrong value are told the same in the detail and in the list of errors', async () => {
    for (const [route, message] of [
      ['/numbers/x', 'must be integer'],
      ['/numbers/', 'must not be empty'],
    ]) {
      const { status, problem } = await ask(running, route!, {}, 'GET')
      const errors = [{ in: 'params', path: '/n', message }]
      assert.deepEqual([status, problem.detail, problem.errors], [422, `params/n ${message}`, errors])
    }
  })

  it('with a body of another media type are told which to send', async () => {
    const { status, problem } = await ask(running, '/things', { 'content-type': 'application/xml' })
    assert.deepEqual([status, problem.code], [415, 'HTTP_MEDIA_TYPE'])
    assert.match(String(problem.detail), /Content-Type: application\/json/)
  })

  it('with a body in another form are told so, and a large one is read to its end', async () => {
    const { status, problem } = await ask(running, '/things', { 'content-encoding': 'gzip' })
    assert.deepEqual([status, problem.code], [415, 'HTTP_MEDIA_TYPE'])
    assert.equal((await ask(running, '/things', { 'content-encoding': 'identity' })).status, 200)
    for (const body of [Buffer.alloc(3_000_000, ' '), new Blob([Buffer.alloc(3_000_000, ' ')]).stream()]) {
      const init = { method: 'POST', body, duplex: 'half', headers: { 'content-type': 'application/json' } }
      assert.equal((await fetch(`${running.url}/things`, init as RequestInit)).status, 413)
    }
  })
})

describe('an answer after a commit', () => {
  let proxy: FaultProxy
  let running: Running
  let away: () => void
  let stop: () => Promise<void>

  /** An app whose connections to its database go through a proxy. */
  beforeEach(async () => {
    const opened = Promise.withResolvers<void>()
    const done = Promise.withResolvers<void>()
    const whole = withTempDir(async (dir) => {
      const connection = await postgres.createDatabase()
      proxy = await openProxy({ path: path.join(connection.host!, '.s.PGSQL.5432') }, path.join(dir, '.s.PGSQL.5432'))
      away = () => {
        proxy.target = { path: path.join(dir, 'nobody') }
        proxy.cut()
      }
      const url = urlOf({ ...connection, host: dir })
      running = await bootForTest(app, postgres, { mode: 'production' }, [], { DATABASE_URL: url })
      opened.resolve()
      await done.promise
    })
    stop = async () => {
      proxy.cut()
      await running.stop()
      proxy.close()
      done.resolve()
      await whole
    }
    await Promise.race([opened.promise, whole])
  })
  afterEach(() => stop())

  const insert = "insert into till.effect (kind, key) values ('saved', 'one')"
  const app = defineApp({
    name: 'after-commit',
    http: { requestTimeout: '2s' },
    modules: [
      defineModule({
        name: 'till',
        owner: 'sales',
        migrations: new URL('../../support/apps/till/migrations/', import.meta.url),
        routes(http, { data }) {
          const write = () => data.write((tx) => tx`insert into till.effect (kind, key) values ('saved', 'one')`)
          const read = () => data.read((sql) => sql`select from till.effect`)
          http.post('/write-then-read', async () => {
            await write()
            away()
            await read()
          })
          http.post('/pool-then-read', async () => {
            await data.pool.query(insert)
            away()
            await read()
          })
          http.post('/rolled-back-then-read', async () => {
            const client = await data.pool.connect()
            await client.query('begin')
            await client.query(insert)
            await client.query('rollback')
            client.release()
            away()
            await read()
          })
          http.post('/write-then-plugin', async (_request, reply) => {
            await write()
            reply.header('retry-after', '7')
            throw Object.assign(new Error('Slow down and try again.'), { statusCode: 429 })
          })
          http.post('/write-then-fault', async () => {
            await write()
            throw new Error('a fault')
          })
          http.post('/write-then-refuse', async () => {
            await write()
            throw new RungError('HTTP_CONFLICT', 'No.')
          })
          http.post('/lost-commit', async () => {
            const inserted = Promise.withResolvers<void>()
            const writing = data.write(async (tx) => {
              await tx`insert into till.effect (kind, key) values ('saved', 'one')`
              proxy.set({ blackHole: true })
              inserted.resolve()
            })
            writing.catch(() => {})
            await inserted.promise
            await turn() // the commit is sent
            away()
            await writing
          })
          http.post('/lost-statement', async () => {
            const client = await data.pool.connect()
            proxy.set({ blackHole: true })
            const writing = client.query(insert).finally(() => client.release())
            writing.catch(() => {})
            await turn()
            away()
            await writing
          })
          http.post('/silent-commit', async () => {
            await data.write(async (tx) => {
              await tx`insert into till.effect (kind, key) values ('saved', 'one')`
              proxy.set({ blackHole: true })
            })
          })
          http.post('/only-read', async () => {
            away()
            await read()
          })
          http.post('/keyed', { config: { idempotency: 'required' } }, async () => {
            await write()
            away()
            await read()
          })
          http.post('/keyed-read', { config: { idempotency: 'required' } }, async () => {
            away()
            await read()
          })
        },
      }),
    ],
  })

  function invitesNobody({ headers, text }: Answer): void {
    assert.equal(headers.get('retry-after'), null)
    assert.doesNotMatch(text, /try again/i)
    assert.match(headers.get('content-type') ?? '', /^application\/problem\+json/)
  }

  for (const route of ['/write-then-read', '/pool-then-read', '/write-then-plugin']) {
    it(`says that something was saved (${route})`, async () => {
      const answer = await ask(running, route)
      invitesNobody(answer)
      assert.equal(answer.problem.code, 'HTTP_SAVED_IN_PART')
      assert.match(String(answer.problem.detail), /saved/)
    })
  }

  it('says so of a fault too, and tells nothing else of it', async () => {
    const answer = await ask(running, '/write-then-fault')
    assert.deepEqual([answer.status, answer.problem.code], [500, 'HTTP_INTERNAL'])
    assert.match(String(answer.problem.detail), /saved before it failed/)
    assert.doesNotMatch(answer.text, /a fault/)
  })

  it('leaves a refusal as it is', async () => {
    const { problem } = await ask(running, '/write-then-refuse')
    assert.deepEqual([problem.status, problem.code, problem.detail], [409, 'HTTP_CONFLICT', 'No.'])
  })

  for (const route of ['/lost-commit', '/lost-statement', '/silent-commit']) {
    it(`says that nobody knows the outcome (${route})`, async () => {
      const answer = await ask(running, route)
      invitesNobody(answer)
      assert.equal(answer.problem.code, 'DATA_OUTCOME_UNKNOWN')
    })
  }

  for (const route of ['/only-read', '/rolled-back-then-read']) {
    it(`invites to try again where nothing was committed (${route})`, async () => {
      const { status, headers, problem } = await ask(running, route)
      assert.deepEqual([status, problem.code], [503, 'DATA_UNAVAILABLE'])
      assert.equal(headers.get('retry-after'), '1')
      assert.match(String(problem.detail), /try again/i)
    })
  }

  it('names the key where the request has one', async () => {
    const answer = await ask(running, '/keyed', { 'idempotency-key': '"k1"' })
    invitesNobody(answer)
    assert.equal(answer.problem.code, 'HTTP_SAVED_IN_PART')
    assert.match(String(answer.problem.detail), /same Idempotency-Key/)
  })

  it('is a problem also where its key cannot be released', async () => {
    const { status, headers, problem } = await ask(running, '/keyed-read', { 'idempotency-key': '"k2"' })
    assert.deepEqual([status, problem.code], [503, 'DATA_UNAVAILABLE'])
    assert.match(headers.get('content-type') ?? '', /^application\/problem\+json/)
  })
})

describe('an error is answered as a problem', () => {
  const thrown: Record<string, unknown> = {
    nothing: undefined,
    null: null,
    text: 'a text',
    getter: Object.defineProperty({}, 'message', {
      get() {
        throw new Error('no message')
      },
    }),
    proxy: new Proxy(
      {},
      {
        get() {
          throw new Error('no property')
        },
        getPrototypeOf() {
          throw new Error('no prototype')
        },
      },
    ),
  }
  const circle: Record<string, unknown> = {}
  circle.self = circle
  let form: (() => unknown) | undefined
  let running: Running
  before(async () => {
    const site = defineModule({
      name: 'site',
      owner: 'web',
      routes(http) {
        http.get('/throws/:what', async (request) => {
          throw thrown[(request.params as { what: string }).what]
        })
        const Other = Type.Object({ never: Type.String() })
        const Book = Type.Object({ id: Type.Integer(), blurb: Type.String() })
        const book = { schema: { response: { 200: Book } } }
        http.get('/books/:id', book, async ({ params }) => JSON.parse((params as { id: string }).id))
        const kept = { ...book, config: { cache: { ttl: '1m' as const, tags: ['books'] } } }
        http.get('/kept/:id', kept, async ({ params }) => JSON.parse((params as { id: string }).id))
        http.get('/bigint', async () => ({ id: 1n }))
        http.get('/schema', { schema: { response: { 409: Other } } }, async () => {
          throw new RungError('HTTP_CONFLICT', 'No.')
        })
      },
    })
    const formatProblem = (problem: unknown) => (form ? form() : problem)
    running = await bootForTest(defineApp({ name: 'site', modules: [site], http: { formatProblem } }), postgres)
  })
  after(() => running.stop())
  afterEach(() => {
    form = undefined
  })

  for (const what of Object.keys(thrown)) {
    it(`whatever was thrown: ${what}`, async () => {
      const { status, problem } = await ask(running, `/throws/${what}`, {}, 'GET')
      assert.deepEqual([status, problem.code], [500, 'HTTP_INTERNAL'])
    })
  }

  it('that does not fit the schema of the answer, and names the route', async () => {
    for (const route of ['/books/:id', '/kept/:id'])
      for (const answer of ['{"id":1}', '{"id":"one","blurb":"x"}', '[]']) {
        const { status, problem } = await ask(running, route.replace(':id', encodeURIComponent(answer)), {}, 'GET')
        assert.deepEqual([status, problem.code], [500, 'HTTP_ANSWER_INVALID'], `${route} ${answer}`)
        assert.ok(String(problem.detail).startsWith(`The result of GET ${route} does not fit its response schema: `))
      }
    const { problem } = await ask(running, '/bigint', {}, 'GET')
    assert.match(String(problem.detail), /^The result of GET \/bigint cannot be written as JSON: /)
  })

  it('where the route has another schema for its status', async () => {
    const { status, problem } = await ask(running, '/schema', {}, 'GET')
    assert.deepEqual([status, problem.code], [409, 'HTTP_CONFLICT'])
  })

  const forms: Record<string, () => unknown> = {
    throws: () => {
      throw new Error('no form')
    },
    'returns a circle': () => circle,
    'returns nothing': () => undefined,
  }
  for (const [what, fails] of Object.entries(forms)) {
    it(`where formatProblem ${what}`, async () => {
      form = fails
      const { status, problem } = await ask(running, '/schema', {}, 'GET')
      assert.deepEqual([status, problem.code], [409, 'HTTP_CONFLICT'])
    })
  }
})
