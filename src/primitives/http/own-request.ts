import type { FastifyInstance, FastifyRequest } from 'fastify'

/** No socket has an address like this: nobody outside can pass for the process itself. */
const itself = 'this process'

/** A request of the process to itself, as of somebody who is not signed in, past its socket. */
export function askItself(
  http: FastifyInstance,
  path: string,
): Promise<{ status: number; headers: Record<string, unknown> }> {
  const asked = http.inject({ method: 'GET', url: path, remoteAddress: itself })
  return asked.then(({ statusCode, headers }) => ({ status: statusCode, headers }))
}

/** Of no client: no limit counts it. */
export function isOwnRequest({ raw }: FastifyRequest): boolean {
  return raw.socket.remoteAddress === itself
}
