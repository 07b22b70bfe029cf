import type { FastifyInstance, FastifyReply } from 'fastify'
import { Html } from '../../kernel/html.ts'

export const pageType = 'text/html; charset=utf-8'

/**
 * For a page: its styles, scripts and forms are the app's own, pictures may come from anywhere, nobody frames it. `same-origin` and not
 * `no-referrer`, since with that browsers hide the `Origin` of a form that is sent (Fetch standard, "append a request Origin header").
 */
const pageHeaders = {
  'content-type': pageType,
  'referrer-policy': 'same-origin',
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; font-src 'self'; " +
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}

/** The reply becomes a page. */
export function asPage(reply: FastifyReply): FastifyReply {
  return reply.headers(pageHeaders).serializer(String)
}

/** What is made with `html` is answered as a page. */
export function answerPages(app: FastifyInstance): void {
  app.addHook('preSerialization', (_request, reply, payload, done) => {
    if (payload instanceof Html) asPage(reply)
    done(null, payload)
  })
}
