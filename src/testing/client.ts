import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import type { Problem } from '../primitives/http/problem.ts'

export interface RequestOptions {
  /** Default: `POST` with a body, otherwise `GET`. */
  method?: string
  headers?: Readonly<Record<string, string>>
  /** The body as a value; it is sent as JSON. */
  json?: unknown
  /** The body as it is: text, bytes, a form. */
  body?: NonNullable<RequestInit['body']>
  /** The expected status. With another one the request fails, and the error shows the problem and where it was thrown. */
  expect?: number
}

export interface Answer<Body> {
  readonly status: number
  readonly headers: Headers
  /** A value for JSON, a string for other text, otherwise a `Buffer`; `undefined` without a body. */
  readonly body: Body
}

/** Sends requests to the app through its HTTP server. */
export interface TestClient {
  /**
   * Sends a request. Redirects are not followed.
   * @param path from the root: `/api/articles?limit=1`
   * @throws TEST_STATUS where `expect` names another status
   * @example
   * const { body } = await app.request('/api/articles', { json: { title: 'One' }, expect: 201 })
   */
  // biome-ignore lint/suspicious/noExplicitAny: a test says what it expects by asserting it
  request<Body = any>(path: string, options?: RequestOptions): Promise<Answer<Body>>
}

/** Each request by itself; no cookie is kept. */
export function plainClient(url: string): TestClient {
  return { request: (path, options) => send(url, path, options, {}) }
}

/** Keeps cookies until the app removes them, as a browser does. */
export function cookieClient(url: string): TestClient {
  const jar = new Map<string, string>()
  return {
    async request(path, options) {
      const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
      const answer = await send(url, path, options, cookie === '' ? {} : { cookie }, (headers) => {
        for (const line of headers.getSetCookie()) {
          const [, name, value] = /^\s*([^=;]+)=([^;]*)/.exec(line) ?? []
          if (name === undefined) continue
          if (isRemoval(line)) jar.delete(name)
          else jar.set(name, value!)
        }
      })
      return answer as never
    },
  }
}

/** Other lifetimes are left to the app: it must refuse a cookie that is too old. */
function isRemoval(cookie: string): boolean {
  const [, maxAge] = /;\s*max-age=(-?\d+)/i.exec(cookie) ?? []
  if (maxAge !== undefined) return Number(maxAge) <= 0
  const [, expires] = /;\s*expires=([^;]+)/i.exec(cookie) ?? []
  return expires !== undefined && Date.parse(expires) <= systemClock.now()
}

/** Signs in with its first request; each request has the headers that this returns. */
export function signedInClient(
  client: TestClient,
  signIn: () => Promise<Readonly<Record<string, string>>>,
): TestClient {
  let signedIn: ReturnType<typeof signIn> | undefined
  return {
    async request(path, options = {}) {
      signedIn ??= signIn()
      return client.request(path, { ...options, headers: { ...(await signedIn), ...options.headers } })
    },
  }
}

async function send(
  url: string,
  path: string,
  { json, body = json === undefined ? undefined : JSON.stringify(json), expect, ...options }: RequestOptions = {},
  own: Readonly<Record<string, string>>,
  answered: (headers: Headers) => void = () => {},
): Promise<Answer<never>> {
  const { method = body === undefined ? 'GET' : 'POST' } = options
  const headers = {
    ...(json !== undefined && { 'content-type': 'application/json' }),
    ...own,
    ...options.headers,
  }
  const response = await fetch(new URL(path, url), {
    method,
    headers,
    ...(body !== undefined && { body }),
    redirect: 'manual',
  })
  answered(response.headers)
  const answer = { status: response.status, headers: response.headers, body: await bodyOf(response) }
  if (expect !== undefined && response.status !== expect) throw unexpected(`${method} ${path}`, expect, answer)
  return answer as Answer<never>
}

async function bodyOf(response: Response): Promise<unknown> {
  const bytes = Buffer.from(await response.arrayBuffer())
  if (bytes.length === 0) return undefined
  const type = response.headers.get('content-type') ?? ''
  if (/^application\/([\w.+-]+\+)?json\b/.test(type)) return JSON.parse(bytes.toString())
  return /^text\/|charset=utf-8/i.test(type) ? bytes.toString() : bytes
}

/** As much as the app says in a test: which error, what caused it, and the lines of code around it. */
function unexpected(what: string, expected: number, { status, body }: Answer<unknown>): RungError {
  const { detail, fault } = (typeof body === 'object' ? (body ?? {}) : {}) as Partial<Problem>
  const reasons = fault?.errors.map(({ name, message }) => `${name}: ${message}`) ?? []
  const told = detail ?? (typeof body === 'string' ? body.slice(0, 500) : JSON.stringify(body))
  const causes = reasons.filter((reason) => !reason.includes(String(told)))
  const text = [`${what} was answered with ${status}, not ${expected}: ${told}`, ...causes, fault?.at, fault?.frame]
  return new RungError('TEST_STATUS', text.filter(Boolean).join('\n'))
}
