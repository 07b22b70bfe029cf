import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { nginxConfig, nginxDefaults } from '../../src/engines/nginx/recipe.ts'
import { sessionCookieNames } from '../../src/kernel/http-facts.ts'

const src = path.resolve(import.meta.dirname, '../../src')
const config = (change: object = {}) =>
  nginxConfig({
    ...nginxDefaults,
    ...{ dir: '/edge', listen: { host: '127.0.0.1', port: 80 }, adminPort: 81, secret: 's', instance: 'i' },
    ...{ upstreams: ['127.0.0.1:82'], modules: [], workers: 1, filesMax: 1_000 },
    ...change,
  })

test('the name of the session cookie stands in one file, and the page cache knows each of them', () => {
  const holders = globSync('**/*.ts', { cwd: src }).filter((file) =>
    readFileSync(path.join(src, file), 'utf8').includes(sessionCookieNames.secure),
  )
  assert.deepEqual(holders, ['kernel/http-facts.ts'])
  for (const name of Object.values(sessionCookieNames)) assert.ok(config().includes(name), name)
})

test('the page cache waits for as long as a request of the app may take, also at its stop', () => {
  const text = config({ requestTimeoutMs: 120_000 })
  assert.match(text, /worker_shutdown_timeout 120000ms;/)
  for (const [, ms] of text.matchAll(/proxy_(?:read|send)_timeout (\d+)ms/g)) assert.ok(Number(ms) > 120_000, ms)
})
