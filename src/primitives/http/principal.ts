import type { FastifyInstance, FastifyRequest } from 'fastify'
import { currentScope } from '../../kernel/scope.ts'

/** Who asks: what limits, records and sessions are kept by. */
export interface Principal {
  /** Stable and unique in the app: an account's id. */
  readonly id: string
  /** Of the app's own plans; limits may differ by it. */
  readonly plan?: string | undefined
}

/** Says who signed a request; `undefined` for the anonymous, also where what they show is no good. */
export type Identify = (request: FastifyRequest) => PromiseLike<Principal | undefined> | Principal | undefined

const ways = Symbol('rung.identify')
const known = new WeakMap<FastifyRequest, Promise<Principal | undefined>>()

type Identifying = FastifyInstance & { [ways]?: Identify[] }

/** Once for each app, before its routes. */
export function prepareIdentify(app: FastifyInstance): void {
  app.decorate(ways, [])
}

/** From now on `identify` is asked as well, after those before it. */
export function identifyBy(app: FastifyInstance, identify: Identify): void {
  ;(app as Identifying)[ways]!.push(identify)
}

/** Who sent this request, found out once. A way that fails (a token that is no good) has found nobody. */
export function principalOf(request: FastifyRequest): Promise<Principal | undefined> {
  let found = known.get(request)
  if (!found) {
    found = identify(request)
    known.set(request, found)
  }
  return found
}

/**
 * The position of a client without cookies is known by who they are. So while that is being found out it is unknown, and what is read
 * for it is read as for a position that cannot be had: `recall` would wait for this very answer.
 */
async function identify(request: FastifyRequest): Promise<Principal | undefined> {
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

async function askAll(request: FastifyRequest): Promise<Principal | undefined> {
  for (const way of (request.server as Identifying)[ways] ?? []) {
    try {
      const principal = await way(request)
      if (principal) return principal
    } catch {
      // the route's own check says what is wrong with it
    }
  }
  return undefined
}
