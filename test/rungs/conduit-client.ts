import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { PositionJar } from '../support/position-jar.ts'
import type { Exchanged, PatientConduit } from './patience.ts'

/** Where the app answers: an origin such as `http://127.0.0.1:3000`; the API is below `/api`. */
export type Target = () => {
  baseUrl: string
  /** Keeps cookies with positions, as a browser does. Without it the client keeps no cookies. */
  positions?: PositionJar
  /** Sends again what may be sent again: processes are killed meanwhile. */
  patience?: PatientConduit
}

export interface User {
  email: string
  token: string
  username: string
  bio: string | null
  image: string | null
}

export interface Profile {
  username: string
  bio: string | null
  image: string | null
  following: boolean
}

export interface Article {
  slug: string
  title: string
  description: string
  body: string
  tagList: string[]
  createdAt: string
  updatedAt: string
  favorited: boolean
  favoritesCount: number
  author: Profile
}

export interface Comment {
  id: number
  createdAt: string
  updatedAt: string
  body: string
  author: Profile
}

/** All that an answer may carry, typed as if it were there: a test that reads an absent part fails at its assert. */
export interface Payload {
  user: User
  profile: Profile
  article: Article
  articles: Article[]
  articlesCount: number
  comment: Comment
  comments: Comment[]
  tags: string[]
  errors: Record<string, string[]>
}

export interface Answer {
  request: string
  status: number
  headers: Headers
  text: string
  body: Payload
  /** It was sent before, and the answer was lost: what it removes may be gone already. */
  uncertain?: boolean
}

export interface Sent {
  token?: string | undefined
  /** Sent as JSON. */
  body?: unknown
  /** Sent as it is, in place of `body`, still called JSON unless `headers` say otherwise. */
  raw?: string
  headers?: Record<string, string>
}

/** A registered user together with the password it chose. */
export interface Person extends User {
  password: string
}

export type NewArticle = Partial<Pick<Article, 'title' | 'description' | 'body' | 'tagList'>>

export type Conduit = ReturnType<typeof conduitClient>

const answerWithinMs = 30_000
const run = randomBytes(5).toString('hex')
let last = 0

/** A name that no other test, run or process uses. */
export function unique(prefix: string): string {
  last += 1
  return `${prefix}-${run}-${last}`
}

export const profilePath = (username: string) => `/profiles/${encodeURIComponent(username)}`
export const articlePath = (slug: string) => `/articles/${encodeURIComponent(slug)}`
export const listPath = (query: Record<string, string | number>) =>
  `/articles?${new URLSearchParams(Object.entries(query).map(([key, value]): [string, string] => [key, String(value)]))}`

