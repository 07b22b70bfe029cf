import type { Readable } from 'node:stream'
import { defineApp, defineModule, html, RungError } from 'rung'
import { Type } from 'typebox'

const Id = Type.Object({ id: Type.String({ maxLength: 100 }) })

/** Takes pictures as they come, gives URLs, and tells about it by mail. */
const album = defineModule({
  name: 'album',
  owner: 'tests',

  routes(http, { data, files, mail }) {
    http.addContentTypeParser(/^image\//, (_request, body, done) => done(null, body))

    http.put('/pictures/:id', { schema: { params: Id } }, async (request, reply) => {
      const options = { sizeMax: '1MiB', types: ['image/*'] } as const
      const { sha256 } = await files.put(`pictures/${request.params.id}`, request.body as Readable, options)
      return reply.status(201).send({ sha256 })
    })

    http.get('/pictures', async () => (await files.list('pictures/')).files)

    http.get('/pictures/:id/url', { schema: { params: Id } }, async (request) => {
      const key = `pictures/${request.params.id}`
      if (!(await files.stat(key))) throw new RungError('HTTP_NOT_FOUND', 'There is no such picture.')
      return { url: files.url(key, { expires: '1h' }) }
    })

    http.post('/upload-url', async () => ({
      url: files.url('inbox/1', { method: 'PUT', expires: '10m', sizeMax: '2GiB' }),
    }))

    const invitation = (name: string) => ({
      subject: `Hello ${name}`,
      text: `Hello ${name}, look at https://example.org`,
      html: html`<p>Hello ${name}, <a href="https://example.org">look</a></p>`,
    })
    http.post('/invite/:id', { schema: { params: Id } }, async (request) => {
      const { id } = request.params
      return mail.send({ ...invitation(id), to: 'bob@example.org', key: `invite/${id}` })
    })
    http.post('/invite-in-transaction', () =>
      data.write(() => mail.send({ ...invitation('x'), to: 'bob@example.org' })),
    )
  },
})

export default defineApp({ name: 'album', modules: [album] })
