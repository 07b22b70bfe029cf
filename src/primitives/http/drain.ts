import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { after } from '../../kernel/clock.ts'
import { onResponseEnd } from './response-end.ts'

/** Time for a request that is on its way when the stop begins. */
const silentMs = 1_000

/**
 * When the app closes, requests in progress are answered with `connection: close`, and Fastify ends idle connections that have had a
 * request. Node then applies no time limits any more and would wait for ever for connections without a request (browsers and balancers open
 * spare ones) and for clients that never finish to send or to read. This gives each of them a limit.
 */
export function drainOnClose(app: FastifyInstance, limits: { headersMs: number; requestMs: number }): void {
  /** Connections without a request in progress, and how many bytes had been read when the last one was answered. */
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
    // A request that has just begun gets its whole time, and the answer that says that it took too long.
    after(limits.requestMs + silentMs, () => app.server.closeAllConnections())
    done()
  })
}
