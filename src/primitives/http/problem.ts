import type { FastifyError, FastifyRequest } from 'fastify'
import { type ErrorCode, errorCodes, errorOf, isRungError, messageOf, RungError } from '../../kernel/errors.ts'
import { type Fault, faultOf } from '../../kernel/fault.ts'
import type { Scope } from '../../kernel/scope.ts'

/** RFC 9457 "problem details", as every error leaves the app. `code` is stable; match on it, never on the text. */
export interface Problem {
  type: string
  title: string
  status: number
  code: ErrorCode
  detail: string
  /** The request's id, also found in the log. */
  instance: string
  /** What in the request was wrong, for HTTP_VALIDATION: where (a JSON pointer below body, query, params or headers) and why. */
  errors?: ProblemField[]
  /** Of an error of the server, in development and tests: where it was thrown, and why. */
  fault?: Fault
  [fact: string]: unknown
}

export interface ProblemField {
  in: string
  path: string
  message: string
}

/** Fastify's own codes (its documentation, Reference/Errors) and Node's parser errors, in ours. */
const foreignCodes: Record<string, ErrorCode> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'HTTP_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'HTTP_MEDIA_TYPE',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'HTTP_BAD_REQUEST',
  FST_ERR_CTP_INVALID_JSON_BODY: 'HTTP_BAD_REQUEST',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'HTTP_BAD_REQUEST',
  FST_ERR_BAD_URL: 'HTTP_BAD_REQUEST',
  FST_ERR_MAX_PARAM_LENGTH: 'HTTP_BAD_REQUEST',
  FST_ERR_ASYNC_CONSTRAINT: 'HTTP_BAD_REQUEST',
  FST_ERR_NOT_FOUND: 'HTTP_NOT_FOUND',
}

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

/** Anything that was thrown, as a coded error. What is not known becomes HTTP_INTERNAL with the cause kept. */
export function toRungError(thrown: unknown): RungError {
  const error = errorOf(thrown)
  if (isRungError(error)) return error
  const { code, statusCode, validation, validationContext, message } = error as Partial<FastifyError> & Error
  if (validation?.[0]) {
    const [field] = validation
    const place = `${validationContext ?? 'body'}${field.instancePath}`
    return new RungError('HTTP_VALIDATION', `${place} ${reason(field)}`, { cause: error })
  }
  const foreign =
    foreignCodes[code ?? ''] ?? (error instanceof SyntaxError && statusCode === 400 ? 'HTTP_BAD_REQUEST' : undefined)
  if (foreign === 'HTTP_MEDIA_TYPE') return new RungError(foreign, mediaType, { cause: error })
  if (foreign) return new RungError(foreign, message || errorCodes[foreign].title, { cause: error })
  // A plugin's own refusal keeps its status: a rate limiter's 429, a pressure gauge's 503.
  if (statusCode !== undefined && ((statusCode >= 400 && statusCode < 500) || statusCode === 503)) {
    const plain = byStatus[statusCode] ?? 'HTTP_REFUSED'
    return new RungError(plain, message || errorCodes[plain].title, { cause: error, status: statusCode })
  }
  return new RungError('HTTP_INTERNAL', 'Something went wrong on the server.', { cause: error })
}

/** The error of an answer that could not be turned into text. */
export function unserializable(thrown: unknown, { method, routeOptions }: FastifyRequest): RungError {
  if (isRungError(thrown)) return thrown
  const why = (routeOptions.schema as { response?: unknown } | undefined)?.response
    ? 'does not fit its response schema'
    : 'cannot be written as JSON'
  const message = `The answer of ${method} ${routeOptions.url} ${why}: ${messageOf(thrown)} Change what the handler returns, or the schema.`
  return new RungError('HTTP_ANSWER_INVALID', message, { cause: errorOf(thrown) })
}

const mediaType =
  'The route takes no body of this media type. Send one that it takes, such as Content-Type: application/json.'

/** Statuses that invite a client, or a proxy on its way, to send the request anew. */
const temporary = new Set([408, 425, 429, 503, 504, 507])

/**
 * The error as it may be told once its request has committed something, or may have: nobody is invited to send the whole of
 * it anew. The status stays; a temporary one has the code `HTTP_SAVED_IN_PART` or `DATA_OUTCOME_UNKNOWN`, and no Retry-After.
 */
export function afterCommit(error: RungError, scope: Scope | undefined): RungError {
  const isUnknown = scope !== undefined && scope.commitsInDoubt > 0
  if (!scope?.wrote && !isUnknown) return error
  const { status, code, facts, cause } = error
  const invites = temporary.has(status) || facts.retryAfterS !== undefined
  // Whoever asks again for an answer that another try is making does nothing twice.
  if (code === 'IDEMPOTENCY_IN_FLIGHT' || !(invites || status >= 500)) return error
  if (!invites) return new RungError(code, `${error.message} ${saved}`, { cause, status, facts: { ...facts, saved } })
  const { retryAfterS, ...rest } = facts
  const what = isUnknown
    ? `The answer to a commit is missing (${code}), so whether this request was saved is not known.`
    : `This request failed (${code}) after something in it was saved.`
  const advice = scope.repeatable
    ? 'Send it once more with the same Idempotency-Key: it goes on from there, and nothing is done twice.'
    : 'Look at what is there first: sent once more, it may be done twice.'
  return new RungError(isUnknown ? 'DATA_OUTCOME_UNKNOWN' : 'HTTP_SAVED_IN_PART', `${what} ${advice}`, {
    cause: error,
    status,
    facts: { ...rest, failed: code },
  })
}

const saved = 'Something in this request was saved before it failed.'

const mistake = 'The server made a mistake. Its log has the details under this instance.'

/**
 * The answer for an error. Of faults of the server (5xx) a client learns no more than the code, unless `revealing`
 * (development); 503 and 507 say what to do.
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
    detail: tellable ? error.message : [mistake, error.facts.saved].filter(Boolean).join(' '),
    instance,
    ...(fields && {
      errors: fields.map((field) => ({
        in: (error.cause as FastifyError).validationContext ?? 'body',
        path: field.instancePath + missingProperty(field.params),
        message: reason(field),
      })),
    }),
    ...(tellable ? error.facts : {}),
    ...(revealing && status >= 500 && { fault: faultOf(thrownBy(error)) }),
  }
}

/** An error that Rung does not know is wrapped; its reader wants to know of the error itself. */
function thrownBy(error: RungError): unknown {
  return error.code === 'HTTP_INTERNAL' && error.cause !== undefined ? error.cause : error
}

/** Nothing where something was asked for is the same mistake, whatever rule notices it first. */
function reason(field: { message?: string; data?: unknown }): string {
  if (field.data === null) return 'must not be null'
  if (field.data === '') return 'must not be empty'
  return field.message ?? 'is invalid'
}

function missingProperty(params: Record<string, unknown>): string {
  return typeof params.missingProperty === 'string' ? `/${params.missingProperty}` : ''
}
