import type { ErrorCode } from '../../kernel/errors.ts'

/** The path at which the edge asks a process of the app for its state. `primitives/http/edge-terms.ts` answers. */
export const edgeStatePath = '/-/edge/state'
/** How long the app has worked on the request, in ms. The rest of the time that the edge sees, the request has waited for it. */
export const tookHeader = 'x-rung-took'
/** Share of the limit of requests in progress from which on the edge refuses a route, by its priority. */
export const edgeShares = { sheddable: 0.25, normal: 1, critical: 4 } as const
/** Placeholder for the request's id in a prepared refusal. */
export const requestIdPlaceholder = 'rung-edge-request-id'

/** Refusals by the edge itself, without the app: by status, the code and the detail for the client. */
export const edgeRefusals: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  400: ['HTTP_BAD_REQUEST', 'The request cannot be read. Check its address and its headers.'],
  404: ['HTTP_NOT_FOUND', 'There is nothing at this address.'],
  405: ['HTTP_METHOD_NOT_ALLOWED', 'The method is not allowed here.'],
  414: ['HTTP_TOO_LARGE', 'The address is longer than the app accepts. Send a shorter one.'],
  431: ['HTTP_TOO_LARGE', 'The headers are larger than the app accepts. Send less, for example fewer cookies.'],
  502: [
    'HTTP_OUTCOME_UNKNOWN',
    'The app did not answer, so it is not known whether this was done. Check before you send it again.',
  ],
  503: ['HTTP_OVERLOADED', 'The app cannot take this request now. Try again.'],
}
