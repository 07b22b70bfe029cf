import type { FastifyRequest } from 'fastify'
import { RungError } from '../../kernel/errors.ts'

const safe = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * A browser sends cookies along with what another site has made it send. It also says who made it: `Sec-Fetch-Site` (all current ones) or
 * `Origin`. Whoever sends neither is no browser, and nobody can make it do anything. The order is that of Go's
 * `http.CrossOriginProtection` (Filippo Valsorda, "CSRF", 2025).
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
    'A page of another site sent this request with the cookie of a session. Name its origin in sessions.origins if it may.',
  )
}
