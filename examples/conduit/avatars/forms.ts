import { Readable } from 'node:stream'
import type { FastifyRequest } from 'fastify'
import { type Http, isRungError, type ModuleContext } from 'rung'
import { boundaryOf, fileIn } from './form-file.ts'
import { receive } from './uploads.ts'

/** Why a picture was not taken: a word in the address of the page that tells it. */
export type Refused = 'large' | 'other' | 'failed'

/**
 * The picture from a form of the pages. It is taken here and not there: it goes from the socket into the file as it comes, and between
 * modules there are values only. Who sent it is led back to the form, which says what became of it.
 */
export function takeForms(
  http: Http,
  { data, files, sessions, log }: Pick<ModuleContext, 'data' | 'files' | 'sessions' | 'log'>,
): void {
  const senders = new WeakMap<FastifyRequest, number>()
  http.addContentTypeParser('multipart/form-data', (_request, body, done) => done(null, body))

  http.post(
    '/settings/picture',
    {
      schema: { hide: true },
      // Before anything of the body is taken.
      async onRequest(request, reply) {
        const session = await sessions.of(request)
        if (!session) return reply.redirect('/login?to=/settings', 303)
        senders.set(request, Number(session.principal))
      },
    },
    async (request, reply) => {
      const refused = await take(request, senders.get(request)!)
      return reply.redirect(refused ? `/settings?picture=${refused}#own-picture` : '/settings#own-picture', 303)
    },
  )

  async function take({ body, headers }: FastifyRequest, accountId: number): Promise<Refused | undefined> {
    const boundary = boundaryOf(headers['content-type'])
    if (!(body instanceof Readable) || boundary === undefined) return 'failed'
    try {
      const form: AsyncIterable<Uint8Array> = body.iterator({ destroyOnReturn: false })
      await receive(data, files, accountId, fileIn(form, boundary, 'picture'))
      return undefined
    } catch (err) {
      if (isRungError(err, 'FILES_TOO_LARGE')) return 'large'
      if (isRungError(err, 'FILES_TYPE')) return 'other'
      log.warn({ err }, 'a picture was not taken')
      return 'failed'
    } finally {
      body?.resume() // browsers read no answer before they have sent everything
    }
  }
}
