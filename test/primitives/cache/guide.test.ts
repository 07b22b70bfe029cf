import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, it } from 'node:test'
import { type TestApp, testApp } from '../../../src/testing.ts'
import magazine from '../../support/apps/articles/app.ts'

let app: TestApp
before(async () => {
  app = await testApp(magazine, { env: { LOG_LEVEL: 'error' } })
})
after(() => app?.stop())

const root = new URL('../../../', import.meta.url)
const text = (file: string) => readFileSync(new URL(file, root), 'utf8')

it('the guide shows the app that is tested here', () => {
  const shown = /```ts\n([\s\S]*?)```/.exec(text('docs/guides/caching.md'))![1]
  assert.equal(shown, text('test/support/apps/articles/app.ts'))
})

it('what is written is seen by the next request, also what was absent', async () => {
  const get = (path: string) => app.request(path)
  assert.equal((await get('/articles/one')).status, 404)
  assert.deepEqual((await get('/titles')).body, [])
  for (const title of ['First', 'Second']) {
    await app.request('/articles/one', { method: 'PUT', json: { title }, expect: 200 })
    const { body } = await get('/articles/one')
    assert.deepEqual(body, { ...body, slug: 'one', title, tags: [] })
    assert.deepEqual((await get('/titles')).body, [{ slug: 'one', title }])
  }
})
