import type { FastifyRequest } from 'fastify'
import { edgeRefusals, edgeStatePath, requestIdPlaceholder } from '../../engines/nginx/edge-terms.ts'
import { RungError } from '../../kernel/errors.ts'
import { sameText } from '../../kernel/same-text.ts'
import type { Http } from './contract.ts'
import { oncePromised } from './once.ts'

/** Returns a hook for routes that only the edge may call. */
function onlyFromEdge(secret: string): (request: FastifyRequest) => Promise<void> {
  return async ({ headers }) => {
    if (sameText(headers.authorization ?? '', `Bearer ${secret}`)) return
    throw new RungError('HTTP_UNAUTHORIZED', 'Only the edge of this app may call this route.')
  }
}

/**
 * Answers the edge, which authenticates with its secret: which routes take an Idempotency-Key, and how the app words each refusal, one line
 * each (`engines/nginx/app.lua` reads them). Call it before the routes are added.
 */
export function tellEdge(http: Http, secret: string): void {
  const terms: string[] = []
  http.addHook('onRoute', ({ method, url, config }) => {
    if (config?.idempotency === undefined || /\s/.test(url)) return
    for (const one of [method].flat()) terms.push(`keyed ${one} ${url}`)
  })
  const hidden = { schema: { hide: true }, config: { system: true }, logLevel: 'silent' as const }
  const onRequest = onlyFromEdge(secret)

  http.get('/-/edge/refusals/:status', { ...hidden, onRequest }, async ({ params }) => {
    const { status } = params as { status: string }
    const [code, message] = edgeRefusals[status]!
    throw new RungError(code, message, { status: Number(status) })
  })
  const forms = oncePromised(() =>
    Promise.all(
      Object.keys(edgeRefusals).map(async (status) => {
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
