import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { after, before, describe, it } from 'node:test'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { defineApp, defineModule } from '../../../src/index.ts'
import { edgeTag } from '../../../src/primitives/cache/edge.ts'
import type { Running } from '../../../src/runtime/boot.ts'
import { bootForTest } from '../../support/app.ts'
import { askPage } from '../../support/nginx.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'

let loads = 0
const shop = defineModule({
  name: 'shop',
  owner: 'tests',
  routes(http, { data }) {
    http.get(
      '/things/:name',
      {
        schema: {
          params: Type.Object({ name: Type.String() }),
          querystring: Type.Object({ page: Type.Integer({ default: 1 }) }),
          response: { 200: Type.Object({ name: Type.String(), page: Type.Integer(), loads: Type.Integer() }) },
        },
        config: { cache: { ttl: '1h', tags: ({ params }) => [params.name], vary: ['Accept-Language'] } },
      },
      async (request) => {
        if (request.params.name === 'missing') throw new Error('no such thing')
        loads += 1
        return { ...request.params, ...request.query, loads, secret: 'not in the schema' }
      },
    )
    http.get('/rude', { config: { cache: { ttl: '1h', tags: [] } } }, async (_request, reply) => reply.send('hello'))
    // Each returns what it can see of its request.
    const seen: Record<string, (request: FastifyRequest, reply: FastifyReply) => unknown> = {
      query: ({ query }) => JSON.stringify(query),
      url: ({ url }) => url,
      host: ({ host }) => host,
      hostname: ({ hostname }) => hostname,
      forwarded: ({ headers }) => headers['x-forwarded-host'],
      agent: ({ headers }) => headers['user-agent'],
      headers: ({ headers }) => JSON.stringify(headers),
      cookie: ({ headers }) => `cookies: ${headers.cookie}`,
      ip: ({ ip }) => ip,
      id: ({ id }) => id,
      raw: ({ raw }) => raw.url,
      through: (_request, reply) => reply.request.hostname,
      bytes: () => Buffer.from('x'),
      nothing: () => undefined,
      null: () => null,
      stream: () => Readable.from(['x']),
    }
    for (const [name, handler] of Object.entries(seen)) {
      const querystring = Type.Object({ page: Type.Optional(Type.Integer()) })
      http.get(
        `/seen/${name}/:of`,
        { schema: { querystring }, config: { cache: { ttl: '1h', tags: [] } } },
        async (...both) => handler(...both),
      )
    }
    http.get('/by-host', { config: { cache: { ttl: '1h', tags: [], vary: ['Host'] } } }, async ({ host }) => host)
    http.post('/things/:name', { schema: { params: Type.Object({ name: Type.String() }) } }, async (request, reply) => {
      await data.write((tx) => tx.invalidate([request.params.name]))
      return reply.status(204).send()
    })
  },
})

