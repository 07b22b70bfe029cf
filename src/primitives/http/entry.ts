import { createServer, type Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { sleep, systemClock } from '../../kernel/clock.ts'

/** Time for clients of idle connections to send a request, which is answered as the last one of its connection. */
const idleMs = 1_000
const lookEveryMs = 10

/**
 * Answers connections of a listening socket that other processes share, besides those of the app's own port.
 * @returns a function that leaves the socket to the others, and resolves when nearly no client has a connection here any more: each
 * answer is the last one of its connection, so a client opens a new one, which another process accepts
 */
export async function answerAt(app: FastifyInstance, fd: number): Promise<() => Promise<void>> {
  const connections = new Set<Socket>()
  let leaving = false
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    connections.add(socket)
    socket.once('close', () => connections.delete(socket))
    app.server.emit('connection', socket)
  })
  app.server.prependListener('request', (_request, response) => {
    if (leaving) response.setHeader('connection', 'close')
  })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen({ fd }, resolve)
  await promise
  return async () => {
    leaving = true
    server.close()
    const until = systemClock.ticks() + idleMs
    while (connections.size > 0 && systemClock.ticks() < until) await sleep(lookEveryMs)
  }
}
