import { createHmac } from 'node:crypto'
import { RungError } from '../../kernel/errors.ts'
import { sameText } from '../../kernel/same-text.ts'

/** Below `/-/`, where no app has routes of its own by accident. */
export const filesPath = '/-/files'

/** What a URL allows until it expires. Each value is the text that stands in the URL. */
export interface Grant {
  /** With its namespace. */
  key: string
  /** `GET` includes `HEAD`. */
  method: 'GET' | 'PUT'
  /** Seconds since the epoch. */
  expires: string
  /** Of a `GET`: save it under this name. */
  filename?: string
  /** Of a `PUT`: bytes. */
  sizeMax?: string
  /** Of a `PUT`: separated by commas. */
  types?: string
}

const parameters = ['method', 'expires', 'filename', 'sizeMax', 'types'] as const

export function signedUrl(grant: Grant, key: Uint8Array): string {
  const path = grant.key.split('/').map(encodeURIComponent).join('/')
  const query = parameters.flatMap((name) =>
    grant[name] === undefined ? [] : [`${name}=${encodeURIComponent(grant[name])}`],
  )
  return `${filesPath}/${path}?${query.join('&')}&signature=${signatureOf(grant, key)}`
}

/**
 * What a URL allows, when its signature says so.
 * @throws FILES_URL_INVALID
 */
export function verifiedGrant(
  request: { key: string; method: string; query: Readonly<Record<string, unknown>> },
  key: Uint8Array,
  nowMs: number,
): Grant {
  const { signature, ...rest } = request.query
  for (const [name, value] of Object.entries(rest)) {
    // Also what the signature would not cover, and what stands there twice (an array).
    if (!(parameters as readonly string[]).includes(name) || typeof value !== 'string') throw invalid()
  }
  const grant = { ...rest, key: request.key } as unknown as Grant
  if (typeof signature !== 'string' || !sameText(signature, signatureOf(grant, key))) throw invalid()
  if (!(Number(grant.expires) * 1000 > nowMs)) {
    throw new RungError('FILES_URL_INVALID', 'The URL has expired. Ask for a new one.')
  }
  if (grant.method !== (request.method === 'HEAD' ? 'GET' : request.method)) {
    throw new RungError('FILES_URL_INVALID', `The URL is for ${grant.method} only.`)
  }
  return grant
}

/** HMAC-SHA-256, always. JSON of a list keeps the values apart whatever they hold; the first says what is signed. */
function signatureOf(grant: Grant, key: Uint8Array): string {
  const signed = ['rung-files-1', grant.key, ...parameters.map((name) => grant[name] ?? null)]
  return createHmac('sha256', key).update(JSON.stringify(signed)).digest('base64url')
}

function invalid(): RungError {
  return new RungError('FILES_URL_INVALID', 'The URL is not one that this app has signed. Ask for a new one.')
}
