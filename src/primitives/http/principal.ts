import type { FastifyInstance, FastifyRequest } from 'fastify'
import { errorOf, partOf } from '../../kernel/errors.ts'
import { currentScope, type Principal } from '../../kernel/scope.ts'

/**
 * Says who signed a request; `undefined` for the anonymous, also where what they show is no good (or an error with the status 401 or
 * 403). Any other error means that it could not be found out.
 */
export type Identify = (request: FastifyRequest) => PromiseLike<Principal | undefined> | Principal | undefined

const ways = Symbol('rung.identify')
const known = new WeakMap<FastifyRequest, Promise<Found>>()

interface Found {
  principal?: Principal
  /** Why it could not be found out. */
  failure?: unknown
}

type Identifying = FastifyInstance & { [ways]?: Identify[] }

/** Once for each app, before its routes. */
export function prepareIdentify(app: FastifyInstance): void {
  app.decorate(ways, [])
}

/** From now on `identify` is asked as well, after those before it. */
export function identifyBy(app: FastifyInstance, identify: Identify): void {
  ;(app as Identifying)[ways]!.push(identify)
}

/** Who sent this request, found out once; nobody where it cannot be found out. For limits and the like, which must not fail. */
export async function principalOrNobody(request: FastifyRequest): Promise<Principal | undefined> {
  return (await found(request)).principal
}

/**
 * Who sent this request; `undefined` for the anonymous.
 * @throws what `identify` threw where it could not find it out
 */
export async function principalOf(request: FastifyRequest): Promise<Principal | undefined> {
  const { principal, failure } = await found(request)
  if (principal === undefined && failure !== undefined) throw failure
  return principal
}

function found(request: FastifyRequest): Promise<Found> {
  let one = known.get(request)
  if (!one) {
    one = identify(request)
    known.set(request, one)
  }
  return one
}

/**
 * The position of a client without cookies is known by who they are. So while that is being found out it is unknown, and what is read
 * for it is read as for a position that cannot be had: `recall` would wait for this very answer.
 */
async function identify(request: FastifyRequest): Promise<Found> {
  const scope = currentScope()
  if (!scope?.recall) return askAll(request)
  const { recall, positionUnknown } = scope
  scope.recall = undefined
  scope.positionUnknown = true
  try {
    return await askAll(request)
  } finally {
    scope.recall = recall
    scope.positionUnknown = positionUnknown
  }
}

async function askAll(request: FastifyRequest): Promise<Found> {
  let failure: unknown
  for (const way of (request.server as Identifying)[ways] ?? []) {
    try {
      const principal = await way(request)
      if (!principal) continue
      const scope = currentScope()
      if (scope) scope.principal = principal
      return { principal }
    } catch (error) {
      // A token that is no good: the route's own check says what is wrong with it.
      if (!isRefusal(error)) failure = errorOf(error)
    }
  }
  return { failure }
}

function isRefusal(error: unknown): boolean {
  const status = partOf(error, 'status') ?? partOf(error, 'statusCode')
  return status === 401 || status === 403
}
