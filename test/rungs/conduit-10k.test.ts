import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { noNginx } from '../support/nginx.ts'
import { openScratch, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { conduitClient, expectBody } from './conduit-client.ts'
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

  it('what the edge answers is counted for the author: every reading once, without asking the app for each', async () => {
    const [author, reader] = [visitor(target), visitor(target)]
    const { email, password } = await author.signUp()
    await reader.signUp()
    const path = await author.publish()
    const api = conduitClient(target)
    const { token } = expectBody(await api.post('/users/login', { user: { email, password } })).user
    const article = `/api${path.replace('/article/', '/articles/')}`
    let hits = 0
    const readings = 300
    for (let n = 0; n < readings; n += 10) {
      const answers = await Promise.all(
        Array.from({ length: 10 }, (_, at) => visitor(target).get(at % 3 === 0 ? article : path)),
      )
      for (const { status, headers } of answers) {
        assert.deepEqual([status, headers.get('edge-count')], [200, null])
        if (headers.get('x-cache') === 'HIT') hits += 1
      }
    }
    assert.ok(hits >= readings - 20, `the app was asked for ${readings - hits} of ${readings}`)
    await author.get(path)
    await reader.get(path)
    await api.get(article.replace('/api', ''), token)
    await fetch(baseUrl + path, { method: 'HEAD' })
    await visitor(target).get(path, { 'sec-purpose': 'prefetch' })
    await visitor(target).get(path, { 'if-none-match': '*' })
    const wanted = readings + 2
    const views = () => api.get(`${article.replace('/api', '')}/views`, token)
    await until(async () => {
      const { total } = (expectBody(await views()) as never as { views: { total: number } }).views
      assert.ok(total <= wanted, `${total} of ${wanted}`)
      return total === wanted
    }, `${wanted} views are counted`)
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
