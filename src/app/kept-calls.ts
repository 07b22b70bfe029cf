import { createHash } from 'node:crypto'
import type { Cache } from '../primitives/cache/cache.ts'
import type { CallsContract, Send } from './calls.ts'

/**
 * Returns a `Send` that takes outputs of calls with a `ttl` from the cache, wherever the module runs. What a handler has read from the cache
 * is inherited, so an output ends with it.
 * @param cache that of the called module
 */
export function keptBy({ schemas }: CallsContract, send: Send, cache: Cache): Send {
  if (!Object.values(schemas).some(({ ttl }) => ttl !== undefined)) return send
  return (name, input) => {
    const ttl = schemas[name]?.ttl
    if (ttl === undefined) return send(name, input)
    // Inputs may be secrets, such as tokens, and keys are seen in lists.
    const hash = createHash('sha256').update(JSON.stringify(input)).digest('base64url')
    return cache.get(`call:${name}:${hash}`, { ttl, absentTtl: ttl, tags: 'inherit' }, () => send(name, input))
  }
}
