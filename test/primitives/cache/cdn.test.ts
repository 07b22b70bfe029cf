import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { purgeCdn } from '../../../src/engines/cdn/client.ts'
import { connectOnce } from '../../../src/engines/postgres/client.ts'
import { isRungError, RungError } from '../../../src/kernel/errors.ts'
import { CdnPurges } from '../../../src/primitives/cache/cdn.ts'
import { edgeTag } from '../../../src/primitives/cache/edge.ts'
import { readBindings } from '../../../src/topology/bindings.ts'
import type { CdnName } from '../../../src/topology/topology.ts'
import { bootForTest } from '../../support/app.ts'
import magazine from '../../support/apps/articles/app.ts'
import { gate } from '../../support/cache.ts'
import { askPage, noNginx, testPageCache, testUpstream } from '../../support/nginx.ts'
import { type TestPostgres, testPostgres, urlOf } from '../../support/postgres.ts'
import { until, withScratch } from '../../support/process.ts'
import { noRedis } from '../../support/redis.ts'

interface Call {
  path: string
  headers: IncomingHttpHeaders
  body: string
  at: number
}

/** A purge API: takes what comes, and answers as it is told, with 200 in the end. */
async function purgeApi(answers: ((response: ServerResponse) => void)[] = []) {
  const calls: Call[] = []
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    calls.push({ path: `${request.method} ${request.url}`, headers: request.headers, body, at: performance.now() })
    const answer = answers.shift()
    if (answer) answer(response)
    else response.end('{"success":true}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { calls, url, answers, close: () => new Promise((resolve) => server.close(resolve).closeAllConnections()) }
}

const status =
  (code: number, headers: Record<string, string> = {}, body = 'no') =>
  (response: ServerResponse) =>
    void response.writeHead(code, headers).end(body)

const tagsOf = ({ headers, body }: Call): string[] =>
  headers['surrogate-key'] ? String(headers['surrogate-key']).split(' ') : (JSON.parse(body) as { tags: string[] }).tags

describe('the purge API of a CDN', () => {
  let api: Awaited<ReturnType<typeof purgeApi>>
  before(async () => {
    api = await purgeApi()
  })
  after(() => api.close())
  const cdn = (name: CdnName) => ({ name, url: api.url, id: 'the-id', token: 'the-token' })

  it('of Fastly is asked by surrogate keys, 256 at a time', async () => {
    api.calls.length = 0
    const tags = Array.from({ length: 257 }, (_, n) => `t${n}`)
    await purgeCdn(cdn('fastly'), tags)
    assert.deepEqual(
      api.calls.map(({ path, headers }) => [path, headers['fastly-key']]),
      [
        ['POST /service/the-id/purge', 'the-token'],
        ['POST /service/the-id/purge', 'the-token'],
      ],
    )
    assert.deepEqual(api.calls.flatMap(tagsOf), tags)
  })

  it('of Cloudflare is asked by tags, 100 at a time', async () => {
    api.calls.length = 0
    const tags = Array.from({ length: 101 }, (_, n) => `t${n}`)
    await purgeCdn(cdn('cloudflare'), tags)
    assert.deepEqual(
      api.calls.map(({ path, headers }) => [path, headers.authorization, headers['content-type']]),
      Array(2).fill(['POST /zones/the-id/purge_cache', 'Bearer the-token', 'application/json']),
    )
    assert.deepEqual(api.calls.flatMap(tagsOf), tags)
  })

  it('fails with what it said, and when to come again; never with the token', async () => {
    const failure = async (answer: (response: ServerResponse) => void, name: CdnName = 'fastly') => {
      api.answers.push(answer)
      const error = await purgeCdn(cdn(name), ['t']).then(
        () => assert.fail('it was accepted'),
        (thrown) => thrown as RungError,
      )
      assert.ok(isRungError(error, 'CDN_PURGE_FAILED'))
      assert.doesNotMatch(error.message, /the-token/)
      return error
    }
    assert.match((await failure(status(500, {}, 'oh'))).message, /it answered 500 oh/)
    assert.match((await failure(status(403))).message, /RUNG_CDN_TOKEN/)
    assert.match((await failure(status(200, {}, '{ "success": false }'), 'cloudflare')).message, /success/)
    assert.equal((await failure(status(429, { 'retry-after': '17' }))).facts.retryAfterS, 17)
    const date = new Date(Date.now() + 60_000).toUTCString()
    const { retryAfterS } = (await failure(status(429, { 'retry-after': date }))).facts
    assert.ok(Number(retryAfterS) > 50 && Number(retryAfterS) <= 60)
    assert.deepEqual((await failure(status(429, { 'retry-after': 'soon' }))).facts, {})
    api.calls.length = 0
    await failure(status(307, { location: `${api.url}/elsewhere` }))
    assert.equal(api.calls.length, 1, 'nobody else gets the token')
    await failure((response) => void response.destroy())
  })
})

describe('purges of a CDN by one process', () => {
  it('go together where they come while a call is under way', async () => {
    const { open, opened } = gate()
    const calls: (readonly string[])[] = []
    const purges = new CdnPurges(async (tags) => {
      calls.push(tags)
      await opened
    })
    const first = [purges.purge(['a']), purges.purge(['b', 'a'])]
    await until(() => calls.length === 1, 'the first is under way')
    const rest = [purges.purge(['c']), purges.purge(['a'])]
    open()
    await Promise.all([...first, ...rest])
    assert.deepEqual(calls, [
      ['a', 'b'],
      ['c', 'a'],
    ])
  })

  it('fail without a call until the time that the CDN has named', async () => {
    let now = 0
    let calls = 0
    const facts = { retryAfterS: 30 }
    const purges = new CdnPurges(
      async () => {
        calls += 1
        if (calls === 1) throw new RungError('CDN_PURGE_FAILED', 'Too many.', { facts })
      },
      { now: () => now, ticks: () => now },
    )
    const fails = { code: 'CDN_PURGE_FAILED' }
    await assert.rejects(purges.purge(['a']), fails)
    now = 29_999
    await assert.rejects(purges.purge(['a']), fails)
    assert.equal(calls, 1)
    now = 30_000
    await purges.purge(['a'])
    assert.equal(calls, 2)
  })
})

describe('behind a CDN', () => {
  let postgres: TestPostgres
  before(async () => {
    postgres = await testPostgres()
  })
  after(() => postgres.stop())

  const settings = (url: string, name: CdnName) => ({
    RUNG_CDN: name,
    RUNG_CDN_ID: 'the-id',
    RUNG_CDN_TOKEN: 'the-token',
    RUNG_CDN_URL: url,
  })
  async function put(url: string, slug: string): Promise<number> {
    const [method, headers] = ['PUT', { 'content-type': 'application/json' }]
    const response = await fetch(`${url}/articles/${slug}`, { method, headers, body: JSON.stringify({ title: 't' }) })
    assert.equal(response.status, 200)
    return ((await response.json()) as { id: number }).id
  }
  const changed = (id: number) => [`article:${id}`, 'new-article', 'titles'].map((tag) => edgeTag(`articles/${tag}`))

  for (const [name, header, separator] of [
    ['fastly', 'surrogate-key', ' '],
    ['cloudflare', 'cache-tag', ','],
  ] as const) {
    it(`${name}: answers say what they depend on, and who changes that has it purged, twice`, async () => {
      const api = await purgeApi([status(500), status(429, { 'retry-after': '1' })])
      const connection = await postgres.createDatabase()
      const app = await bootForTest(magazine, postgres, {}, [], {
        ...settings(api.url, name),
        DATABASE_URL: urlOf(connection),
      })
      const client = await connectOnce(connection)
      try {
        const page = await fetch(`${app.url}/titles`)
        assert.equal(page.headers.get('cache-control'), 'public, no-cache')
        assert.equal(page.headers.get('cdn-cache-control'), 'max-age=60, stale-while-revalidate=600')
        assert.deepEqual(page.headers.get(header)!.split(separator), [edgeTag('articles/titles')])
        const id = await put(app.url, 'a')
        await until(() => api.calls.length >= 3, 'it was purged in the end')
        for (const call of api.calls) assert.deepEqual(tagsOf(call).toSorted(), changed(id).toSorted())
        assert.ok(api.calls[2]!.at - api.calls[1]!.at >= 1_000, 'not before the CDN allows it')
        const left = async () =>
          (await client.query(`select failures from rung.job where queue = 'rung.purge-cdn'`)).rows
        const [again] = await until(async () => (await left()).length === 1 && left(), 'one of two is done')
        assert.equal(again.failures, 0, 'again when all old answers have ended')
      } finally {
        await client.end()
        await app.stop()
        await api.close()
      }
    })
  }

  it('one that dies after the commit has left the purge to the next', () =>
    withScratch(async (scratch) => {
      const api = await purgeApi()
      try {
        const app = fileURLToPath(new URL('../../support/apps/articles/app.ts', import.meta.url))
        const env = settings(api.url, 'fastly')
        const one = await scratch.start({ app, env, args: ['--role', 'web'] })
        const id = await put(one.url, 'a')
        await one.kill()
        assert.equal(api.calls.length, 0)
        const next = await scratch.start({ app, env })
        await until(() => api.calls.length > 0, 'the next one purges')
        assert.deepEqual(tagsOf(api.calls[0]!).toSorted(), changed(id).toSorted())
        await next.stop()
      } finally {
        await api.close()
      }
    }))

  it('the page cache hands on what a page depends on, and nowhere else', { skip: noNginx }, async () => {
    const upstream = await testUpstream((_request, response) => {
      response.setHeader('cache-control', 'public, s-maxage=60')
      response.setHeader('cache-tag', 'a,b')
      response.end('page')
    })
    for (const tagsShown of [true, false]) {
      const pages = await testPageCache([upstream.address], { tagsShown })
      for (const expected of ['MISS', 'HIT']) {
        const { headers } = await askPage(pages.server.url, '/page')
        assert.deepEqual([headers['x-cache'], headers['cache-tag']], [expected, tagsShown ? 'a,b' : undefined])
      }
      await pages.stop()
    }
    await upstream.close()
  })

  it(
    'that the topology names is purged by the app of rung up, and from another terminal',
    {
      skip: noRedis || noNginx,
    },
    () =>
      withScratch(async ({ dir, launch }) => {
        const api = await purgeApi()
        try {
          const app = fileURLToPath(new URL('../../support/apps/articles/app.ts', import.meta.url))
          const cdn = { name: 'fastly', id: 'the-id', url: api.url }
          await writeFile(path.join(dir, 'rung.config.ts'), `export default ${JSON.stringify({ cdn })}\n`)
          const env = { RUNG_CDN_TOKEN: 'the-token' }
          const up = launch({ up: '10k', app, env })
          const { url } = await up.started
          const page = await fetch(`${url}/titles`)
          assert.equal(page.headers.get('surrogate-key'), edgeTag('articles/titles'))
          const id = await put(url, 'a')
          await until(() => api.calls.length > 0, 'the write is purged')
          assert.deepEqual(tagsOf(api.calls[0]!).toSorted(), changed(id).toSorted())
          assert.equal(api.calls[0]!.path, 'POST /service/the-id/purge')
          assert.equal(api.calls[0]!.headers['fastly-key'], 'the-token')
          const before = api.calls.length
          await launch({ command: ['cache', 'invalidate', 'articles', 'elsewhere'], env }).exited
          await until(() => api.calls.length > before, 'what another terminal says, too')
          assert.deepEqual(tagsOf(api.calls[before]!), [edgeTag('articles/elsewhere')])
          assert.ok(![up.stdout(), up.stderr()].some((text) => text.includes('the-token')))
          await up.stop()
          const off = await launch({ up: '1k', app, env: { RUNG_CDN: 'off' } }).started
          assert.equal((await fetch(`${off.url}/titles`)).headers.get('surrogate-key'), null)
        } finally {
          await api.close()
        }
      }),
  )

  it('is configured as a whole or not at all', () => {
    const whole = settings('https://api.example.org/v4', 'cloudflare')
    assert.deepEqual(readBindings(whole, '/').cdn, {
      name: 'cloudflare',
      url: 'https://api.example.org/v4',
      id: 'the-id',
      token: 'the-token',
    })
    for (const none of [{}, { RUNG_CDN_TOKEN: 'x' }, { ...whole, RUNG_CDN: 'off' }])
      assert.equal(readBindings(none, '/').cdn, undefined)
    for (const [change, about] of [
      [{ RUNG_CDN: 'akamai' }, /RUNG_CDN is "akamai"; it must be one of fastly, cloudflare/],
      [{ RUNG_CDN: '' }, /A CDN needs its name\. Set cdn\.name in rung\.config\.ts, or RUNG_CDN\./],
      [{ RUNG_CDN_ID: '' }, /A CDN needs the id .* or RUNG_CDN_ID/],
      [{ RUNG_CDN_ID: 'a/b' }, /RUNG_CDN_ID is "a\/b"; it must be the id/],
      [{ RUNG_CDN_TOKEN: 'with a blank' }, /RUNG_CDN_TOKEN must be a token/],
      [{ RUNG_CDN_TOKEN: '' }, /A CDN needs RUNG_CDN_TOKEN/],
      [{ RUNG_CDN_URL: 'api.example.org' }, /RUNG_CDN_URL is/],
      [{ RUNG_CDN_URL: 'https://api.example.org/' }, /without a slash/],
    ] as const) {
      assert.throws(
        () => readBindings({ ...whole, ...change }, '/'),
        (error) => {
          assert.ok(isRungError(error, 'CONFIG_INVALID'))
          assert.match(error.message, about)
          assert.doesNotMatch(error.message, /the-token|with a blank/)
          return true
        },
      )
    }
  })
})