describe('answers that are kept', () => {
  let postgres: TestPostgres
  let app: Running
  before(async () => {
    postgres = await testPostgres()
    app = await bootForTest(defineApp({ name: 'shop', modules: [shop] }), postgres, { mode: 'development' })
  })
  after(async () => {
    await app.stop()
    await postgres.stop()
  })
  const get = (path: string, headers: Record<string, string> = {}) => fetch(app.url + path, { headers })
  const bodyOf = async (path: string, headers: Record<string, string> = {}) =>
    (await (await get(path, headers)).json()) as { name: string; page: number; loads: number }

  it('are given to the anonymous as they were, until they are invalidated', async () => {
    const first = await bodyOf('/things/a')
    assert.deepEqual(await bodyOf('/things/a'), first)
    assert.deepEqual(Object.keys(first), ['name', 'page', 'loads'])
    assert.equal((await fetch(`${app.url}/things/a`, { method: 'POST' })).status, 204)
    assert.equal((await bodyOf('/things/a')).loads, first.loads + 1)
  })

  it('know defaults, and no parameter that the schema does not', async () => {
    const first = await bodyOf('/things/b')
    assert.deepEqual(await bodyOf('/things/b?page=1'), first)
    assert.deepEqual(await bodyOf('/things/b?utm_source=x&page=1'), first)
    assert.notEqual((await bodyOf('/things/b?page=2')).loads, first.loads)
  })

  it('differ by the headers that they vary with', async () => {
    const [german, english] = [{ 'accept-language': 'de' }, { 'accept-language': 'en' }]
    const first = await bodyOf('/things/c', german)
    assert.notEqual((await bodyOf('/things/c', english)).loads, first.loads)
    assert.deepEqual(await bodyOf('/things/c', german), first)
  })

  it('have an ETag, and 304 for who has it', async () => {
    const first = await get('/things/d')
    const etag = first.headers.get('etag')!
    assert.match(etag, /^"[\w-]{27}"$/)
    assert.equal(first.headers.get('cache-control'), 'public, no-cache')
    const again = await get('/things/d', { 'if-none-match': `W/"other", ${etag}` })
    assert.equal(again.status, 304)
    assert.equal(await again.text(), '')
    assert.equal((await get('/things/d', { 'if-none-match': '"other"' })).status, 200)
  })

  for (const [what, headers] of [
    ['a token', { authorization: 'Token x' }],
    ['a session', { cookie: 'a=b; session=x' }],
  ] as const) {
    it(`are not for who shows ${what}, and what he gets is stored by nobody`, async () => {
      await get('/things/e')
      const own = await get('/things/e', headers)
      assert.equal(own.headers.get('cache-control'), 'private, no-store')
      assert.match(own.headers.get('vary')!, /authorization.*cookie/)
      const [one, two] = [await bodyOf('/things/e', headers), await bodyOf('/things/e', headers)]
      assert.notEqual(one.loads, two.loads)
      assert.notEqual((await bodyOf('/things/e')).loads, two.loads)
    })
  }

  it('failures are not kept', async () => {
    const failed = await get('/things/missing')
    assert.equal(failed.status, 500)
    assert.equal(failed.headers.get('cache-control'), 'no-store')
    assert.equal(failed.headers.get('etag'), null)
  })

  it('tell an edge what they depend on, kept or not', async () => {
    const behind = await bootForTest(defineApp({ name: 'shop', modules: [shop] }), postgres, {}, [], {
      RUNG_EDGE_URL: 'http://127.0.0.1:9',
      RUNG_EDGE_SECRET: 'a-word-of-the-tests',
    })
    for (let n = 0; n < 2; n += 1) {
      const { headers } = await fetch(`${behind.url}/things/h`)
      assert.equal(headers.get('surrogate-key'), edgeTag('shop/h'))
      assert.equal(headers.get('cache-control'), 'public, no-cache')
      for (const name of ['surrogate-control', 'cdn-cache-control'])
        assert.equal(headers.get(name), 'max-age=3600, stale-while-revalidate=0')
    }
    await behind.stop()
  })

  it('HEAD says the same without a body', async () => {
    const whole = await get('/things/f')
    const head = await fetch(`${app.url}/things/f`, { method: 'HEAD' })
    assert.equal(head.headers.get('etag'), whole.headers.get('etag'))
    assert.equal(await head.text(), '')
  })

  it('show nobody what the first reader brought along', async () => {
    const evil = { 'user-agent': 'evil', 'x-forwarded-host': 'evil.example', cookie: 'theme=evil' }
    const { port } = new URL(app.url)
    const ask = (path: string, headers: Record<string, string> = {}) => askPage(app.url, path, { headers })
    for (const name of ['query', 'url', 'headers', 'cookie']) {
      const first = await ask(`/seen/${name}/%61?evil=%3Cscript%3E&toString=evil&page=2`, evil)
      assert.equal(first.status, 200, name)
      assert.doesNotMatch(first.body, /evil|script/, name)
      assert.equal((await ask(`/seen/${name}/a?page=2`)).body, first.body)
    }
    assert.equal((await ask('/seen/url/%61?x=1&page=2')).body, '/seen/url/a?page=2')
    for (const name of ['host', 'hostname', 'forwarded', 'agent', 'ip', 'id', 'raw', 'through']) {
      const refused = await ask(`/seen/${name}/a`, { ...evil, host: 'evil.example' })
      assert.equal(refused.status, 500, name)
      assert.match(
        refused.body,
        /has a cache, and its handler reads request\.[^ ]+, which is not part of its key/,
        name,
      )
    }
    assert.equal((await ask('/by-host', { host: 'one.example' })).body, 'one.example')
    assert.equal((await ask('/by-host')).body, `127.0.0.1:${port}`)
  })

  it('are texts and values; bytes, streams and nothing are refused', async () => {
    for (const name of ['bytes', 'nothing', 'null', 'stream']) {
      const answer = await get(`/seen/${name}/a`)
      assert.equal(answer.status, 500, name)
      assert.match(await answer.text(), /has a cache, and its handler returns (bytes|nothing|a stream)/, name)
    }
  })

  it('a handler that speaks to its client itself is told so', async () => {
    const answer = await get('/rude')
    assert.equal(answer.status, 500)
    assert.match(await answer.text(), /GET \/rude has a cache, and its handler uses reply\.send/)
  })

  it('who has written carries his position in a cookie that nobody can forge', async () => {
    const written = await fetch(`${app.url}/things/g`, { method: 'POST' })
    const [cookie] = written.headers.getSetCookie()
    assert.match(cookie!, /^rung-position=main[^;]+; Path=\/; Max-Age=60; HttpOnly; SameSite=Lax/)
    assert.deepEqual((await get('/things/g')).headers.getSetCookie(), [])
    const [pair] = cookie!.split(';')
    const forged = pair!.replace(/main%3A[0-9A-F]+/, 'main%3AFFFFFFFF')
    for (const one of [pair!, forged, 'rung-position=%E0%A4%A', 'rung-position=']) {
      assert.equal((await get('/things/g', { cookie: one })).status, 200)
    }
  })
})
