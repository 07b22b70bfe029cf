import type { FastifyReply, FastifyRequest } from 'fastify'
import { currentScope, type Scope } from '../kernel/scope.ts'
import type { Http } from '../primitives/http/contract.ts'
import { isOwnRequest } from '../primitives/http/own-request.ts'
import { onResponseEnd } from '../primitives/http/response-end.ts'

/** Not a status of HTTP: the client closed the connection before the answer (as nginx logs it). */
export const clientClosed = 499

export interface RequestEnd {
  request: FastifyRequest
  reply: FastifyReply
  scope: Scope | undefined
  status: number
  durationMs: number
}

/** Calls `onEnd` once for each request: when it was answered, or when its client closed the connection. */
export function atRequestEnd(http: Http, onEnd: (end: RequestEnd) => void): void {
  http.addHook('onRequest', (request, reply, done) => {
    const scope = currentScope()
    onResponseEnd(reply.raw, () => {
      const answered = reply.raw.writableFinished || isOwnRequest(request) // which sends nothing
      const status = answered ? reply.statusCode : clientClosed
      onEnd({ request, reply, scope, status, durationMs: reply.elapsedTime })
    })
    done()
  })
}
