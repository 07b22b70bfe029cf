import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { varyBy } from './vary.ts'

/** A packet holds as much with or without it. */
const bytesMin = 1_024
/** Levels that cost about as much CPU as they save on the wire: 100 KB of JSON in 1 to 2 ms, on a thread of the pool. */
const level = { br: { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }, gzip: { level: 4 } }
const compress = { br: promisify(brotliCompress), gzip: promisify(gzip) }
const compressible = /^(text\/|image\/svg|application\/([\w.-]+\+)?(json|xml|javascript))/

/** The best form that the client takes (RFC 9110, section 12.5.3); weights other than 0 are not compared. */
export function acceptedEncoding({ headers }: FastifyRequest): 'br' | 'gzip' | undefined {
  const accepted = headers['accept-encoding'] ?? ''
  return (['br', 'gzip'] as const).find((one) =>
    new RegExp(`(^|[,\\s])${one}\\b(?!\\s*;\\s*q=0(\\.0*)?\\s*(,|$))`, 'i').test(accepted),
  )
}

/**
 * Compresses texts that routes answer whole, behind all other hooks, which see the text. Streams are left as they are: holding them back to
 * compress them would delay their parts. Before the routes.
 */
export function compressAnswers(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    // What is kept under a key is given again byte for byte, also to a client that takes no compressed form.
    if (!route.config?.idempotency) route.onSend = [...[route.onSend ?? []].flat(), compressed] as never
  })
}

async function compressed(request: FastifyRequest, reply: FastifyReply, payload: unknown): Promise<unknown> {
  if (!isWorthIt(reply, payload)) return payload
  varyBy(reply, ['accept-encoding'])
  const encoding = acceptedEncoding(request)
  if (!encoding || request.method === 'HEAD') return payload
  const bytes = await compress[encoding](payload as string | Buffer, level[encoding] as never)
  reply.header('content-encoding', encoding).removeHeader('content-length')
  // Its bytes are others than those that a strong tag stands for.
  const etag = reply.getHeader('etag')
  if (typeof etag === 'string' && !etag.startsWith('W/')) reply.header('etag', `W/${etag}`)
  return bytes
}

function isWorthIt(reply: FastifyReply, payload: unknown): boolean {
  if (typeof payload !== 'string' && !Buffer.isBuffer(payload)) return false
  if (payload.length < bytesMin || reply.hasHeader('content-encoding')) return false
  const type = reply.getHeader('content-type')
  const isKeptAsIs = String(reply.getHeader('cache-control') ?? '').includes('no-transform')
  return typeof type === 'string' && compressible.test(type) && !isKeptAsIs
}
