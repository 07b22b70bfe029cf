import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Fault } from '../../src/kernel/fault.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { bootForTest } from '../support/app.ts'
import shop from '../support/apps/shop/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'

let postgres: TestPostgres
let running: Running
let production: Running

before(async () => {
  postgres = await testPostgres()
  running = await bootForTest(shop, postgres)
  production = await bootForTest(shop, postgres, { mode: 'production' })
})
after(async () => {
  await running?.stop()
  await production?.stop()
  await postgres?.stop()
})

function ask(path: string, init?: RequestInit, of = running): Promise<Response> {
  return fetch(of.url + path, init)
}

async function problemOf(answer: Response) {
  assert.match(answer.headers.get('content-type') ?? '', /^application\/problem\+json/)
  return (await answer.json()) as {
    status: number
    code: string
    detail: string
    instance: string
    errors?: { in: string; path: string }[]
    fault?: Fault
  }
}

const asJson = (value: unknown) => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(value),
})

describe('modules', () => {
  it('call each other', async () => {
    await ask('/items', asJson({ id: 1, n: 5 }))
    assert.deepEqual(await (await ask('/levels')).json(), [{ id: 1, n: 5 }])
  })

  it('cannot reach into each other: a test fails there', async () => {
    const { code, detail, fault } = await problemOf(await ask('/across'))
    assert.equal(code, 'DATA_BOUNDARY')
    assert.match(detail, /reads "stock\.item"/)
    assert.equal(fault?.errors[0]?.code, 'DATA_BOUNDARY')
  })

  it('name their tables in full', async () => {
    assert.equal((await problemOf(await ask('/unqualified'))).code, 'DATA_BOUNDARY')
  })

  it('are not looked at in production', async () => {
    assert.equal((await ask('/across', undefined, production)).status, 200)
  })

  it('are not called inside a transaction', async () => {
    assert.equal((await problemOf(await ask('/call-in-transaction'))).code, 'CALL_IN_TRANSACTION')
  })
})

describe('errors', () => {
  it('are problem+json with the code, and the id of the request', async () => {
    const answer = await ask('/items/7')
    const problem = await problemOf(answer)
    assert.equal(answer.status, 404)
    assert.equal(problem.code, 'HTTP_NOT_FOUND')
    assert.equal(problem.instance, answer.headers.get('x-request-id'))
  })

  it('say where the request is wrong', async () => {
    const answer = await ask('/items', asJson({ id: 'one', n: 1 }))
    const problem = await problemOf(answer)
    assert.equal(answer.status, 422)
    assert.deepEqual(
      problem.errors?.map(({ in: part, path }) => [part, path]),
      [['body', '/id']],
    )
  })

  it('of the database have codes of their own', async () => {
    await ask('/items', asJson({ id: 50, n: 1 }))
    const answer = await ask('/items', asJson({ id: 50, n: 1 }))
    assert.equal(answer.status, 409)
    assert.equal((await problemOf(answer)).code, 'DATA_UNIQUE')
  })

  it('that nobody foresaw tell a client nothing in production', async () => {
    for (const path of ['/fault', '/caused', '/refuse/503']) {
      const text = await (await ask(path, undefined, production)).text()
      assert.match(text, /"code":"HTTP_(INTERNAL|OVERLOADED)"/)
      assert.doesNotMatch(text, /hunter2|fault|stack|frame|app\.ts|node_modules|file:/)
    }
    const text = await (
      await ask('/fault', { headers: { 'x-rung-debug': '1', accept: 'text/html' } }, production)
    ).text()
    assert.match(text, /The server failed/)
  })

  it('show in development and tests where they were thrown, and why', async () => {
    const { fault } = await problemOf(await ask('/caused'))
    assert.deepEqual(
      fault?.errors.map(({ name, message }) => `${name}: ${message}`),
      ['Error: no report was made', 'TypeError: not a number'],
    )
    assert.match(fault.at ?? '', /^test\/support\/apps\/shop\/app\.ts:\d+:\d+$/)
    const marked = fault.frame?.split('\n').filter((line) => line.startsWith('>'))
    assert.deepEqual(marked?.length, 1)
    assert.match(marked[0]!, /throw new Error\('no report was made', \{ cause \}\)/)
    assert.match(fault.errors[1]!.stack[0]!, /app\.ts:\d+:\d+/)
  })

  it('of a client show nothing of the kind', async () => {
    assert.equal((await problemOf(await ask('/nowhere'))).fault, undefined)
    assert.equal((await problemOf(await ask('/items', asJson({ id: 'one', n: 1 })))).fault, undefined)
  })

  it('of a plugin keep their status', async () => {
    for (const status of [410, 429, 503]) {
      const answer = await ask(`/refuse/${status}`)
      assert.equal(answer.status, status)
      assert.equal((await problemOf(answer)).status, status)
    }
  })

  it('of a route that does not exist', async () => {
    assert.equal((await problemOf(await ask('/nowhere'))).code, 'HTTP_NOT_FOUND')
  })
})

