import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Type } from 'typebox'
import { defineApp, defineModule, html } from '../../../src/index.ts'
import { countsPath } from '../../../src/primitives/cache/counted.ts'
import { askItself } from '../../../src/primitives/http/own-request.ts'
import type { Running } from '../../../src/runtime/boot.ts'
import { bootForTest } from '../../support/app.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

const secret = 'a word of the tests'
const edge = { RUNG_EDGE_URL: 'http://127.0.0.1:9', RUNG_EDGE_SECRET: secret }
const Name = { schema: { params: Type.Object({ name: Type.String() }) } }

/** Shop and its shelf: what pages of one show counts for the other too. */
function shop() {
  const sums = new Map<string, number>()
  const refusing = new Set<string>()
  const adding = (module: string) => async (counted: readonly { name: string; n: number }[], tx: unknown) => {
    assert.equal(typeof tx, 'function')
    if (refusing.delete(module)) throw new Error('not now')
    for (const { name, n } of counted) sums.set(`${module}/${name}`, (sums.get(`${module}/${name}`) ?? 0) + n)
  }
  const shelf = defineModule({ name: 'shelf', owner: 'tests', counted: () => adding('shelf') })
  const pages = defineModule({
    name: 'pages',
    owner: 'tests',
    uses: { shelf },
    counted: () => adding('pages'),
    routes(http) {
      const cache = { ttl: '1h', tags: [] } as const
      http.get(
        '/things/:name',
        {
          ...Name,
          config: {
            cache: { ...cache, counts: ({ params, headers }) => (headers['x-mine'] ? undefined : params.name) },
          },
        },
        async ({ params }) => params,
      )
      http.get(
        '/shelf/:name',
        { ...Name, config: { cache: { ...cache, counts: async ({ params }) => `@shelf/${params.name}` } } },
        async ({ params }) => html`<p>${params.name}</p>`,
      )
      http.get('/wrong', { config: { cache: { ...cache, counts: () => 'two words' } } }, async () => 'x')
      http.get('/not-counted', { config: { cache } }, async () => 'x')
    },
  })
  return {
    app: defineApp({ name: 'shop', modules: [shelf, pages] }),
    sums,
    /** The next time. */
    refuse: (module: string) => refusing.add(module),
  }
}

