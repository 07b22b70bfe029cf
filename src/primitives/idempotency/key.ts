import { createHash } from 'node:crypto'
import { RungError } from '../../kernel/errors.ts'

/** A String of RFC 8941 in its quotes, as the draft asks for, or the same without them, as most clients send it. */
const quoted = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"$/
const bare = /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{1,255}$/

/**
 * The key in an `Idempotency-Key` header; `undefined` where there is none.
 * @throws IDEMPOTENCY_KEY_INVALID
 */
export function parseKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined
  const text = typeof header === 'string' ? header.trim() : ''
  const inner = quoted.exec(text)?.[1]?.replace(/\\(.)/g, '$1') ?? bare.exec(text)?.[0]
  if (inner !== undefined) return inner
  throw new RungError(
    'IDEMPOTENCY_KEY_INVALID',
    'The Idempotency-Key is malformed. Send one of 1 to 255 visible ASCII characters in double quotes, for example a UUID.',
  )
}

/** Parts with their lengths: no two lists of parts give the same digest. */
export function digestOf(...parts: readonly (string | Uint8Array)[]): Buffer {
  const hash = createHash('sha256')
  for (const part of parts) {
    const bytes = typeof part === 'string' ? Buffer.from(part) : part
    hash.update(`${bytes.length}:`).update(bytes)
  }
  return hash.digest()
}

/**
 * Headers that are not part of an answer: they belong to its connection or to this very request, or are set again by those who set
 * them the first time. Cookies are secrets of a session, of which nothing but a digest is stored anywhere.
 */
const left =
  /^(connection|keep-alive|transfer-encoding|trailer|upgrade|date|content-length|set-cookie|x-request-id|traceparent|ratelimit.*|access-control-.*|vary|x-content-type-options|x-frame-options|referrer-policy|content-security-policy)$/

export function keptHeaders(headers: Readonly<Record<string, unknown>>): Record<string, string | string[]> {
  const kept: Record<string, string | string[]> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || left.test(name)) continue
    kept[name] = Array.isArray(value) ? value.map(String) : String(value)
  }
  return kept
}
