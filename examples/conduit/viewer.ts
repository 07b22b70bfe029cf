import type { FastifyRequest } from 'fastify'
import { refuse } from './errors.ts'

/** What the other modules need of identity to know who asks. */
export interface Authenticate {
  authenticate(input: { token: string }): Promise<{ accountId: number } | null>
}

const scheme = /^Token ([\w.-]+)$/

/** The account that signed the request, or `null` for the anonymous. A token that is there must be good. */
export async function viewerOf(request: FastifyRequest, identity: Authenticate): Promise<number | null> {
  const { authorization } = request.headers
  if (authorization === undefined) return null
  const token = scheme.exec(authorization)?.[1]
  const found = token === undefined ? null : await identity.authenticate({ token })
  if (!found) throw refuse('HTTP_UNAUTHORIZED', 'token', 'is invalid')
  return found.accountId
}

/** The account that signed the request; the anonymous are refused. */
export async function signedIn(request: FastifyRequest, identity: Authenticate): Promise<number> {
  const viewer = await viewerOf(request, identity)
  if (viewer === null) throw refuse('HTTP_UNAUTHORIZED', 'token', 'is missing')
  return viewer
}

/** A hook for routes that refuse the anonymous before they look at what was sent. */
export function onlySignedIn(identity: Authenticate): (request: FastifyRequest) => Promise<void> {
  return async (request) => void (await signedIn(request, identity))
}
