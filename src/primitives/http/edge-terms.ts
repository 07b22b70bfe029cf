import type { FastifyReply, FastifyRequest } from 'fastify'
import {
  edgeRefusals,
  edgeShares,
  edgeStatePath,
  requestIdPlaceholder,
  tookHeader,
} from '../../engines/nginx/edge-terms.ts'
import { RungError } from '../../kernel/errors.ts'
import { sameText } from '../../kernel/same-text.ts'
import type { Http } from './contract.ts'
import { oncePromised } from './once.ts'
import { loadLimits, type SheddingOptions } from './shedding.ts'

/** Returns a hook for routes that only the edge may call. */
function onlyFromEdge(secret: string): (request: FastifyRequest) => Promise<void> {
  return async ({ headers }) => {
    if (sameText(headers.authorization ?? '', `Bearer ${secret}`)) return
    throw new RungError('HTTP_UNAUTHORIZED', 'Only the edge of this app may call this route.')
  }
}

const rankOf = (url: string) => url.replace(/:[^/]*/g, '\u{fffe}').replace('*', '\u{ffff}')

/** Adds the header when the headers are written, so after all hooks, and for streams when they begin. */
function sayHowLongItTook(_request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  const { raw } = reply
  const writeHead = raw.writeHead
  raw.writeHead = (...parts: unknown[]) => {
    raw.setHeader(tookHeader, reply.elapsedTime.toFixed(0))
    return writeHead.apply(raw, parts as Parameters<typeof writeHead>)
  }
  done()
}

/**
 * Answers the edge, which authenticates with its secret, one line for each term (`engines/nginx/app.lua` reads them): which routes take an
 * Idempotency-Key, how the app words each refusal, and, with `shedding`, how long requests may wait for the app and which routes are
 * refused earlier or later than others. Call it before any route is added.
 * @throws APP_INVALID
 */
export function tellEdge(http: Http, secret: string, shedding?: SheddingOptions): void {
  const keyed: string[] = []
  const shares: { share: number; method: string; url: string }[] = []
  http.addHook('onRoute', ({ method, url, config }) => {
    if (/\s/.test(url)) return
    for (const one of [method].flat()) {
      if (config?.idempotency !== undefined) keyed.push(`keyed ${one} ${url}`)
      shares.push({ share: edgeShares[config?.priority ?? 'normal'], method: one, url })
    }
  })
  if (shedding) http.addHook('onRequest', sayHowLongItTook)
  /** The first that matches counts, as in the app: a text before a parameter, a parameter before the rest of the path. */
  const terms = () => [
    ...keyed,
    ...(shedding ? [`shedding ${loadLimits(shedding).delayMsMax / 5}`] : []),
    ...(shedding ? shares : [])
      .toSorted((one, other) => (rankOf(one.url) < rankOf(other.url) ? -1 : 1))
      .map(({ share, method, url }) => `share ${share} ${method} ${url}`),
  ]
  const hidden = { schema: { hide: true }, config: { system: true }, logLevel: 'silent' as const }
  const onRequest = onlyFromEdge(secret)

  http.get('/-/edge/refusals/:status', { ...hidden, onRequest }, async ({ params }) => {
    const { status } = params as { status: string }
    const [code, message] = edgeRefusals[status]!
    throw new RungError(code, message, { status: Number(status) })
  })
  // The edge asks twice a second, and no route is added once the server is ready.
  const state = oncePromised(async () => {
    const forms = await Promise.all(
      Object.keys(edgeRefusals).map(async (status) => {
        const { headers, payload } = await http.inject({
          url: `/-/edge/refusals/${status}`,
          headers: { authorization: `Bearer ${secret}`, 'x-request-id': requestIdPlaceholder },
        })
        return `refusal ${status} ${encodeURIComponent(String(headers['content-type']))} ${encodeURIComponent(payload)}`
      }),
    )
    return ['rung-edge 1', ...terms(), ...forms, ''].join('\n')
  })
  http.get(edgeStatePath, { ...hidden, onRequest }, async (_request, reply) =>
    reply.type('text/plain; charset=utf-8').send(await state()),
  )
}
