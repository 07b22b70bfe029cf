import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { after } from '../../kernel/clock.ts'
import { onResponseEnd } from './response-end.ts'

/** For a request that is on its way while the stop begins. */
const silentMs = 1_000

/**
 * When the app closes, requests in hand are answered, with `connection: close`; Fastify ends the connections that idle
 * after a request. Node then watches no time limit any more, and waits for ever for whoever is connected and has not asked
 * (a browser connects ahead, a balancer keeps spare connections) or never finishes asking or listening. Each has its limit here.
 */
export function drainOnClose(app: FastifyInstance, limits: { headersMs: number; requestMs: number }): void {
  /** No request is in hand; the number says how many bytes had been read when the last one was answered. */
  const quiet = new Map<Socket, number>()
  const busy = new Set<ServerResponse>()

  app.server.on('connection', (socket: Socket) => {
    quiet.set(socket, 0)
    socket.once('close', () => quiet.delete(socket))
  })
  app.server.on('request', ({ socket }, response: ServerResponse) => {
    quiet.delete(socket)
    busy.add(response)
    onResponseEnd(response, () => {
      busy.delete(response)
      if (!socket.destroyed) quiet.set(socket, socket.bytesRead)
    })
  })
  app.addHook('preClose', (done) => {
    for (const response of busy) if (!response.headersSent) response.setHeader('connection', 'close')
    after(silentMs, () => {
      for (const [socket, bytes] of quiet) if (socket.bytesRead === bytes) socket.destroy()
    })
    after(limits.headersMs, () => {
      for (const socket of quiet.keys()) socket.destroy()
    })
    // A request that began just now gets its whole time, and the answer that says it was too long.
    after(limits.requestMs + silentMs, () => app.server.closeAllConnections())
    done()
  })
}
