import type { FastifyReply } from 'fastify'

/** Adds to what the answer varies by already: where origins are told apart, CORS has said so. */
export function varyBy(reply: FastifyReply, names: readonly string[]): void {
  const there = reply.getHeader('vary')
  reply.header('vary', [...(there === undefined ? [] : [there]), ...names].join(', '))
}
