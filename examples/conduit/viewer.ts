import type { FastifyRequest } from 'fastify'
import { refuse } from './errors.ts'

/** What the other modules need of identity to know who asks. */
export interface Authenticate {
  authenticate(input: { token: string }): Promise<{ accountId: number } | null>
}

/** What follows the scheme `Token` in an `Authorization` header. */
export function tokenIn(authorization: string | undefined): string | undefined {
  return /^Token ([\w.-]+)$/.exec(authorization ?? '')?.[1]
}

const known = new WeakMap<FastifyRequest, Promise<number | null>>()

/** The account that signed the request, or `null` for the anonymous. A token that is no good is none: the route may not need one. */
export function viewerOf(request: FastifyRequest, identity: Authenticate): Promise<number | null> {
  const found = known.get(request) ?? authenticated(request, identity) // asked for by limits, hooks and handlers
  known.set(request, found)
  return found
}

async function authenticated({ headers }: FastifyRequest, identity: Authenticate): Promise<number | null> {
  const token = tokenIn(headers.authorization)
  const found = token === undefined ? null : await identity.authenticate({ token })
  return found?.accountId ?? null
}

/** The account that signed the request; the anonymous are refused. */
export async function signedIn(request: FastifyRequest, identity: Authenticate): Promise<number> {
  const viewer = await viewerOf(request, identity)
  if (viewer !== null) return viewer
  throw refuse('HTTP_UNAUTHORIZED', 'token', request.headers.authorization === undefined ? 'is missing' : 'is invalid')
}

/** A hook for routes that refuse the anonymous before they look at what was sent. */
export function onlySignedIn(identity: Authenticate): (request: FastifyRequest) => Promise<void> {
  return async (request) => void (await signedIn(request, identity))
}
