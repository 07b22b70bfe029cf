import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { isRungError } from '../../src/kernel/errors.ts'
import { keysOf } from '../../src/kernel/keys.ts'
import { createFiles, type Files, type FilesRoot } from '../../src/primitives/files/files.ts'
import { serveFiles } from '../../src/primitives/files/serve.ts'
import { until } from '../support/process.ts'
import type { OpenStore } from './files.ts'

/** What uploads of clients keep on every adapter: the same calls, wherever the URL leads. */
export function uploadsContract(name: string, open: () => Promise<OpenStore>, skip: string | false = false): void {
  describe(`uploads of clients: ${name}`, { skip }, () => {
    let opened: OpenStore
    let root: FilesRoot
    let files: Files
    let server: FastifyInstance
    let address: string
    let now = Date.now()
    before(async () => {
      opened = await open()
      root = createFiles(opened.store, keysOf(new Uint8Array(32)), { now: () => now, ticks: () => now })
      files = root.forModule('m')
      server = Fastify()
      await server.register(serveFiles(root))
      address = await server.listen({ host: '127.0.0.1', port: 0 })
    })
    after(async () => {
      await server?.close()
      await opened?.close()
    })

    const send = async (url: string, body: Uint8Array | string) => {
      const answer = await fetch(new URL(url, address), {
        method: 'PUT',
        body: body as NonNullable<RequestInit['body']>,
      })
      await answer.text()
      return answer.status
    }
    const uploads = async () => (await opened.store.list('.uploads/', undefined, 1000)).files.length
    const fails = (accepting: Promise<unknown>, code: Parameters<typeof isRungError>[1]) =>
      assert.rejects(accepting, (error) => isRungError(error, code))

    it('are files once they are accepted, and not before', async () => {
      const bytes = randomBytes(300_000)
      const { url, ticket } = files.upload('film', { size: bytes.length, expires: '1h' })
      await fails(files.accept(ticket), 'FILES_NOT_FOUND')
      assert.ok([200, 204].includes(await send(url, bytes)))
      assert.equal(await files.stat('film'), undefined)
      assert.deepEqual((await files.list()).files, [])
      const info = await files.accept(ticket, { metadata: { by: 'Ann' } })
      assert.deepEqual(
        [info.key, info.size, info.sha256, info.metadata],
        ['film', bytes.length, createHash('sha256').update(bytes).digest('hex'), { by: 'Ann' }],
      )
      const { body } = await files.get('film')
      assert.ok(bytes.equals(Buffer.concat(await body.toArray())))
      assert.equal(await uploads(), 0)
      await fails(files.accept(ticket), 'FILES_NOT_FOUND')
    })

    it('have exactly the size that was said', async () => {
      const { url, ticket } = files.upload('sized', { size: 10, expires: '1h' })
      assert.ok((await send(url, '12345678901')) >= 400)
      await fails(files.accept(ticket), 'FILES_NOT_FOUND')
      await send(url, '123') // a store refuses it at once; a path of the app takes what is smaller
      await assert.rejects(files.accept(ticket))
      assert.equal(await files.stat('sized'), undefined)
      await send(url, '1234567890')
      assert.equal((await files.accept(ticket)).size, 10)
    })

    it('have the type and the digest that were asked for, and replace nothing where they must not', async () => {
      await files.put('taken', 'before')
      for (const [options, code] of [
        [{ types: ['image/png'] }, 'FILES_TYPE'],
        [{ sha256: '0'.repeat(64) }, 'FILES_CHECKSUM'],
        [{ ifAbsent: true }, 'FILES_EXISTS'],
      ] as const) {
        const { url, ticket } = files.upload('taken', { size: 5, expires: '1h', ...options })
        await send(url, '12345')
        await fails(files.accept(ticket), code)
        assert.equal((await files.stat('taken'))?.size, 6)
      }
    })

    it('are accepted by the module that began them, for a day, and nothing is left after two', async () => {
      const { url, ticket } = files.upload('late', { size: 5, expires: '1h' })
      await send(url, '12345')
      await fails(root.forModule('other').accept(ticket), 'FILES_URL_INVALID')
      for (const forged of ['', 'x', `${ticket}x`, `x${ticket}`, `${ticket}.x`])
        await fails(files.accept(forged), 'FILES_URL_INVALID')
      now += 26 * 3_600_000
      await fails(files.accept(ticket), 'FILES_URL_INVALID')
      now += 26 * 3_600_000
      files.upload('another', { size: 5, expires: '1h' })
      await until(async () => (await uploads()) === 0, 'uploads that nobody accepted are gone')
      now = Date.now()
    })

    it('are refused for longer than a day, and without a size', () => {
      for (const wrong of [
        { size: 5, expires: '25h' },
        { size: -1, expires: '1h' },
        { size: 0.5, expires: '1h' },
      ] as const)
        assert.throws(
          () => files.upload('x', wrong),
          (error) => isRungError(error, 'FILES_OPTION_INVALID'),
        )
    })
  })
}
