import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { it } from 'node:test'
import { askRoutes } from '../../src/load/ask-routes.ts'
import { draftScenario, type OpenApi } from '../../src/load/draft.ts'
import { documentPath } from '../../src/primitives/http/openapi.ts'

it('routes that can be asked are, and one that streams or breaks is left out', async () => {
  const paths = { '/notes': { get: {} }, '/events': { get: {} }, '/broken': { get: {} } }
  const server = createServer(({ url }, response) => {
    if (url === '/broken') return void response.destroy()
    if (url === '/events') return void response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(url === documentPath ? { paths } : [{ id: 7 }]))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  try {
    const { probes } = await askRoutes(url)
    assert.deepEqual(probes, [{ path: '/notes', status: 200, body: [{ id: 7 }] }])
  } finally {
    server.closeAllConnections()
    server.close()
  }
  await assert.rejects(askRoutes(url), { code: 'LOAD_INVALID', message: /does not answer/ })
})

it('a draft types what it reads as it is, and looks at the status first', () => {
  const document: OpenApi = { paths: { '/things': { get: {} }, '/things/{id}': { get: {} } } }
  const probes = [
    { path: '/things', status: 200, body: [{ id: 1 }] },
    { path: '/things/{id}', status: 200 },
  ]
  const text = draftScenario(document, probes, 'http://127.0.0.1:3000')
  assert.match(text, /answer0\.json<\{ id: number \}\[\]>\(\)/)
  assert.ok(text.indexOf('visitor.check(answer0.status === 200') < text.indexOf('answer0.json'))
})
