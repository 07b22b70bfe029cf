import { type Answer, NoAnswer } from '../load/connections.ts'
import type { Visitor } from '../load/visitor.ts'

export interface ProofUser {
  /** Sent with each request of the user: `{ authorization: 'Bearer …' }`. Sessions by cookie need none. */
  readonly headers?: Readonly<Record<string, string>>
}

/**
 * A session of a user. It keeps its cookies. Each call returns the body of the answer: parsed if it is JSON, otherwise text; `undefined` if there
 * is none. It throws if the answer is no success. After anything but a GET a redirect is one, without a body: it leads to the page of what was done.
 */
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
  /**
   * `refused`: nothing happened, and the same would be said again. `not-done`: nothing happened, and it may be sent again. `unknown`: it may
   * have happened.
   */
  readonly outcome: 'refused' | 'not-done' | 'unknown'

  constructor(text: string, status: number | undefined, outcome: NoSuccess['outcome'], cause?: unknown) {
    super(text, { cause })
    this.status = status
    this.outcome = outcome
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
      const wasSent = !(cause.cause instanceof NoAnswer && cause.cause.failure === 'refused')
      throw new NoSuccess(`${method} ${path} was not answered`, undefined, wasSent ? 'unknown' : 'not-done', cause)
    })
    const { status } = answer
    if (status < 300) return bodyOf(answer)
    if (status < 400 && method !== 'GET') return undefined
    throw new NoSuccess(
      `${status} ${String(answer.body).slice(0, 200)}`,
      status,
      outcomeOf(answer, 'idempotency-key' in options.headers),
    )
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

function bodyOf({ status, body, header, json }: Answer): unknown {
  if (body.length === 0) return undefined
  if (!/\bjson\b/.test(header('content-type') ?? '')) return String(body)
  try {
    return json()
  } catch (cause) {
    throw new NoSuccess(`${status} with a body that is not JSON, as its type says`, status, 'unknown', cause)
  }
}

/**
 * An answer with `Retry-After` promises that nothing has happened; so does a refusal. But with a key it may also say only that the request may be
 * sent again: 409 while an earlier one is still in hand, 503 by an edge whose app was gone before it had answered.
 */
function outcomeOf({ status, header }: Answer, hasKey: boolean): NoSuccess['outcome'] {
  const isTemporary = header('retry-after') !== undefined
  if (isTemporary) return status === 409 || (status >= 500 && hasKey) ? 'unknown' : 'not-done'
  return status >= 500 || status === 408 ? 'unknown' : 'refused'
}

/** How often something is tried that has to succeed in the end, and after which pause. */
export const triesMax = 40
export const tellAgainMs = 250

/**
 * For requests with an Idempotency-Key: sends one until it is known what became of it.
 * @throws NoSuccess, with an unknown outcome if any try had one: a later refusal may be from before the server looks for the key
 */
export async function untilKnown<T>(
  send: () => Promise<T>,
  { think }: Pick<Visitor, 'think'>,
  over: AbortSignal,
): Promise<T> {
  let unknown: NoSuccess | undefined
  for (let tries = 1; ; tries += 1) {
    try {
      return await send()
    } catch (error) {
      if (!(error instanceof NoSuccess)) throw error
      if (error.outcome === 'unknown') unknown = error
      if (error.outcome === 'refused' || tries >= triesMax || over.aborted) throw unknown ?? error
    }
    await think(tellAgainMs)
  }
}
