import type { FastifyRequest } from 'fastify'
import { type Principal, principalOf, RungError } from 'rung'

/** Who sends a request: a shop itself, or a customer of it. Every statement of the app is limited to the rows of this shop. */
export interface Caller {
  tenantId: number
  customerId: number | undefined
}

/** The principal is all that travels with a request, so its id says the whole caller. */
export function principalFor({ tenantId, customerId }: Caller): Principal {
  return { id: customerId === undefined ? `shop/${tenantId}` : `customer/${tenantId}/${customerId}` }
}

/** @throws HTTP_UNAUTHORIZED */
export async function callerOf(request: FastifyRequest): Promise<Caller> {
  const principal = await principalOf(request)
  const [, tenantId, customerId] = principal?.id.split('/') ?? []
  if (tenantId === undefined)
    throw new RungError('HTTP_UNAUTHORIZED', 'The key is missing or invalid. Send it as "Authorization: Token <key>".')
  return { tenantId: Number(tenantId), customerId: customerId === undefined ? undefined : Number(customerId) }
}

/** @throws HTTP_UNAUTHORIZED, HTTP_FORBIDDEN */
export async function shopOf(request: FastifyRequest): Promise<Caller> {
  const caller = await callerOf(request)
  if (caller.customerId === undefined) return caller
  throw new RungError('HTTP_FORBIDDEN', "Only the shop itself may do this. Use the shop's key.")
}

/** @throws HTTP_UNAUTHORIZED, HTTP_FORBIDDEN */
export async function customerOf(request: FastifyRequest): Promise<Caller & { customerId: number }> {
  const { tenantId, customerId } = await callerOf(request)
  if (customerId !== undefined) return { tenantId, customerId }
  throw new RungError('HTTP_FORBIDDEN', "Only a customer may do this. Use a customer's key.")
}

/** Options of a route that refuses other callers before it looks at what was sent. */
export const only = (of: (request: FastifyRequest) => Promise<Caller>) => ({
  preValidation: async (request: FastifyRequest) => void (await of(request)),
})
