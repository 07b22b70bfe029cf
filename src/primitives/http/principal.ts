import type { FastifyInstance, FastifyRequest } from 'fastify'
import { errorOf, partOf } from '../../kernel/errors.ts'
import { currentScope, type Principal } from '../../kernel/scope.ts'

/**
 * Returns the principal that signed a request, or `undefined` for an anonymous one. Invalid credentials are anonymous too, and may be
 * reported by an error with the status 401 or 403. Any other error means that the principal could not be determined.
 */
export type Identify = (request: FastifyRequest) => PromiseLike<Principal | undefined> | Principal | undefined

interface Identified {
  principal?: Principal
  /** Why the principal could not be determined. */
  failure?: unknown
}

const identifiers = Symbol('rung.identify')
const identified = new WeakMap<FastifyRequest, Promise<Identified>>()

type Identifying = FastifyInstance & { [identifiers]?: Identify[] }

/** Prepares an app for `identifyBy`. Call it once, before its routes are added. */
export function prepareIdentify(app: FastifyInstance): void {
  app.decorate(identifiers, [])
}

/** Adds a way to identify requests, which is tried after those before it. */
export function identifyBy(app: FastifyInstance, identify: Identify): void {
  ;(app as Identifying)[identifiers]!.push(identify)
}

/** Returns the principal of a request, or `undefined` also if it cannot be determined: for limits and the like, which must not fail. */
export async function principalOrNobody(request: FastifyRequest): Promise<Principal | undefined> {
  return (await identifiedOnce(request)).principal
}

/**
 * Returns the principal of a request, or `undefined` for an anonymous one.
 * @throws the error of `identify` if the principal cannot be determined
 */
export async function principalOf(request: FastifyRequest): Promise<Principal | undefined> {
  const { principal, failure } = await identifiedOnce(request)
  if (principal === undefined && failure !== undefined) throw failure
  return principal
}

function identifiedOnce(request: FastifyRequest): Promise<Identified> {
  const known = identified.get(request) ?? identify(request)
  identified.set(request, known)
  return known
}

/**
 * The position of a client without cookies is stored under its principal. While that is being determined, the position of its credential
 * has to do; without one, reads are made as for a position that is unknown.
 */
async function identify(request: FastifyRequest): Promise<Identified> {
  const scope = currentScope()
  if (!scope?.recall) return tryAll(request)
  const { recall, positionUnknown } = scope
  scope.recall = undefined
  scope.positionUnknown = true
  try {
    if (await recall('credential')) scope.positionUnknown = positionUnknown
    return await tryAll(request)
  } finally {
    scope.recall = recall
    scope.positionUnknown = positionUnknown
  }
}

async function tryAll(request: FastifyRequest): Promise<Identified> {
  let failure: unknown
  for (const one of (request.server as Identifying)[identifiers] ?? []) {
    try {
      const principal = await one(request)
      if (!principal) continue
      const scope = currentScope()
      if (scope) scope.principal = principal
      return { principal }
    } catch (error) {
      // The route's own check reports invalid credentials.
      const status = partOf(error, 'status') ?? partOf(error, 'statusCode')
      if (status !== 401 && status !== 403) failure = errorOf(error)
    }
  }
  return { failure }
}
