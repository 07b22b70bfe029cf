import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defineApp, defineModule } from 'rung'
import { testApp } from 'rung/testing'

const alone = defineModule({
  name: 'alone',
  owner: 'everybody',
  routes: (http) => void http.get('/', async () => ({ ok: true })),
})

test('an app that only its test has', async () => {
  const app = await testApp(defineApp({ name: 'alone', modules: [alone] }))
  assert.deepEqual((await app.request('/', { expect: 200 })).body, { ok: true })
  await app.stop()
})
