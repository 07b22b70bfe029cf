import { Readable } from 'node:stream'
import { cron, defineModule, handle, isRungError } from 'rung'
import { Type } from 'typebox'
import { refuse } from '../errors.ts'
import { identityCalls } from '../identity/contract.ts'
import { Envelope, Errors, failures } from '../schemas.ts'
import { onlySignedIn, signedIn } from '../viewer.ts'
import { Avatar, avatarCalls } from './contract.ts'
import { takeForms } from './forms.ts'
import { keyIn } from './places.ts'
import { avatarOf, makeSizes, receive, removeAvatar, resize, sweep, sweepUploads, tidy, tidyUp } from './uploads.ts'

const One = Envelope('avatar', Avatar)
const picture = { schema: Type.Unsafe<unknown>({}) }
const Picture = { content: { 'image/png': picture, 'image/jpeg': picture, 'image/webp': picture } }

/** Pictures of accounts: taken, made into squares of three sizes, served. */
export const avatars = defineModule({
  name: 'avatars',
  owner: 'accounts',
  migrations: new URL('./migrations/', import.meta.url),
  uses: { identity: identityCalls },

  exposes: avatarCalls,
  calls: ({ data }) => ({
    of: ({ accountId }) => avatarOf(data, accountId),
    remove: async ({ accountId }) => {
      await removeAvatar(data, accountId)
      return null
    },
  }),

  work: ({ data, files }) => [
    handle(resize, (input, run) => makeSizes(data, files, input, run)),
    handle(tidy, (input, run) => tidyUp(data, files, input, run)),
    cron('23 * * * *', sweep, {}),
    handle(sweep, () => sweepUploads(data)),
  ],

  routes(http, context) {
    const { data, files, calls } = context
    takeForms(http, context)
    const who = calls.identity
    const tags = ['Avatar']
    const security = [{ token: [] }]
    const refusals = { 401: Errors, ...failures }
    // Before anything of the body is taken.
    const onRequest = onlySignedIn(who)
    http.addContentTypeParser(/^image\//, (_request, body, done) => done(null, body))

    http.get(
      '/api/user/avatar',
      { schema: { operationId: 'GetAvatar', tags, security, response: { 200: One, ...refusals } }, onRequest },
      async (request) => ({ avatar: await avatarOf(data, await signedIn(request, who)) }),
    )

    http.put(
      '/api/user/avatar',
      {
        schema: {
          operationId: 'UpdateAvatar',
          tags,
          security,
          body: Picture,
          response: { 202: One, 409: Errors, ...refusals },
        },
        onRequest,
      },
      async (request, reply) => {
        const accountId = await signedIn(request, who)
        const body: unknown = request.body
        if (!(body instanceof Readable)) throw refuse('HTTP_MEDIA_TYPE', 'body', 'is no picture')
        await receive(data, files, accountId, body)
        return reply.status(202).send({ avatar: await avatarOf(data, accountId) })
      },
    )

    http.delete(
      '/api/user/avatar',
      {
        schema: { operationId: 'DeleteAvatar', tags, security, response: { 204: Type.Null(), ...refusals } },
        onRequest,
      },
      async (request, reply) => {
        await removeAvatar(data, await signedIn(request, who))
        return reply.status(204).send(null)
      },
    )

    http.get(
      '/api/avatars/:name/:file',
      {
        schema: {
          operationId: 'GetAvatarImage',
          tags,
          params: Type.Object({ name: Type.String(), file: Type.String() }),
          response: { 200: { content: { 'image/webp': picture } }, 404: Errors, ...failures },
        },
      },
      async (request, reply) => {
        const asked = keyIn(request.params.name, request.params.file)
        if (!asked) throw missing()
        const found = await files.get(asked.key).catch(ifMissing)
        if (!found?.metadata.original?.startsWith(asked.digest)) {
          found?.body.destroy()
          throw missing()
        }
        return reply
          .headers({
            'content-type': 'image/webp',
            'content-length': found.size,
            'cache-control': 'public, max-age=31536000, immutable',
            etag: `"${found.sha256}"`,
          })
          .send(found.body)
      },
    )
  },
})

const missing = () => refuse('HTTP_NOT_FOUND', 'avatar', 'not found')

function ifMissing(error: unknown): undefined {
  if (!isRungError(error, 'FILES_NOT_FOUND')) throw error
}
