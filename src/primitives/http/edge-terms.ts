import type { FastifyRequest } from 'fastify'
import { edgeStatePath, requestIdPlaceholder } from '../../engines/nginx/app-lua.ts'
import { type ErrorCode, RungError } from '../../kernel/errors.ts'
import { sameText } from '../../kernel/same-text.ts'
import type { Http } from './contract.ts'
import { oncePromised } from './once.ts'

/** What the edge refuses without the app, or instead of it. The texts are the app's, in its own form. */
const refusals: Record<string, readonly [ErrorCode, string]> = {
  400: ['HTTP_BAD_REQUEST', 'The request cannot be read. Check its address and its headers.'],
  404: ['HTTP_NOT_FOUND', 'There is nothing here.'],
  405: ['HTTP_METHOD_NOT_ALLOWED', 'The method is not allowed here.'],
  413: ['HTTP_TOO_LARGE', 'The body is larger than the app takes. Send less.'],
  414: ['HTTP_TOO_LARGE', 'The address is longer than the app takes. Send a shorter one.'],
  431: ['HTTP_TOO_LARGE', 'The headers are larger than the app takes. Send less, for example fewer cookies.'],
  502: [
    'HTTP_OUTCOME_UNKNOWN',
    'The app did not answer, so it is not known whether this was done. Look before you send it again.',
  ],
  503: ['HTTP_OVERLOADED', 'The app cannot be reached at the moment. Try again.'],
}

/** A hook for routes that only the edge may ask. */
export function onlyFromEdge(secret: string): (request: FastifyRequest) => Promise<void> {
  return async ({ headers }) => {
    if (sameText(headers.authorization ?? '', `Bearer ${secret}`)) return
    throw new RungError('HTTP_UNAUTHORIZED', 'This is for the edge of this app alone.')
  }
}

/**
 * Tells the edge, which shows its secret, what it has to know of this process: that it answers, which bodies its routes take,
 * which of them take an Idempotency-Key, and how the app words a refusal. One line each; see `engines/nginx/app-lua.ts`. Before the routes.
 */
export function tellEdge(http: Http, secret: string): void {
  const terms = [`body ${http.initialConfig.bodyLimit} * *`]
  http.addHook('onRoute', ({ method, url, bodyLimit, config }) => {
    if (/\s/.test(url)) return
    for (const one of [method].flat()) {
      if (bodyLimit !== undefined && bodyLimit !== http.initialConfig.bodyLimit)
        terms.push(`body ${bodyLimit} ${one} ${url}`)
      if (config?.idempotency !== undefined) terms.push(`keyed ${one} ${url}`)
    }
  })
  const hidden = { schema: { hide: true }, config: { system: true }, logLevel: 'silent' as const }
  const onRequest = onlyFromEdge(secret)

  http.get('/-/edge/refusals/:status', { ...hidden, onRequest }, async ({ params }) => {
    const { status } = params as { status: string }
    const [code, message] = refusals[status]!
    throw new RungError(code, message, { status: Number(status) })
  })
  const forms = oncePromised(() =>
    Promise.all(
      Object.keys(refusals).map(async (status) => {
        const { headers, payload } = await http.inject({
          url: `/-/edge/refusals/${status}`,
          headers: { authorization: `Bearer ${secret}`, 'x-request-id': requestIdPlaceholder },
        })
        return `refusal ${status} ${encodeURIComponent(String(headers['content-type']))} ${encodeURIComponent(payload)}`
      }),
    ),
  )
  http.get(edgeStatePath, { ...hidden, onRequest }, async (_request, reply) =>
    reply.type('text/plain; charset=utf-8').send(['rung-edge 1', ...terms, ...(await forms()), ''].join('\n')),
  )
}
