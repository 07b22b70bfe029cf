import { createHmac, type Hmac, timingSafeEqual } from 'node:crypto'
import { type Readable, Transform } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { RungError } from 'rung'

/** A request that is older, or whose clock is that far off, is refused: it may be a recorded one. */
const toleranceSeconds = 300

/**
 * Hooks of a route that only takes bodies signed with a secret: `Signature: t=<seconds>,v1=<hex>`, the HMAC-SHA-256 of `<t>.<body>`. The
 * bytes are hashed on their way to the parser. Without a secret everything is refused.
 */
export function signedWith(secret: string | undefined) {
  const expected = new WeakMap<FastifyRequest, { hmac: Hmac; given: Buffer }>()
  return {
    async preParsing(request: FastifyRequest, _reply: FastifyReply, body: Readable): Promise<Readable> {
      const [, at, given] = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(String(request.headers.signature)) ?? []
      if (!secret || !at || !given || Math.abs(Date.now() / 1_000 - Number(at)) > toleranceSeconds) throw refused()
      const hmac = createHmac('sha256', secret).update(`${at}.`)
      expected.set(request, { hmac, given: Buffer.from(given, 'hex') })
      const through = new Transform({
        transform(chunk, _encoding, done) {
          hmac.update(chunk)
          done(null, chunk)
        },
      })
      body.once('error', (error) => through.destroy(error))
      return body.pipe(through)
    },

    async preValidation(request: FastifyRequest): Promise<void> {
      const found = expected.get(request)
      if (!found || !timingSafeEqual(found.hmac.digest(), found.given)) throw refused()
    },
  }
}

const refused = () => new RungError('HTTP_UNAUTHORIZED', 'The signature is missing, wrong or too old.')

/** The header that `signedWith` accepts. */
export function signatureOf(secret: string, body: string, at = Math.floor(Date.now() / 1_000)): string {
  return `t=${at},v1=${createHmac('sha256', secret).update(`${at}.${body}`).digest('hex')}`
}
