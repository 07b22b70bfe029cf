import type { ErrorCode } from '../../kernel/errors.ts'

/** Where the edge asks a process of the app for its state. `primitives/http/edge-terms.ts` answers. */
export const edgeStatePath = '/-/edge/state'
/** Stands in a prepared refusal where the id of the request belongs. */
export const requestIdPlaceholder = 'rung-edge-request-id'

/** What the edge refuses without the app, or while the app is away: by status, the code and what the client is told. */
export const edgeRefusals: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  400: ['HTTP_BAD_REQUEST', 'The request cannot be read. Check its address and its headers.'],
  404: ['HTTP_NOT_FOUND', 'There is nothing here.'],
  405: ['HTTP_METHOD_NOT_ALLOWED', 'The method is not allowed here.'],
  413: ['HTTP_TOO_LARGE', 'The body is larger than the app takes. Send less.'],
  414: ['HTTP_TOO_LARGE', 'The address is longer than the app takes. Send a shorter one.'],
  431: ['HTTP_TOO_LARGE', 'The headers are larger than the app takes. Send less, for example fewer cookies.'],
  502: [
    'HTTP_OUTCOME_UNKNOWN',
    'The app did not answer, so it is not known whether this was done. Look before you send it again.',
  ],
  503: ['HTTP_OVERLOADED', 'The app cannot be reached at the moment. Try again.'],
}
