import type { FastifyError } from 'fastify'
import { type ErrorCode, errorCodes, isRungError, RungError } from '../../kernel/errors.ts'

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
export function toRungError(error: unknown): RungError {
  if (isRungError(error)) return error
  const { code, statusCode, validation, message } = (error ?? {}) as Partial<FastifyError>
  if (validation) return new RungError('HTTP_VALIDATION', message ?? '', { cause: error })
  const known =
    foreignCodes[code ?? ''] ?? (error instanceof SyntaxError && statusCode === 400 ? 'HTTP_BAD_REQUEST' : undefined)
  if (known) return new RungError(known, message ?? errorCodes[known].title, { cause: error })
  // A plugin's own refusal keeps its status: a rate limiter's 429, a pressure gauge's 503.
  if (statusCode !== undefined && ((statusCode >= 400 && statusCode < 500) || statusCode === 503)) {
    const plain = byStatus[statusCode] ?? 'HTTP_REFUSED'
    return new RungError(plain, message ?? errorCodes[plain].title, { cause: error, status: statusCode })
  }
  return new RungError('HTTP_INTERNAL', 'Something went wrong on the server.', { cause: error })
}

/**
 * The answer for an error. Of faults of the server (5xx) a client learns no more than the code, unless `revealing`
 * (development); 503 and 507 say what to do.
 */
export function toProblem(error: RungError, instance: string, revealing: boolean): Problem {
  const { status, title, code } = error
  const tellable = revealing || status < 500 || status === 503 || status === 507
  const fields = (error.cause as Partial<FastifyError> | undefined)?.validation
  return {
    type: `urn:rung:error:${code}`,
    title,
    status,
    code,
    detail: tellable ? error.message : 'The server made a mistake. Its log has the details under this instance.',
    instance,
    ...(fields && {
      errors: fields.map((field) => ({
        in: (error.cause as FastifyError).validationContext ?? 'body',
        path: field.instancePath + missingProperty(field.params),
        message: reason(field),
      })),
    }),
    ...(tellable ? error.facts : {}),
  }
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
