import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, it } from 'node:test'
import type { Running } from '../../../src/runtime/boot.ts'
import { bootForTest } from '../../support/app.ts'
import magazine from '../../support/apps/articles/app.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'

let postgres: TestPostgres
let running: Running
before(async () => {
  postgres = await testPostgres()
  running = await bootForTest(magazine, postgres, {}, [], { LOG_LEVEL: 'error' })
})
after(async () => {
  await running?.stop()
  await postgres.stop()
})

const root = new URL('../../../', import.meta.url)
const text = (file: string) => readFileSync(new URL(file, root), 'utf8')

it('the guide shows the app that is tested here', () => {
  const shown = /```ts\n([\s\S]*?)```/.exec(text('docs/guides/caching.md'))![1]
  assert.equal(shown, text('test/support/apps/articles/app.ts'))
})

it('what is written is seen by the next request, also what was absent', async () => {
  const get = async (path: string) => {
    const response = await fetch(running.url + path)
    return { status: response.status, body: await response.json() }
  }
  const put = (title: string) =>
    fetch(`${running.url}/articles/one`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ title }),
    })
  assert.equal((await get('/articles/one')).status, 404)
  assert.deepEqual((await get('/titles')).body, [])
  for (const title of ['First', 'Second']) {
    assert.equal((await put(title)).status, 200)
    const { body } = await get('/articles/one')
    assert.deepEqual(body, { ...(body as object), slug: 'one', title, tags: [] })
    assert.deepEqual((await get('/titles')).body, [{ slug: 'one', title }])
  }
})
