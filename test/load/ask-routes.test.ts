import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { it } from 'node:test'
import { askRoutes } from '../../src/load/ask-routes.ts'
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
