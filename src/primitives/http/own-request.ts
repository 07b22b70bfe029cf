import type { FastifyInstance, FastifyRequest } from 'fastify'

/** No socket has such an address, so no client can pretend to be the process. */
const itself = 'this process'

/** Sends an anonymous request of the process to itself, without a socket. */
export function askItself(
  http: FastifyInstance,
  path: string,
): Promise<{ status: number; headers: Record<string, unknown> }> {
  const asked = http.inject({ method: 'GET', url: path, remoteAddress: itself })
  return asked.then(({ statusCode, headers }) => ({ status: statusCode, headers }))
}

/** Whether the process itself sent the request. No limit counts it. */
export function isOwnRequest({ raw }: FastifyRequest): boolean {
  return raw.socket.remoteAddress === itself
}
