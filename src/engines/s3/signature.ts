import { createHash, createHmac } from 'node:crypto'

/** AWS Signature Version 4, which every S3 store understands. Source: "Authenticating Requests", Amazon S3 API Reference. */
export interface Signer {
  accessKey: string
  secretKey: string
  region: string
}

export interface Signable {
  method: string
  host: string
  /** Encoded by `encodePath`. */
  path: string
  query: Readonly<Record<string, string>>
  /** Names in lower case. All are signed. */
  headers: Readonly<Record<string, string>>
}

export const unsignedPayload = 'UNSIGNED-PAYLOAD'
export const emptySha256 = createHash('sha256').digest('hex')

/**
 * Returns the headers of a signed request.
 * @param sha256 that of the body, in hexadecimal; the store refuses any other body
 */
export function signedHeaders(request: Signable, sha256: string, signer: Signer, now: Date): Record<string, string> {
  const time = timeOf(now)
  const headers = { ...request.headers, host: request.host, 'x-amz-content-sha256': sha256, 'x-amz-date': time }
  const scope = scopeOf(time, signer)
  const signature = signatureOf({ ...request, headers }, sha256, time, signer)
  const credential = `Credential=${signer.accessKey}/${scope},SignedHeaders=${namesOf(headers)},Signature=${signature}`
  return { ...headers, authorization: `AWS4-HMAC-SHA256 ${credential}` }
}

/** Returns path and query of a URL that anybody may use for `expiresS` seconds, together with the request's headers. */
export function presignedPath(request: Signable, expiresS: number, signer: Signer, now: Date): string {
  const time = timeOf(now)
  const headers = { ...request.headers, host: request.host }
  const query = {
    ...request.query,
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${signer.accessKey}/${scopeOf(time, signer)}`,
    'X-Amz-Date': time,
    'X-Amz-Expires': String(expiresS),
    'X-Amz-SignedHeaders': namesOf(headers),
  }
  const signature = signatureOf({ ...request, headers, query }, unsignedPayload, time, signer)
  return `${request.path}?${encodeQuery(query)}&X-Amz-Signature=${signature}`
}

/** Encodes everything but letters, digits and `-._~`, as the signature demands. */
export function encodePart(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`)
}

export function encodePath(path: string): string {
  return path.split('/').map(encodePart).join('/')
}

export function encodeQuery(query: Readonly<Record<string, string>>): string {
  return Object.entries(query)
    .map(([name, value]) => `${encodePart(name)}=${encodePart(value)}`)
    .sort()
    .join('&')
}

function signatureOf(request: Signable, sha256: string, time: string, signer: Signer): string {
  const { method, path, query, headers } = request
  const lines = Object.keys(headers)
    .sort()
    .map((name) => `${name}:${headers[name]!.trim().replace(/ +/g, ' ')}\n`)
  const canonical = [method, path, encodeQuery(query), lines.join(''), namesOf(headers), sha256].join('\n')
  const digest = createHash('sha256').update(canonical).digest('hex')
  const key = [time.slice(0, 8), signer.region, 's3', 'aws4_request'].reduce<string | Buffer>(
    (outer, part) => hmac(outer, part),
    `AWS4${signer.secretKey}`,
  )
  return hmac(key, ['AWS4-HMAC-SHA256', time, scopeOf(time, signer), digest].join('\n')).toString('hex')
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

function namesOf(headers: Readonly<Record<string, string>>): string {
  return Object.keys(headers).sort().join(';')
}

function scopeOf(time: string, { region }: Signer): string {
  return `${time.slice(0, 8)}/${region}/s3/aws4_request`
}

/** `20130524T000000Z` */
function timeOf(now: Date): string {
  return now.toISOString().replace(/[:-]|\.\d+/g, '')
}
