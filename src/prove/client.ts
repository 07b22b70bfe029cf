import { type Answer, NoAnswer } from '../load/connections.ts'
import type { Visitor } from '../load/visitor.ts'

export interface ProofUser {
  /** Sent with each request of the user: `{ authorization: 'Bearer …' }`. Sessions by cookie need none. */
  readonly headers?: Readonly<Record<string, string>>
}

/** A session of a user. It keeps its cookies. Each call returns the body of the answer, parsed, and throws if that is no success. */
export interface Client<User extends ProofUser = ProofUser> {
  readonly user: User
  /** The same session with the headers of another user, such as one that was just made. */
  as<Other extends ProofUser>(user: Other): Client<Other>
  get<Body>(path: string): Promise<Body>
  post<Body>(path: string, body?: object): Promise<Body>
  put<Body>(path: string, body?: object): Promise<Body>
  patch<Body>(path: string, body?: object): Promise<Body>
  delete<Body>(path: string, body?: object): Promise<Body>
}

/** There was no success. */
export class NoSuccess extends Error {
  /** `undefined` without an answer. */
  readonly status: number | undefined
  /** Whether the server has said that nothing happened, and never will. */
  readonly isCertain: boolean

  constructor(text: string, status: number | undefined, isCertain: boolean, cause?: unknown) {
    super(text, { cause })
    this.status = status
    this.isCertain = isCertain
  }
}

/** @param send adds these headers to each request, beside those of the user */
export function clientOf<User extends ProofUser>(
  visitor: Pick<Visitor, 'request'>,
  user: User,
  headers: Readonly<Record<string, string>> = {},
): Client<User> {
  async function request(method: string, path: string, body?: object) {
    const route = `${method} ${path.split('?')[0]!.replace(/\/[^/]*\d[^/]*/g, '/…')}`
    const options = { route, headers: { ...user.headers, ...headers }, ...(body && { body }) }
    const answer = await visitor.request(method, path, options).catch((cause) => {
      const isRefused = cause.cause instanceof NoAnswer && cause.cause.failure === 'refused' // it was never sent
      throw new NoSuccess(`${method} ${path} was not answered`, undefined, isRefused, cause)
    })
    if (answer.status < 300) return answer.body.length === 0 ? undefined : answer.json()
    const text = `${answer.status} ${String(answer.body).slice(0, 200)}`
    throw new NoSuccess(text, answer.status, isCertain(answer, text))
  }
  return {
    user,
    as: (other) => clientOf(visitor, other, headers),
    get: (path) => request('GET', path) as never,
    post: (path, body) => request('POST', path, body) as never,
    put: (path, body) => request('PUT', path, body) as never,
    patch: (path, body) => request('PATCH', path, body) as never,
    delete: (path, body) => request('DELETE', path, body) as never,
  }
}

/** An answer with `Retry-After` promises that nothing has happened; so does a refusal, unless an earlier request with the key is still in hand. */
function isCertain({ status, header }: Pick<Answer, 'status' | 'header'>, text: string): boolean {
  if (status >= 500) return header('retry-after') !== undefined
  return status !== 408 && !(status === 409 && /idempotency/i.test(text))
}
