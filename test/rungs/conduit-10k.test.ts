import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { noNginx } from '../support/nginx.ts'
import { openScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
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