describe('requests', () => {
  it('keep a harmless id from outside, and get one otherwise', async () => {
    const idOf = async (id?: string) =>
      (await ask('/healthz', id ? { headers: { 'x-request-id': id } } : {})).headers.get('x-request-id')
    assert.equal(await idOf('abc-123'), 'abc-123')
    assert.notEqual(await idOf('a b<script>'), 'a b<script>')
    assert.match((await idOf()) ?? '', /^[0-9a-f-]{36}$/)
  })

  it('stay in the trace of the caller', async () => {
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
    const answer = await ask('/healthz', { headers: { traceparent: `00-${traceId}-00f067aa0ba902b7-01` } })
    assert.match(
      answer.headers.get('traceparent') ?? '',
      new RegExp(`^00-${traceId}-(?!00f067aa0ba902b7)[0-9a-f]{16}-01$`),
    )
    const broken = await ask('/healthz', { headers: { traceparent: `00-${'0'.repeat(32)}-00f067aa0ba902b7-01` } })
    assert.doesNotMatch(broken.headers.get('traceparent') ?? '', /^00-0{32}/)
  })

  it('that take too long are answered, and their statement ends on the server', async () => {
    const answer = await ask('/sleep')
    assert.equal(answer.status, 503)
    assert.equal(answer.headers.get('retry-after'), '1')
    assert.equal((await problemOf(answer)).code, 'HTTP_TIMEOUT')
    const asleep = () =>
      running.data
        .forModule(undefined)
        .read(
          (sql) =>
            sql`select 1 from pg_stat_activity where datname = current_database() and state = 'active' and query = 'select pg_sleep(600)'`,
        )
    while ((await asleep()).length > 0);
  })

  it('of a client that went away end on the server too', async () => {
    const abort = new AbortController()
    const asked = ask('/sleep', { signal: abort.signal })
    asked.catch(() => {})
    const asleep = () =>
      running.data
        .forModule(undefined)
        .read(
          (sql) =>
            sql`select 1 from pg_stat_activity where datname = current_database() and state = 'active' and query = 'select pg_sleep(600)'`,
        )
    while ((await asleep()).length === 0);
    abort.abort()
    while ((await asleep()).length > 0);
  })

  it('get security headers', async () => {
    const { headers } = await ask('/levels')
    assert.equal(headers.get('x-content-type-options'), 'nosniff')
    assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'/)
  })

  it('from other origins only where the app allows it', async () => {
    const from = async (origin: string) =>
      (await ask('/levels', { headers: { origin } })).headers.get('access-control-allow-origin')
    assert.equal(await from('https://shop.example'), 'https://shop.example')
    assert.equal(await from('https://evil.example'), null)
  })
})

describe('the documents', () => {
  it('describe the routes in OpenAPI 3.1', async () => {
    const document = (await (await ask('/openapi.json')).json()) as {
      openapi: string
      paths: Record<string, { get?: { tags: string[] } }>
      info: { title: string }
    }
    assert.equal(document.openapi, '3.1.0')
    assert.equal(document.info.title, 'shop')
    assert.ok(document.paths['/items/{id}'])
    assert.ok(!document.paths['/healthz'])
    assert.deepEqual(document.paths['/items/{id}'].get?.tags, ['stock'])
  })

  it('have a page for people', async () => {
    const answer = await ask('/reference/')
    assert.equal(answer.status, 200)
    assert.match(answer.headers.get('content-type') ?? '', /html/)
    assert.match(answer.headers.get('content-security-policy') ?? '', /script-src 'self'/)
    const document = (await (await ask('/reference/json')).json()) as { paths: object }
    assert.ok('/items/{id}' in document.paths)
    assert.equal((await ask('/reference/static/none.css')).status, 404)
    const page = await answer.text()
    assert.match(page, /<title>shop: reference<\/title>/)
  })
})
