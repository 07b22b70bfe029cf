import type { FastifyInstance, FastifyReply } from 'fastify'
import { Html } from '../../kernel/html.ts'

export const pageType = 'text/html; charset=utf-8'

/**
 * Headers of a page: styles, scripts and forms are the app's own, images may come from anywhere, and no site may frame it. The referrer
 * policy is `same-origin`: with `no-referrer`, browsers hide the `Origin` of a submitted form (Fetch standard, "append a request Origin
 * header").
 */
const pageHeaders = {
  'content-type': pageType,
  'referrer-policy': 'same-origin',
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; font-src 'self'; " +
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}

/** Makes the reply a page. */
export function asPage(reply: FastifyReply): FastifyReply {
  return reply.headers(pageHeaders).serializer(String)
}

/** Sends results of `html` as pages. */
export function answerPages(app: FastifyInstance): void {
  app.addHook('preSerialization', (_request, reply, payload, done) => {
    if (payload instanceof Html) asPage(reply)
    done(null, payload)
  })
}