/** Calls the API over HTTP. Each answer, of every call, is held against the rules that all of them share. */
export function conduitClient(target: Target) {
  async function call(method: string, path: string, sent: Sent = {}): Promise<Answer> {
    const { baseUrl, positions, patience } = target()
    const headers: Record<string, string> = { ...positions?.header, ...patience?.headersFor(method, path) }
    if (sent.token !== undefined) headers.authorization = `Token ${sent.token}`
    const content = sent.raw ?? (sent.body === undefined ? undefined : JSON.stringify(sent.body))
    if (content !== undefined) headers['content-type'] = 'application/json'
    Object.assign(headers, sent.headers)
    async function send(to: string, body: string | undefined, as: string): Promise<Exchanged> {
      const response = await fetch(`${baseUrl}/api${to}`, {
        method: as,
        headers,
        redirect: 'manual',
        signal: AbortSignal.timeout(answerWithinMs),
        ...(body === undefined ? {} : { body }),
      })
      positions?.note(response.headers)
      return { status: response.status, headers: response.headers, text: await response.text() }
    }
    const hasKey = 'idempotency-key' in headers
    const exchanged = patience
      ? await patience.exchange(
          { method, path, hasKey, send: () => send(path, content, method) },
          { content, token: sent.token },
          (as, to, body) => send(to, body, as),
        )
      : await send(path, content, method)
    const answer = { request: `${method} ${path}`, ...exchanged }
    return { ...answer, body: readBody(answer) }
  }

  const get = (path: string, token?: string) => call('GET', path, { token })
  const post = (path: string, body?: unknown, token?: string) => call('POST', path, { token, body })
  const put = (path: string, body?: unknown, token?: string) => call('PUT', path, { token, body })
  const remove = (path: string, token?: string) => call('DELETE', path, { token })

  async function person(fields: Partial<Pick<Person, 'username' | 'email' | 'password'>> = {}): Promise<Person> {
    const username = fields.username ?? unique('user')
    const asked = { username, email: `${unique('mail')}@example.com`, password: 'correct horse', ...fields }
    const { user } = expectBody(await post('/users', { user: asked }), 201)
    return { ...user, password: asked.password }
  }

  async function article(author: { token: string }, fields: NewArticle = {}): Promise<Article> {
    const asked = { title: unique('Title'), description: 'What it is about', body: 'All of it', ...fields }
    return expectBody(await post('/articles', { article: asked }, author.token), 201).article
  }

  async function comment(author: { token: string }, slug: string, body = 'Well said'): Promise<Comment> {
    return expectBody(await post(`${articlePath(slug)}/comments`, { comment: { body } }, author.token), 201).comment
  }

  async function list(query: Record<string, string | number>, token?: string): Promise<Payload> {
    return expectBody(await get(listPath(query), token))
  }

  const follow = (viewer: { token: string }, username: string) =>
    post(`${profilePath(username)}/follow`, undefined, viewer.token)
  const unfollow = (viewer: { token: string }, username: string) =>
    remove(`${profilePath(username)}/follow`, viewer.token)
  const favorite = (viewer: { token: string }, slug: string) =>
    post(`${articlePath(slug)}/favorite`, undefined, viewer.token)
  const unfavorite = (viewer: { token: string }, slug: string) => remove(`${articlePath(slug)}/favorite`, viewer.token)

  return {
    target,
    call,
    get,
    post,
    put,
    remove,
    person,
    article,
    comment,
    list,
    follow,
    unfollow,
    favorite,
    unfavorite,
  }
}

/** JSON with a request id and never a 5xx; an empty 204; every refusal as `{"errors": {"<field>": ["<message>"]}}`. */
function readBody({ request, status, headers, text }: Omit<Answer, 'body'>): Payload {
  const told = `${request} answered ${status} ${text.slice(0, 300)}`
  assert.ok(status < 500, told)
  assert.ok(headers.get('x-request-id'), `${told}: without x-request-id`)
  if (status === 204) {
    assert.equal(text, '', told)
    return {} as Payload
  }
  assert.match(headers.get('content-type') ?? '', /^application\/([\w.-]+\+)?json\b/, told)
  const body = JSON.parse(text)
  if (status < 400) return body
  assert.ok(typeof body.errors === 'object' && body.errors !== null && !Array.isArray(body.errors), told)
  assert.ok(Object.keys(body.errors).length > 0, told)
  for (const messages of Object.values<unknown>(body.errors)) {
    assert.ok(Array.isArray(messages) && messages.length > 0, told)
    assert.ok(
      messages.every((message) => typeof message === 'string'),
      told,
    )
  }
  return body
}

/** The body of an answer that must have this status. */
export function expectBody(answer: Answer, status = 200): Payload {
  if (answer.uncertain && status === 204 && answer.status === 404) return {} as Payload
  assert.equal(answer.status, status, `${answer.request} answered ${answer.status} ${answer.text.slice(0, 500)}`)
  return answer.body
}

/** A refusal with exactly these messages under exactly these names. */
export function expectErrors(answer: Answer, status: number, errors: Record<string, string[]>): void {
  assert.deepEqual(expectBody(answer, status).errors, errors, answer.request)
}

/** A refusal that names this field, in words of the app's choice. */
export function expectErrorsOf(answer: Answer, status: number, field: string): void {
  const { errors } = expectBody(answer, status)
  assert.deepEqual(Object.keys(errors), [field], `${answer.request} answered ${answer.text}`)
}

/** One of these statuses, where more than one is right; returns the one it was. */
export function expectOneOf(answer: Answer, statuses: number[]): number {
  if (answer.uncertain && answer.status === 404 && statuses.includes(204)) return 204
  assert.ok(
    statuses.includes(answer.status),
    `${answer.request} answered ${answer.status} ${answer.text.slice(0, 500)}`,
  )
  return answer.status
}

/** A refusal of any kind: what it was does not matter, that nobody crashed does. */
export function expectRefused(answer: Answer): void {
  assert.ok(answer.status >= 400 && answer.status < 500, `${answer.request} answered ${answer.status} ${answer.text}`)
}
