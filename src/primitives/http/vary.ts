import type { FastifyReply } from 'fastify'

/** Adds names to the answer's Vary header, each once. */
export function varyBy(reply: FastifyReply, names: readonly string[]): void {
  const present = [reply.getHeader('vary') ?? []].flat().flatMap((value) => String(value).split(/\s*,\s*/))
  const all = new Map([...present, ...names].map((name) => [name.toLowerCase(), name]))
  reply.header('vary', [...all.values()].join(', '))
}
