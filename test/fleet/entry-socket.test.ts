import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { describe, it } from 'node:test'
import Fastify from 'fastify'
import { openEntrySocket } from '../../src/fleet/entry-socket.ts'
import { sharedEntry } from '../../src/primitives/http/entry.ts'
import { freePort } from '../support/ports.ts'

const host = '127.0.0.1'

describe('the socket of the public port', () => {
  it('is refused where somebody listens', async () => {
    const other = createServer().listen(0, host)
    await once(other, 'listening')
    try {
      const { port } = other.address() as AddressInfo
      await assert.rejects(openEntrySocket(host, port), { code: 'PORT_IN_USE' })
    } finally {
      other.close()
    }
  })

  it('serves at the port that was asked for, and a second one on it does not', async () => {
    const port = await freePort()
    // Each entry closes its socket itself, here in the same process.
    const [first, second] = [await openEntrySocket(host, port), await openEntrySocket(host, port)]
    const [app, late] = [Fastify(), Fastify()]
    app.get('/', async () => 'first')
    const entry = sharedEntry(app, first.fd)
    const lateEntry = sharedEntry(late, second.fd)
    await app.listen({ host, port: 0 })
    await entry.open()
    try {
      await assert.rejects(lateEntry.open(), { code: 'PORT_IN_USE' })
      assert.equal(await (await fetch(`http://${host}:${port}/`)).text(), 'first')
    } finally {
      await Promise.all([app.close(), late.close()])
    }
  })
})
