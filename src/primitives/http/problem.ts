import type { FastifyError, FastifyRequest } from 'fastify'
import { type ErrorCode, errorCodes, errorOf, isRungError, messageOf, RungError } from '../../kernel/errors.ts'
import { type Fault, faultOf } from '../../kernel/fault.ts'
import type { Scope } from '../../kernel/scope.ts'

/** RFC 9457 "problem details": the form in which every error leaves the app. `code` is stable; match on it, never on the text. */
export interface Problem {
  type: string
  title: string
  status: number
  code: ErrorCode
  detail: string
  /** The request's id, which is in the log too. */
  instance: string
  /** For HTTP_VALIDATION: the wrong fields, each a JSON pointer into the body, query, params or headers, with a reason. */
  errors?: ProblemField[]
  /** In development and tests, for errors of the server: where the error was thrown, and why. */
  fault?: Fault
  [fact: string]: unknown
}

export interface ProblemField {
  in: string
  path: string
  message: string
}

/** Codes for errors of Fastify and its plugins, by their status. */
const byStatus: Record<number, ErrorCode> = {
  400: 'HTTP_BAD_REQUEST',
  401: 'HTTP_UNAUTHORIZED',
  403: 'HTTP_FORBIDDEN',
  404: 'HTTP_NOT_FOUND',
  405: 'HTTP_METHOD_NOT_ALLOWED',
  409: 'HTTP_CONFLICT',
  413: 'HTTP_TOO_LARGE',
  415: 'HTTP_MEDIA_TYPE',
  422: 'HTTP_VALIDATION',
  429: 'HTTP_TOO_MANY_REQUESTS',
  503: 'HTTP_OVERLOADED',
}

/** Returns whatever was thrown as a coded error. An unknown error becomes HTTP_INTERNAL with the cause kept. */
export function toRungError(thrown: unknown): RungError {
  const error = errorOf(thrown)
  if (isRungError(error)) return error
  const { code, statusCode, validation, validationContext, message } = error as Partial<FastifyError> & Error
  if (validation?.[0]) {
    const [field] = validation
    const place = `${validationContext ?? 'body'}${field.instancePath}`
    return new RungError('HTTP_VALIDATION', `${place} ${reason(field)}`, { cause: error })
  }
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return new RungError('HTTP_MEDIA_TYPE', mediaType, { cause: error })
  if (code === 'FST_ERR_MAX_PARAM_LENGTH') return new RungError('HTTP_BAD_REQUEST', message, { cause: error })
  // A plugin's refusal keeps its status, such as the 429 of a rate limiter.
  if (statusCode !== undefined && ((statusCode >= 400 && statusCode < 500) || statusCode === 503)) {
    const known = byStatus[statusCode] ?? 'HTTP_REFUSED'
    return new RungError(known, message || errorCodes[known].title, { cause: error, status: statusCode })
  }
  return new RungError('HTTP_INTERNAL', 'Something went wrong on the server.', { cause: error })
}

/** Returns the error for a result that could not be serialised. */
export function unserializable(thrown: unknown, { method, routeOptions }: FastifyRequest): RungError {
  if (isRungError(thrown)) return thrown
  const reason = (routeOptions.schema as { response?: unknown } | undefined)?.response
    ? 'does not fit its response schema'
    : 'cannot be written as JSON'
  const message = `The result of ${method} ${routeOptions.url} ${reason}: ${messageOf(thrown)} Change the result or the schema.`
  return new RungError('HTTP_ANSWER_INVALID', message, { cause: errorOf(thrown) })
}

const mediaType =
  'The route does not accept a body of this media type. Send another one, such as Content-Type: application/json.'

/** Statuses that invite a client or a proxy to send the request again. */
const temporary = new Set([408, 425, 429, 503, 504, 507])

/**
 * Returns the error to answer with. If the request has committed something, or may have, the answer must not invite its client to send it
 * again: a temporary error keeps its status, but has the code `HTTP_SAVED_IN_PART` or `DATA_OUTCOME_UNKNOWN` and no Retry-After.
 */
export function afterCommit(error: RungError, scope: Scope | undefined): RungError {
  const isUnknown = scope !== undefined && scope.commitsInDoubt > 0
  if (!scope?.wrote && !isUnknown) return error
  const { status, code, facts, cause } = error
  const invites = temporary.has(status) || facts.retryAfterS !== undefined
  // A repeated request for an answer that another attempt is making has no second effect.
  if (code === 'IDEMPOTENCY_IN_FLIGHT' || !(invites || status >= 500)) return error
  if (!invites) return new RungError(code, `${error.message} ${saved}`, { cause, status, facts: { ...facts, saved } })
  const { retryAfterS, ...rest } = facts
  const what = isUnknown
    ? `The answer to a commit is missing (${code}), so it is not known whether this request was saved.`
    : `This request failed (${code}) after a part of it was saved.`
  const advice = scope.repeatable
    ? 'Send it again with the same Idempotency-Key: it continues from there, and nothing is done twice.'
    : 'Check what was saved before you send it again: it may be done twice.'
  return new RungError(isUnknown ? 'DATA_OUTCOME_UNKNOWN' : 'HTTP_SAVED_IN_PART', `${what} ${advice}`, {
    cause: error,
    status,
    facts: { ...rest, failed: code },
  })
}

const saved = 'A part of this request was saved before it failed.'

const serverFault = 'The server failed. Its log has the details under this instance.'

/**
 * Returns the problem for an error. For faults of the server (5xx) it contains no more than the code, unless `revealing` (development);
 * 503 and 507 say what to do.
 */
export function toProblem(error: RungError, instance: string, revealing: boolean): Problem {
  const { status, title, code } = error
  const tellable = revealing || status < 500 || status === 503 || status === 507 || code === 'HTTP_SAVED_IN_PART'
  const fields = (error.cause as Partial<FastifyError> | undefined)?.validation
  return {
    type: `urn:rung:error:${code}`,
    title,
    status,
    code,
    detail: tellable ? error.message : [serverFault, error.facts.saved].filter(Boolean).join(' '),
    instance,
    ...(fields && {
      errors: fields.map((field) => ({
        in: (error.cause as FastifyError).validationContext ?? 'body',
        path: field.instancePath + missingProperty(field.params),
        message: reason(field),
      })),
    }),
    ...(tellable ? error.facts : {}),
    ...(revealing && status >= 500 && { fault: faultOf(code === 'HTTP_INTERNAL' ? (error.cause ?? error) : error) }),
  }
}

/** A missing value is reported as such, whichever rule notices it first. */
function reason(field: { message?: string; data?: unknown }): string {
  if (field.data === null) return 'must not be null'
  if (field.data === '') return 'must not be empty'
  return field.message ?? 'is invalid'
}

function missingProperty(params: Record<string, unknown>): string {
  return typeof params.missingProperty === 'string' ? `/${params.missingProperty}` : ''
}
