import { messageOf, RungError } from '../../kernel/errors.ts'

/** The page cache's address for purges and health. */
export interface PageCacheAddress {
  /** `http://127.0.0.1:9001` */
  url: string
  secret: string
}

const answerTimeoutMs = 1_000
/** nginx asks each process first, and waits for one that hangs: at most a second to connect, to send and for the answer. */
const appsTimeoutMs = 4_000
/** Tags in one request. */
const tagsMax = 5_000

/**
 * Purges pages by tags; `*` is all pages. Once it resolves, no new request gets a page with one of these tags that was made before.
 * @throws PAGE_CACHE_UNAVAILABLE. It is safe to purge again
 */
export async function purgeTags({ url, secret }: PageCacheAddress, tags: readonly string[]): Promise<void> {
  for (let at = 0; at < tags.length; at += tagsMax) {
    const body = tags.slice(at, at + tagsMax).join('\n')
    const response = await ask(`${url}/-/purge`, {
      method: 'POST',
      headers: { authorization: `Bearer ${secret}` },
      body,
    })
    const text = await response.text()
    if (response.status !== 200) throw unavailable(`it answered ${response.status} ${text.trim().slice(0, 200)}`)
  }
}

/** Returns the `instance` of the server that answers. */
export async function pageCacheInstance(url: string, withinMs?: number): Promise<string> {
  return (await (await ask(`${url}/-/health`, {}, withinMs)).text()).trim()
}

/** Returns by address whether each process that gets requests answers. */
export async function appsOf(
  { url, secret }: PageCacheAddress,
  replacedBy?: readonly string[],
): Promise<ReadonlyMap<string, boolean>> {
  const change = replacedBy && { method: 'POST', body: replacedBy.join('\n') }
  const init = { ...change, headers: { authorization: `Bearer ${secret}` } }
  const response = await ask(`${url}/-/apps`, init, appsTimeoutMs)
  const text = await response.text()
  if (response.status !== 200) throw unavailable(`it answered ${response.status} ${text.trim().slice(0, 200)}`)
  return new Map(
    text
      .trim()
      .split('\n')
      .map((line): [string, boolean] => [line.replace(/ \w+$/, ''), line.endsWith(' up')]),
  )
}

/** Replaces the certificate and the key for new connections. @throws CERTIFICATE_INVALID */
export async function sendCertificate({ url, secret }: PageCacheAddress, pem: string): Promise<void> {
  const headers = { authorization: `Bearer ${secret}` }
  const response = await ask(`${url}/-/certificate`, { method: 'POST', headers, body: pem })
  const text = (await response.text()).trim().slice(0, 200)
  if (response.status !== 200) {
    throw new RungError(
      'CERTIFICATE_INVALID',
      `nginx refuses the certificate: ${text}. It goes on with the one before.`,
    )
  }
}

/** Makes each answer the last one of its connection: other processes share the port. */
export async function leavePort({ url, secret }: PageCacheAddress): Promise<void> {
  const response = await ask(`${url}/-/leave`, { method: 'POST', headers: { authorization: `Bearer ${secret}` } })
  const text = await response.text()
  if (response.status !== 200) throw unavailable(`it answered ${response.status} ${text.trim().slice(0, 200)}`)
}

/** Returns the number of requests that a process of the app answers now. */
export async function requestsAt(address: string): Promise<number> {
  const text = await (await ask(`http://${address}/metrics`, {})).text()
  const found = /^http_requests_in_flight (\d+)$/m.exec(text)
  return Math.max(0, Number(found?.[1] ?? 1) - 1) // without this one
}

async function ask(url: string, init: RequestInit, withinMs = answerTimeoutMs): Promise<Response> {
  try {
    return await fetch(url, { ...init, signal: AbortSignal.timeout(withinMs) })
  } catch (cause) {
    throw unavailable(messageOf((cause as Error).cause ?? cause), cause)
  }
}

function unavailable(why: string, cause?: unknown): RungError {
  return new RungError('PAGE_CACHE_UNAVAILABLE', `The page cache is unavailable: ${why}.`, { cause })
}
