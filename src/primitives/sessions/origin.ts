import type { FastifyRequest } from 'fastify'
import { RungError } from '../../kernel/errors.ts'

const safe = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Refuses requests that a page of another site has made a browser send: the browser would add the cookie to them. A browser says where a
 * request comes from, with `Sec-Fetch-Site` (all current ones) or `Origin`. A client that sends neither is not a browser, and no page
 * can make it send anything. The order of the checks is that of Go's `http.CrossOriginProtection` (Filippo Valsorda, "CSRF", 2025).
 * @throws HTTP_CROSS_ORIGIN
 */
export function checkOrigin(request: FastifyRequest, trusted: ReadonlySet<string>): void {
  if (safe.has(request.method)) return
  const { origin, 'sec-fetch-site': site } = request.headers
  if (origin !== undefined && trusted.has(origin)) return
  if (site !== undefined) {
    if (site === 'same-origin' || site === 'none') return
  } else {
    if (origin === undefined) return
    if (URL.canParse(origin) && new URL(origin).host === request.host) return
  }
  throw new RungError(
    'HTTP_CROSS_ORIGIN',
    'A page of another site sent this request with the cookie of a session. If it may do that, add its origin to sessions.origins.',
  )
}