describe('answers that are counted', () => {
  let postgres: TestPostgres
  const running: Running[] = []
  before(async () => {
    postgres = await testPostgres()
  })
  after(async () => {
    for (const one of running) await one.stop()
    await postgres.stop()
  })
  async function start(app: ReturnType<typeof shop>['app'], settings: Record<string, string> = {}) {
    const one = await bootForTest(app, postgres, { mode: 'development' }, [], settings)
    running.push(one)
    const get = async (path: string, headers: Record<string, string> = {}, method = 'GET') => {
      const answer = await fetch(one.url + path, { headers, method })
      await answer.text()
      return answer
    }
    return { ...one, get }
  }
  const told = (sums: Map<string, number>, wanted: Record<string, number>) =>
    until(() => Object.entries(wanted).every(([name, n]) => sums.get(name) === n), JSON.stringify(wanted))

  it('are, each time that somebody reads them, from wherever', async () => {
    const { app, sums } = shop()
    const { get, http, stop } = await start(app)
    const { headers } = await get('/things/a')
    await get('/things/a')
    assert.equal((await get('/things/a', { 'if-none-match': headers.get('etag')! })).status, 304)
    await get('/things/a', { authorization: 'Token x' })
    await get('/things/a', { authorization: 'Token x', 'x-mine': '1' })
    await get('/things/a', {}, 'HEAD')
    await get('/things/a', { 'sec-purpose': 'prefetch' })
    await get('/things/a', { 'sec-purpose': 'prefetch;prerender' })
    await askItself(http, '/things/a')
    await get('/not-counted')
    for (let n = 0; n < 5; n += 1) assert.equal((await get('/shelf/b')).headers.get('edge-count'), null)
    await told(sums, { 'pages/a': 4, 'shelf/b': 5 })
    await get('/shelf/c')
    await stop()
    assert.deepEqual(Object.fromEntries(sums), { 'pages/a': 4, 'shelf/b': 5, 'shelf/c': 1 })
  })

  it('are where no answer is kept at all', async () => {
    const { app, sums } = shop()
    const one = await bootForTest(app, postgres, { mode: 'development', cache: 'off' })
    running.push(one)
    for (let n = 0; n < 3; n += 1) await (await fetch(`${one.url}/shelf/a`)).text()
    await told(sums, { 'shelf/a': 3 })
  })

  it('are tried again when they could not be written', async () => {
    const { app, sums, refuse } = shop()
    const { get } = await start(app)
    refuse('pages')
    await get('/things/a')
    await get('/shelf/b')
    await told(sums, { 'pages/a': 1, 'shelf/b': 1 })
  })

  it('have names that can be sent', async () => {
    const { app } = shop()
    const { get } = await start(app)
    assert.equal((await get('/wrong')).status, 500)
  })

  it('are the edge’s to count where it asks, and the app’s where somebody else does', async () => {
    const { app, sums } = shop()
    const { get } = await start(app, edge)
    const through = { 'x-rung-purges': 'one.0.0' }
    for (let n = 0; n < 3; n += 1) {
      assert.equal((await get('/things/a', through)).headers.get('edge-count'), 'pages/a')
      assert.equal((await get('/shelf/b', through)).headers.get('edge-count'), 'shelf/b')
      assert.equal((await get('/shelf/b', { ...through, authorization: 'x' })).headers.get('edge-count'), null)
      assert.equal((await get('/not-counted', through)).headers.get('edge-count'), null)
    }
    await get('/shelf/c')
    await told(sums, { 'shelf/b': 3, 'shelf/c': 1 })
    assert.equal(sums.get('pages/a'), undefined)
  })

  it('come from the edge in batches, each of which counts once, whoever gets it', async () => {
    const { app, sums, refuse } = shop()
    const one = await start(app, edge)
    const other = await start(app, { ...edge, DATABASE_URL: one.server.connection.url! })
    const send = (to: { url: string }, id: string, body: string, authorization = `Bearer ${secret}`) =>
      fetch(to.url + countsPath, {
        method: 'POST',
        headers: { authorization, 'idempotency-key': id, 'content-type': 'text/plain' },
        body,
      }).then(({ status }) => status)
    const batch = '2 pages/a\n3 shelf/b\n1 gone/c\nwhat is this'
    assert.equal(await send(one, '1', batch, 'Bearer wrong'), 401)
    assert.equal(await send(one, '1', batch, ''), 401)
    assert.deepEqual([...sums], [])
    assert.equal(await send(one, '1', batch), 204)
    for (const to of [one, other, one]) assert.equal(await send(to, '1', batch), 204)
    assert.deepEqual(Object.fromEntries(sums), { 'pages/a': 2, 'shelf/b': 3 })
    // The second module refuses: the first does not count twice.
    refuse('shelf')
    assert.equal(await send(one, '3', batch), 500)
    assert.deepEqual(Object.fromEntries(sums), { 'pages/a': 4, 'shelf/b': 3 })
    assert.equal(await send(other, '3', batch), 204)
    assert.deepEqual(Object.fromEntries(sums), { 'pages/a': 4, 'shelf/b': 6 })
    const answers = await Promise.all(Array.from({ length: 10 }, (_, n) => send(n % 2 ? one : other, '4', batch)))
    assert.ok(
      answers.every((status) => status === 204 || status === 409),
      String(answers),
    )
    assert.deepEqual(Object.fromEntries(sums), { 'pages/a': 6, 'shelf/b': 9 })
  })

  it('are nobody’s to send where there is no edge', async () => {
    const { app } = shop()
    const { url } = await start(app)
    const answer = await fetch(url + countsPath, { method: 'POST', headers: { authorization: 'Bearer undefined' } })
    assert.equal(answer.status, 404)
  })
})
