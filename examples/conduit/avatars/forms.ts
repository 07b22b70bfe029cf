import multipart from '@fastify/multipart'
import type { FastifyRequest } from 'fastify'
import { type Http, isRungError, type ModuleContext } from 'rung'
import { bytesMax } from './places.ts'
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
  // One byte more than is taken, so that it is not a cut picture that is looked at.
  http.register(multipart, { limits: { files: 1, fields: 10, fileSize: bytesMax + 1 }, throwFileSizeLimit: false })

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

  async function take(request: FastifyRequest, accountId: number): Promise<Refused | undefined> {
    try {
      const part = await request.file()
      if (part?.fieldname !== 'picture') return 'failed'
      await receive(data, files, accountId, part.file)
      return undefined
    } catch (err) {
      if (isRungError(err, 'FILES_TOO_LARGE')) return 'large'
      if (isRungError(err, 'FILES_TYPE')) return 'other'
      log.warn({ err }, 'a picture was not taken')
      return 'failed'
    } finally {
      request.raw.unpipe().resume() // browsers read no answer before they have sent everything
    }
  }
}
