import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { varyBy } from './vary.ts'

/** A smaller answer fits into one packet anyway. */
const bytesMin = 1_024
/** Fast levels: 100 KB of JSON take 1 to 2 ms, on a thread of the pool. */
const level = { br: { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }, gzip: { level: 4 } }
const compress = { br: promisify(brotliCompress), gzip: promisify(gzip) }
const compressible = /^(text\/|image\/svg|application\/([\w.-]+\+)?(json|xml|javascript))/

/** Returns the best encoding that the client accepts (RFC 9110, section 12.5.3). Weights other than 0 are not compared. */
function acceptedEncoding({ headers }: FastifyRequest): 'br' | 'gzip' | undefined {
  const accepted = headers['accept-encoding'] ?? ''
  return (['br', 'gzip'] as const).find((one) =>
    new RegExp(`(^|[,\\s])${one}\\b(?!\\s*;\\s*q=0(\\.0*)?\\s*(,|$))`, 'i').test(accepted),
  )
}

/**
 * Compresses whole texts, after all other hooks, which see the text. Streams are not compressed, because that would delay their parts.
 * Call it before the routes are added.
 */
export function compressAnswers(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    // An answer under an Idempotency-Key is repeated byte for byte, also to a client that accepts no encoding.
    if (!route.config?.idempotency) route.onSend = [...[route.onSend ?? []].flat(), compressed] as never
  })
}

async function compressed(request: FastifyRequest, reply: FastifyReply, payload: unknown): Promise<unknown> {
  if (!isCompressible(reply, payload)) return payload
  varyBy(reply, ['accept-encoding'])
  const encoding = acceptedEncoding(request)
  if (!encoding || request.method === 'HEAD') return payload
  const bytes = await compress[encoding](payload as string | Buffer, level[encoding] as never)
  reply.header('content-encoding', encoding).removeHeader('content-length')
  // A strong tag stands for the uncompressed bytes.
  const etag = reply.getHeader('etag')
  if (typeof etag === 'string' && !etag.startsWith('W/')) reply.header('etag', `W/${etag}`)
  return bytes
}

function isCompressible(reply: FastifyReply, payload: unknown): boolean {
  if (typeof payload !== 'string' && !Buffer.isBuffer(payload)) return false
  if (payload.length < bytesMin || reply.hasHeader('content-encoding')) return false
  const type = reply.getHeader('content-type')
  const isFixed = String(reply.getHeader('cache-control') ?? '').includes('no-transform')
  return typeof type === 'string' && compressible.test(type) && !isFixed
}
