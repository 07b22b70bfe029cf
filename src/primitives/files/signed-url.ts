import { RungError } from '../../kernel/errors.ts'
import { type Keys, keyOfMac, macOf } from '../../kernel/keys.ts'

/** Below `/-/`, which is reserved for Rung. */
export const filesPath = '/-/files'

/** What a URL allows until it expires. Each value is the text in the URL. */
export interface Grant {
  /** Including the namespace. */
  key: string
  /** `GET` includes `HEAD`. */
  method: 'GET' | 'PUT'
  /** Seconds since the epoch. */
  expires: string
  /** For `GET`: the name under which it is saved. */
  filename?: string
  /** For `PUT`: bytes. */
  sizeMax?: string
  /** For `PUT`: separated by commas. */
  types?: string
}

const parameters = ['method', 'expires', 'filename', 'sizeMax', 'types'] as const

export function signedUrl(grant: Grant, keys: Keys): string {
  const path = grant.key.split('/').map(encodeURIComponent).join('/')
  const query = parameters.flatMap((name) =>
    grant[name] === undefined ? [] : [`${name}=${encodeURIComponent(grant[name])}`],
  )
  return `${filesPath}/${path}?${query.join('&')}&signature=${macOf(keys.signing, signedText(grant))}`
}

/**
 * Returns what a URL allows, if its signature is valid.
 * @throws FILES_URL_INVALID
 */
export function verifiedGrant(
  request: { key: string; method: string; query: Readonly<Record<string, unknown>> },
  keys: Keys,
  nowMs: number,
): Grant {
  const { signature, ...rest } = request.query
  for (const [name, value] of Object.entries(rest)) {
    // Refuses parameters that the signature does not cover, and repeated ones (an array).
    if (!(parameters as readonly string[]).includes(name) || typeof value !== 'string') throw invalid()
  }
  const grant = { ...rest, key: request.key } as unknown as Grant
  if (typeof signature !== 'string' || !keyOfMac(keys, signedText(grant), signature)) throw invalid()
  if (!(Number(grant.expires) * 1000 > nowMs)) {
    throw new RungError('FILES_URL_INVALID', 'The URL has expired. Ask for a new one.')
  }
  if (grant.method !== (request.method === 'HEAD' ? 'GET' : request.method)) {
    throw new RungError('FILES_URL_INVALID', `The URL is for ${grant.method} only.`)
  }
  return grant
}

/** A JSON list, which separates the values whatever they contain. The first value names the purpose. */
function signedText(grant: Grant): string {
  return JSON.stringify(['rung-files-1', grant.key, ...parameters.map((name) => grant[name] ?? null)])
}

function invalid(): RungError {
  return new RungError('FILES_URL_INVALID', 'This app has not signed the URL. Ask for a new one.')
}

/** What a client may have accepted. */
export interface Ticket {
  /** The key of the upload. */
  from: string
  /** The key of the file, including the namespace. */
  to: string
  size: number
  /** Ms since the epoch. */
  until: number
  types: readonly string[] | undefined
  sha256: string | undefined
  ifAbsent: boolean
}

export function signedTicket(ticket: Ticket, keys: Keys): string {
  const text = Buffer.from(JSON.stringify(ticket)).toString('base64url')
  return `${text}.${macOf(keys.signing, signedTicketText(text))}`
}

/** @throws FILES_URL_INVALID */
export function verifiedTicket(ticket: string, keys: Keys, nowMs: number): Ticket {
  const [text, signature, ...more] = String(ticket).split('.')
  const isSigned = text && signature && more.length === 0 && keyOfMac(keys, signedTicketText(text), signature)
  if (!isSigned) throw ticketInvalid()
  const found = JSON.parse(Buffer.from(text, 'base64url').toString()) as Ticket
  if (found.until > nowMs) return found
  throw new RungError('FILES_URL_INVALID', 'The upload has expired. Begin a new one.')
}

export function ticketInvalid(): RungError {
  return new RungError('FILES_URL_INVALID', 'This module has not begun the upload. Begin a new one.')
}

const signedTicketText = (text: string) => JSON.stringify(['rung-upload-1', text])
