import type { FastifyReply } from 'fastify'

/** Adds to what the answer varies by already, each name once: where origins are told apart, CORS has said so. */
export function varyBy(reply: FastifyReply, names: readonly string[]): void {
  const there = [reply.getHeader('vary') ?? []].flat().flatMap((value) => String(value).split(/\s*,\s*/))
  const all = new Map([...there, ...names].map((name) => [name.toLowerCase(), name]))
  reply.header('vary', [...all.values()].join(', '))
}
