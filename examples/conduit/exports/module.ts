import { cron, defineModule, handle } from 'rung'
import { Type } from 'typebox'
import { articleCalls } from '../articles/contract.ts'
import { commentCalls } from '../comments/contract.ts'
import { identityCalls } from '../identity/contract.ts'
import { Envelope, Errors, failures, NullableText } from '../schemas.ts'
import { onlySignedIn, signedIn } from '../viewer.ts'
import { exportOf, present, removeEnded, removeOld, requestExport, write, writeExport } from './exports.ts'

const date = Type.Unsafe<Date>({ type: 'string', format: 'date-time' })
const One = Envelope(
  'export',
  Type.Object({
    id: Type.Integer(),
    state: Type.Union([Type.Literal('running'), Type.Literal('done'), Type.Literal('failed')]),
    progress: Type.Number({ minimum: 0, maximum: 1 }),
    createdAt: date,
    expiresAt: Type.Unsafe<Date | null>({ type: ['string', 'null'], format: 'date-time' }),
    statusUrl: Type.String(),
    downloadUrl: NullableText(),
  }),
)
const Id = Type.Object({ id: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }) })

/** All that Conduit has of an account, as a file for its owner. */
export const exportsModule = defineModule({
  name: 'exports',
  owner: 'accounts',
  migrations: new URL('./migrations/', import.meta.url),
  uses: { identity: identityCalls, articles: articleCalls, comments: commentCalls },

  work: ({ data, files, calls }) => [
    handle(writeExport, (input, run) => write({ data, files, calls }, input, run)),
    cron('7 * * * *', removeEnded, {}),
    handle(removeEnded, () => removeOld(data, files)),
  ],

  routes(http, { data, jobs, files, calls }) {
    const who = calls.identity
    const tags = ['Export']
    const security = [{ token: [] }]
    const preValidation = onlySignedIn(who)

    http.post(
      '/api/user/export',
      {
        schema: {
          operationId: 'CreateExport',
          tags,
          security,
          response: { 202: One, 401: Errors, ...failures },
        },
        preValidation,
      },
      async (request, reply) => {
        const shown = await present(await requestExport(data, jobs, await signedIn(request, who)), jobs, files)
        return reply.status(202).header('location', shown.statusUrl).send({ export: shown })
      },
    )

    http.get(
      '/api/user/export/:id',
      {
        schema: {
          operationId: 'GetExport',
          tags,
          security,
          params: Id,
          response: { 200: One, 401: Errors, 404: Errors, ...failures },
        },
        preValidation,
      },
      async (request, reply) => {
        const row = await exportOf(data, await signedIn(request, who), request.params.id)
        reply.header('cache-control', 'no-store') // the URL in it is a key
        return { export: await present(row, jobs, files) }
      },
    )
  },
})
