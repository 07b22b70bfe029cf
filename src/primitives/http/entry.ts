import { createServer } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { sleep, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'

/** Time for clients of idle connections to send a request, which is answered as the last one of its connection. */
const idleMs = 1_000
const lookEveryMs = 10

/** A listening socket that other processes share. */
export interface SharedEntry {
  /** Accepts from it, besides from the app's own port. @throws PORT_IN_USE */
  open(): Promise<void>
  /**
   * Leaves the socket to the others, and resolves when no client has a connection here any more, or after a second. Each answer is the
   * last one of its connection, so a client opens a new one, which another process accepts. The app is closed after that, and waits for
   * the requests that are still in progress as it does for those of its own port.
   */
  leave(): Promise<void>
}

/** Call it before the app is ready (a warm cache makes it so), and after everything whose end has to wait for the last answer. */
export function sharedEntry(app: FastifyInstance, fd: number): SharedEntry {
  let connections = 0
  let leaving = false
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    connections += 1
    socket.once('close', () => {
      connections -= 1
    })
    app.server.emit('connection', socket)
  })
  server.maxConnections = app.server.maxConnections
  app.server.prependListener('request', (_request, response) => {
    if (leaving) response.setHeader('connection', 'close')
  })
  const closed = () => new Promise<void>((resolve) => server.close(() => resolve()))
  // The app's server does not count these connections and would not wait for them. `drainOnClose` limits how long they last.
  app.addHook('onClose', closed)
  return {
    async open() {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      server.once('error', (error: NodeJS.ErrnoException) =>
        reject(error.code === 'EADDRINUSE' ? isTaken(error) : error),
      )
      server.listen({ fd }, resolve)
      await promise
    },
    async leave() {
      leaving = true
      server.close()
      const until = systemClock.ticks() + idleMs
      while (connections > 0 && systemClock.ticks() < until) await sleep(lookEveryMs)
    },
  }
}

/** Two sockets can be bound to one port as long as nobody listens; the second one that listens fails. */
function isTaken(cause: Error): RungError {
  const message =
    'Another process has begun to listen on the public port. Stop it, or set PORT (or --port) to another one.'
  return new RungError('PORT_IN_USE', message, { cause })
}
