import assert from 'node:assert/strict'
import { request } from 'node:http'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Waterfall } from '../../src/observe/traces/waterfall.ts'
import { noNginx } from '../support/nginx.ts'
import { openScratch, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { browserTests } from './conduit-browser.ts'
import { unique } from './conduit-client.ts'
import { conduitSuite } from './conduit-suite.ts'
import { visitor } from './conduit-visitor.ts'

/** The same code, the same suite; what differs is the word after `rung up`. */
describe('rung 10k', { skip: noRedis || noNginx }, () => {
  const app = fileURLToPath(new URL('../../examples/conduit/app.ts', import.meta.url))
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let baseUrl: string
  before(async () => {
    scratch = await openScratch()
    // Writes and reads of one client go to different processes.
    const up = scratch.launch({ up: '10k', app, args: ['--web', '2'], env: { NODE_ENV: 'test' } })
    baseUrl = (await up.started).url
  })
  after(() => scratch?.end())
  const target = () => ({ baseUrl })
  conduitSuite(target)
  browserTests(target)

  it('what only those who run the app may see is not shown through the edge', async () => {
    for (const path of [
      '/metrics',
      '/readyz',
      '/healthz',
      '/reference',
      '/reference/',
      '/%6detrics',
      '/metrics?x',
      '/-/edge/state',
    ])
      assert.ok([404, 401].includes((await fetch(baseUrl + path)).status), path)
    assert.equal((await fetch(`${baseUrl}/openapi.json`)).status, 200)
  })

  it('a trace leads from the web process that was asked to the worker that ran its job', async () => {
    const username = unique('traced')
    const user = { username, email: `${username}@example.com`, password: 'correct horse' }
    const headers = { 'content-type': 'application/json' }
    const signedUp = await fetch(`${baseUrl}/api/users`, { method: 'POST', headers, body: JSON.stringify({ user }) })
    const { token } = ((await signedUp.json()) as { user: { token: string } }).user
    const traces = async (...args: string[]) => {
      const command = scratch.launch({ command: ['traces', ...args, '--json'], cwd: scratch.dir })
      await command.exited
      return JSON.parse(command.stdout())
    }
    await traces() // from now on all are kept
    const asked = await fetch(`${baseUrl}/api/user/export`, {
      ...{ method: 'POST', headers: { authorization: `Token ${token}` } },
    })
    assert.equal(asked.status, 202)
    const [, id] = asked.headers.get('traceparent')!.split('-')
    const units = await until(async () => {
      const { units = [] } = (await traces(id!)) as Partial<Waterfall>
      return units.some(({ kind, outcome }) => kind === 'job' && outcome === 'done') && units
    }, 'the job has run')
    const [request] = units
    const job = units.find(({ kind }) => kind === 'job')!
    assert.deepEqual([request!.name, request!.outcome], ['POST /api/user/export', '202'])
    assert.match(request!.process, /^web-[12]$/)
    assert.match(job.process, /^worker-1$/)
    assert.equal(job.parentId, request!.spanId)
    assert.ok(request!.statements > 0 && job.statements > 0 && job.atMs >= 0)
    assert.doesNotMatch(JSON.stringify(units), new RegExp(username))
  })

  it('what nginx cannot read is refused in the form of the app', async () => {
    for (const path of ['/%00', '/api/tags%00', '/%zz']) {
      const answer = await fetch(baseUrl + path)
      const { errors } = (await answer.json()) as { errors?: object }
      assert.deepEqual([answer.status, Object.keys(errors ?? {}).length], [400, 1], path)
    }
  })

  it('a kept answer has one Vary, and no header that belonged to its first reader', async () => {
    const first = {
      'accept-encoding': 'gzip, deflate', // as that of fetch: other forms of the page have first readers of their own
      'x-request-id': 'first-reader',
      traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
      origin: 'https://first.example',
    }
    for (const headers of [first, {}]) {
      const { status, rawHeaders } = await raw(`${baseUrl}/api/tags?only=${Math.random()}`, headers)
      assert.equal(status, 200)
      const names = rawHeaders.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase())
      assert.equal(names.filter((name) => name === 'vary').length, 1)
    }
    await raw(`${baseUrl}/api/tags`, first)
    const kept = await fetch(`${baseUrl}/api/tags`)
    assert.equal(kept.headers.get('x-cache'), 'HIT')
    for (const name of ['ratelimit', 'ratelimit-policy', 'traceparent'])
      assert.equal(kept.headers.get(name), null, name)
    assert.doesNotMatch(JSON.stringify([...kept.headers]), /first/)
  })

  it('large bodies are answered 413 in the form of the app, and harm nobody else', async () => {
    const large = Buffer.alloc(3_000_000, ' ')
    for (let round = 0; round < 10; round += 1) {
      const attacks = ['application/json', 'image/png'].map((type) =>
        fetch(`${baseUrl}/api/users/login`, { method: 'POST', headers: { 'content-type': type }, body: large }),
      )
      const others = Array.from({ length: 10 }, (_, n) => fetch(`${baseUrl}/api/articles?offset=${round * 10 + n}`))
      assert.deepEqual([...new Set((await Promise.all(others)).map(({ status }) => status))], [200])
      const [json, other] = await Promise.all(attacks)
      assert.equal(json!.status, 413)
      assert.deepEqual(Object.keys((await json!.json()) as object), ['errors'])
      assert.ok([413, 415, 429].includes(other!.status), String(other!.status))
    }
  })

  it('an article that is made to be slow to render holds nobody up', async () => {
    const author = visitor(target)
    await author.signUp()
    const path = await author.publish({ body: '['.repeat(300_000) })
    const slow = author.get(path)
    const others = Array.from({ length: 50 }, (_, n) => fetch(`${baseUrl}/api/articles?offset=${n}`))
    assert.ok((await Promise.all(others)).every(({ status }) => status === 200))
    assert.match((await slow).text, /class="as-written"/)
  })

  it('pages for the anonymous come from the edge until something in them changes', async () => {
    const author = visitor(target)
    const { username } = await author.signUp()
    const path = await author.publish()
    const cookies = ['', '_ga=GA1.2.3', 'theme=dark; _ga=GA1.2.4']
    for (const page of [path, `/profile/${username}`, '/login']) {
      await visitor(target).get(page)
      for (const cookie of cookies) {
        const { headers } = await visitor(target).get(page, { cookie })
        assert.equal(headers.get('x-cache'), 'HIT', `${page} with ${cookie}`)
        assert.match(headers.get('vary')!, /cookie/i)
      }
      assert.equal((await author.get(page)).headers.get('x-cache'), 'BYPASS')
    }
    await author.send(`${path}/comments`, { body: 'New' })
    const after = await visitor(target).get(path)
    assert.equal(after.headers.get('x-cache'), 'MISS')
    assert.match(after.text, /<p class="lines">New<\/p>/)
    assert.equal(
      (await visitor(target).get(`/profile/${username}`)).headers.get('x-cache'),
      'HIT',
      'it has no comments',
    )
  })
})

function raw(url: string, headers: Record<string, string>): Promise<{ status: number; rawHeaders: string[] }> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { headers, agent: false }, (answer) => {
      answer.resume().on('end', () => resolve({ status: answer.statusCode!, rawHeaders: answer.rawHeaders }))
    })
    sent.on('error', reject).end()
  })
}
