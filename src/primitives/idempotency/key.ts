import { createHash } from 'node:crypto'
import { RungError } from '../../kernel/errors.ts'

/** A string of RFC 8941 in its quotes, as the draft demands, or without them, as most clients send it. */
const quoted = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"$/
const bare = /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{1,255}$/

/**
 * Returns the key of an `Idempotency-Key` header, or `undefined` without the header.
 * @throws IDEMPOTENCY_KEY_INVALID
 */
export function parseKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined
  const text = typeof header === 'string' ? header.trim() : ''
  const inner = quoted.exec(text)?.[1]?.replace(/\\(.)/g, '$1') ?? bare.exec(text)?.[0]
  if (inner !== undefined) return inner
  throw new RungError(
    'IDEMPOTENCY_KEY_INVALID',
    'The Idempotency-Key is malformed. Send 1 to 255 visible ASCII characters in double quotes, for example a UUID.',
  )
}

/** Digests the parts with their lengths, so that no two lists of parts have the same digest. */
export function digestOf(...parts: readonly (string | Uint8Array)[]): Buffer {
  const hash = createHash('sha256')
  for (const part of parts) {
    const bytes = typeof part === 'string' ? Buffer.from(part) : part
    hash.update(`${bytes.length}:`).update(bytes)
  }
  return hash.digest()
}

/**
 * Headers that are not kept with an answer: they belong to its connection or to its request, or are set again when it is replayed.
 * Cookies are secrets of a session, of which only a digest may be stored.
 */
const notKept =
  /^(connection|keep-alive|transfer-encoding|trailer|upgrade|date|content-length|set-cookie|x-request-id|traceparent|ratelimit.*|access-control-.*|vary|x-content-type-options|x-frame-options|referrer-policy|content-security-policy)$/

export function keptHeaders(headers: Readonly<Record<string, unknown>>): Record<string, string | string[]> {
  const kept: Record<string, string | string[]> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || notKept.test(name)) continue
    kept[name] = Array.isArray(value) ? value.map(String) : String(value)
  }
  return kept
}
