import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { defineApp, defineModule } from 'rung'

/** Signs URLs for whoever asks; Rung does the rest. The same by hand, with the same hash and the same fsync, is the floor. */
const store = defineModule({
  name: 'store',
  owner: 'bench',
  routes(http, { files }) {
    http.get('/urls', async () => ({
      own: {
        put: files.url('large', { method: 'PUT', expires: '1h', sizeMax: '2GiB' }),
        get: files.url('large', { expires: '1h' }),
      },
      floor: { put: '/floor', get: '/floor' },
    }))

    const file = path.join(process.env.RUNG_DATA!, 'floor')
    http.addContentTypeParser('*', (_request, body, done) => done(null, body))
    http.put('/floor', async (request, reply) => {
      const handle = await open(file, 'w')
      const hash = createHash('sha256')
      for await (const chunk of request.body as Readable) {
        hash.update(chunk)
        await handle.write(chunk)
      }
      await handle.sync()
      await handle.close()
      return reply
        .status(204)
        .header('etag', `"${hash.digest('hex')}"`)
        .send()
    })
    http.get('/floor', (_request, reply) => reply.send(createReadStream(file, { highWaterMark: 256 * 1024 })))
  },
})

export default defineApp({ name: 'files-bench', modules: [store], http: { requestTimeout: '10m' } })
