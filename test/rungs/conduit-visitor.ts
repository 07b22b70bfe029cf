import assert from 'node:assert/strict'
import { type Target, unique } from './conduit-client.ts'

/** What a browser without JavaScript gets. */
export interface Seen {
  status: number
  headers: Headers
  /** Path and query of the page that it ended on. */
  path: string
  text: string
}

export type Visitor = ReturnType<typeof visitor>

/** A browser without JavaScript: keeps cookies, sends forms, follows where it is led. */
export function visitor(target: Target) {
  const cookies = new Map<string, string>()

  async function go(path: string, init: RequestInit = {}, hops = 5): Promise<Seen> {
    const url = new URL(path, target().baseUrl)
    const response = await fetch(url, {
      redirect: 'manual',
      signal: AbortSignal.timeout(30_000),
      ...init,
      headers: {
        accept: 'text/html',
        ...(cookies.size > 0 && { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') }),
        ...init.headers,
      },
    })
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie)!
      if (/max-age=0\b/i.test(cookie)) cookies.delete(name!)
      else cookies.set(name!, value!)
    }
    const text = await response.text()
    const to = response.headers.get('location')
    if (response.status === 303 && to !== null) {
      assert.ok(hops > 0, `led in circles at ${path}`)
      return go(to, {}, hops - 1)
    }
    return { status: response.status, headers: response.headers, path: url.pathname + url.search, text }
  }

  const send = (path: string, fields: Record<string, string> = {}, headers: Record<string, string> = {}) =>
    go(path, {
      method: 'POST',
      body: new URLSearchParams(fields),
      headers: { 'sec-fetch-site': 'same-origin', ...headers },
    })

  /** One file, as a form sends it. */
  const sendFile = (path: string, name: string, content: Uint8Array, headers: Record<string, string> = {}) => {
    const body = new FormData()
    body.set(name, new File([content as Uint8Array<ArrayBuffer>], 'any name.png', { type: 'image/png' }))
    return sendBody(path, body, headers)
  }

  const sendBody = (
    path: string,
    body: FormData | string | Buffer<ArrayBuffer>,
    headers: Record<string, string> = {},
  ) => go(path, { method: 'POST', body, headers: { 'sec-fetch-site': 'same-origin', ...headers } })

  return {
    cookies,
    get: (path: string, headers: Record<string, string> = {}) => go(path, { headers }),
    send,
    sendFile,
    sendBody,
    async signUp(): Promise<{ username: string; email: string; password: string }> {
      const username = unique('visitor')
      const account = { username, email: `${username}@example.com`, password: 'correct horse' }
      const seen = await send('/register', account)
      assert.equal(seen.status, 200, seen.text)
      assert.match(seen.text, new RegExp(`href="/profile/${username}"`))
      return account
    },
    /** Gives the path of the article. */
    async publish(fields: Partial<Record<'title' | 'description' | 'body' | 'tags', string>> = {}): Promise<string> {
      const article = { title: unique('Title'), description: 'About it', body: 'Words', tags: '', ...fields }
      const seen = await send('/editor', article)
      assert.equal(seen.status, 200, seen.text)
      return seen.path
    },
  }
}
