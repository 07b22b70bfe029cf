import cors from '@fastify/cors'
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify'
import { after, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { Html } from '../../kernel/html.ts'
import { requestTimeoutDefaultMs } from '../../kernel/http-facts.ts'
import { uuid } from '../../kernel/random.ts'
import { runInScope, Scope } from '../../kernel/scope.ts'
import { toBytes, toMs } from '../../kernel/units.ts'
import { trustedNetworks } from './address.ts'
import { compressAnswers } from './compression.ts'
import type { CorsOptions, Http, HttpOptions } from './contract.ts'
import { drainOnClose } from './drain.ts'
import { methodsAt } from './methods.ts'
import { documentation } from './openapi.ts'
import { answerPages, asPage } from './pages.ts'
import { prepareIdentify } from './principal.ts'
import { afterCommit, type Problem, toProblem, toRungError, unserializable } from './problem.ts'
import { onResponseEnd } from './response-end.ts'
import type { SchemaTypes } from './route-types.ts'
import { childOf, parseTraceparent } from './trace-context.ts'
import { validatorCompiler } from './validation.ts'

export interface HttpSettings extends HttpOptions {
  logger: FastifyBaseLogger
  /** Whether clients see faults of the server. For development only. */
  revealing: boolean
}

/** Returns how long a request may take, in ms. */
export function requestTimeoutOf({ requestTimeout }: Pick<HttpOptions, 'requestTimeout'>): number {
  return requestTimeout === undefined ? requestTimeoutDefaultMs : toMs(requestTimeout)
}

/**
 * Returns a Fastify with scopes, limits, validation, problem+json, request ids, trace context, security headers and OpenAPI. It does not
 * listen yet.
 * @throws APP_INVALID
 */
export async function createHttp(settings: HttpSettings): Promise<Http> {
  const requestTimeoutMs = requestTimeoutOf(settings)
  const headersTimeoutMs = toMs(settings.headersTimeout ?? '10s')
  const proxies = trustedNetworks(settings.trustProxy)
  const app: FastifyInstance = Fastify({
    loggerInstance: settings.logger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: toBytes(settings.bodyMax ?? '1MiB'),
    keepAliveTimeout: toMs(settings.keepAliveTimeout ?? '65s'),
    requestTimeout: requestTimeoutMs,
    trustProxy: proxies.length > 0 && [...proxies],
    forceCloseConnections: 'idle',
    return503OnClosing: false, // readiness is turned off first, and requests that still arrive are answered
    routerOptions: { maxParamLength: 1024 },
    genReqId: (request) => incomingId(request.headers['x-request-id']) ?? uuid(),
    frameworkErrors: (error, request, reply) => sendProblem(error, request as never, reply as never),
    http: {
      maxHeaderSize: toBytes(settings.headersMax ?? '16KiB'),
      headersTimeout: headersTimeoutMs,
      connectionsCheckingInterval: 1_000,
    },
    clientErrorHandler,
  })
  app.server.maxConnections = settings.connectionsMax ?? 10_000
  drainOnClose(app, { headersMs: headersTimeoutMs, requestMs: requestTimeoutMs })
  app.setValidatorCompiler(validatorCompiler())
  parseBodies(app)
  prepareIdentify(app)
  app.setErrorHandler(sendProblem)
  const allowedAt = methodsAt(app)
  app.setNotFoundHandler((request, reply) => {
    const allowed = allowedAt(request.url.split('?', 1)[0]!)
    // If a route accepts the method, its handler has called `callNotFound`.
    const isAbsent = allowed.length === 0 || allowed.includes(request.method)
    if (isAbsent) return sendProblem(notFound(request), request, reply)
    reply.header('allow', allowed.join(', '))
    const message = `${pathOf(request.url)} accepts ${allowed.join(', ')}, not ${request.method}.`
    return sendProblem(new RungError('HTTP_METHOD_NOT_ALLOWED', message, { facts: { allowed } }), request, reply)
  })
  requestScopes(app, requestTimeoutMs)
  app.addHook('onRequest', (request, reply, done) => {
    reply.headers(securityHeaders)
    // Routes that show the inside of the app answer on its own port only, and not through a proxy.
    const isHidden = request.routeOptions.config?.system && (request.ips?.length ?? 0) > 1
    done(isHidden ? notFound(request) : undefined)
  })
  noteSerializing(app)
  discardRests(app)
  await addCors(app, settings.cors)
  answerPages(app)
  compressAnswers(app)
  documentation(app, settings)
  return app.withTypeProvider<SchemaTypes>()

  function sendProblem(thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const error = serializing.delete(request) ? unserializable(thrown, request) : toRungError(thrown)
    const scope = scopes.get(request)
    // Under overload no line is written for each refusal. They are counted.
    const isRefusal = error.code === 'HTTP_OVERLOADED' && error.cause === undefined
    if (error.status >= 500 && !isRefusal) request.log.error({ err: error, requestId: request.id }, error.message)
    const shown = afterCommit(error, scope)
    const problem = toProblem(shown, request.id, settings.revealing)
    reply.removeHeader('content-encoding') // belongs to the answer that is not sent
    reply.removeHeader('connection') // Fastify would close the connection while the client still sends; see `discardRests`
    if (!reply.hasHeader('x-request-id')) reply.headers(securityHeaders).header('x-request-id', request.id) // no hook has run yet
    reply.status(problem.status).header('cache-control', 'no-store')
    const { retryAfterS } = shown.facts
    if (shown !== error) reply.removeHeader('retry-after')
    else if (problem.status === 503 || retryAfterS !== undefined) reply.header('retry-after', String(retryAfterS ?? 1))
    const formatted = ownForm(problem, request)
    if (formatted instanceof Html) return asPage(reply).send(formatted)
    // As text, because the route's schema for this status must not refuse it.
    if (formatted !== undefined) return reply.type('application/json; charset=utf-8').send(formatted)
    return reply.type('application/problem+json; charset=utf-8').send(JSON.stringify(problem))
  }

  /** Returns the problem in the app's own form, or `undefined` if it has none or fails. */
  function ownForm(problem: Problem, request: FastifyRequest): Html | string | undefined {
    try {
      const formatted = settings.formatProblem?.(problem, request)
      return formatted instanceof Html || typeof formatted === 'string' ? formatted : JSON.stringify(formatted)
    } catch (error) {
      request.log.error({ err: error, requestId: request.id }, 'formatProblem failed; the problem was sent as it is')
      return undefined
    }
  }
}

/**
 * Headers for an API, whose answers run and frame nothing. Pages set their own policy.
 * Source: OWASP REST Security Cheat Sheet, "Security Headers".
 */
const securityHeaders = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
}

const scopes = new WeakMap<FastifyRequest, Scope>()

/**
 * Gives each request a scope with its deadline and ids. For a Fastify server that Rung did not create, call it before the routes are added.
 * @example requestScopes(fastify)
 */
export function requestScopes(app: FastifyInstance, requestTimeoutMs = requestTimeoutDefaultMs): void {
  app.addHook('onRequest', (request, reply, done) => {
    const id = incomingId(request.headers['x-request-id']) ?? request.id
    const scope = new Scope('request', id, `${request.method} ${request.routeOptions.url ?? '(none)'}`)
    scopes.set(request, scope)
    scope.traceparent = childOf(parseTraceparent(request.headers.traceparent))
    scope.deadlineAt = systemClock.ticks() + requestTimeoutMs
    reply.header('x-request-id', scope.id)
    reply.header('traceparent', scope.traceparent)
    const cancelTimer = after(requestTimeoutMs, () => {
      const error = new RungError(
        'HTTP_TIMEOUT',
        `The request took longer than ${requestTimeoutMs / 1000} s. Request less, or try again.`,
      )
      scope.cancel(error)
      // While the body still arrives, the server's own limit answers with 408 and closes the connection.
      if (!reply.sent && request.raw.complete) runInScope(scope, () => reply.send(error))
    })
    onResponseEnd(reply.raw, () => {
      cancelTimer()
      if (!reply.raw.writableFinished) {
        scope.cancel(new RungError('HTTP_CLIENT_GONE', `The client closed request ${id} before the answer.`))
      }
    })
    runInScope(scope, done)
  })
}

/** Requests whose results are being serialised: an error that is thrown meanwhile is about the result. */
const serializing = new WeakSet<FastifyRequest>()

function noteSerializing(app: FastifyInstance): void {
  app.addHook('preSerialization', (request, _reply, payload, done) => {
    serializing.add(request)
    done(null, payload)
  })
  app.addHook('onSend', (request, _reply, payload, done) => {
    serializing.delete(request)
    done(null, payload)
  })
}

function notFound({ method, url }: FastifyRequest): RungError {
  return new RungError('HTTP_NOT_FOUND', `There is no ${method} ${pathOf(url)}.`)
}

/**
 * If a request was answered before its body had arrived, reads the rest and discards it. If the connection were closed instead, the client
 * would be cut off while it sends and would not see the answer. The time limit of requests bounds this.
 */
function discardRests(app: FastifyInstance): void {
  app.addHook('onResponse', ({ raw }, _reply, done) => {
    if (!raw.complete && !raw.destroyed) raw.unpipe().resume()
    done()
  })
}

/**
 * Accepts empty JSON bodies, because clients send the content type with every request; where a body is needed, the schema says so.
 * Refuses compressed bodies, unless a plugin has unpacked them and removed the header.
 */
function parseBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (isCompressed(request)) done(compressedBody(request))
    else if (body === '') done(null, undefined)
    else parse(request, body as string, done)
  })
  app.addHook('preValidation', (request, _reply, done) => {
    const isWhole =
      request.body !== undefined && typeof (request.body as { pipe?: unknown } | null)?.pipe !== 'function'
    done(isWhole && isCompressed(request) ? compressedBody(request) : undefined)
  })
}

function isCompressed({ headers }: FastifyRequest): boolean {
  const encoding = headers['content-encoding']
  return encoding !== undefined && encoding.trim() !== '' && encoding.trim().toLowerCase() !== 'identity'
}

function compressedBody(request: FastifyRequest): RungError {
  return new RungError(
    'HTTP_MEDIA_TYPE',
    `This route does not accept Content-Encoding ${request.headers['content-encoding']!.slice(0, 50)}. Send the body uncompressed.`,
  )
}

/** Returns a client's request id if it is harmless in logs and headers. */
function incomingId(header: unknown): string | undefined {
  return typeof header === 'string' && /^[\w.:-]{1,128}$/.test(header) ? header : undefined
}

function pathOf(url: string): string {
  return url.split('?', 1)[0]!.slice(0, 200)
}

const exposedHeaders = ['X-Request-Id', 'Retry-After', 'RateLimit', 'RateLimit-Policy', 'Idempotency-Replayed']

async function addCors(app: FastifyInstance, option: HttpOptions['cors']): Promise<void> {
  if (option === undefined || option === false) return
  const given: CorsOptions = typeof option === 'object' && 'origins' in option ? option : { origins: option }
  await app.register(cors, {
    // With '*' the answer is the same for all origins and can be cached. With credentials the origin must be named.
    origin: given.origins === true && !given.credentials ? '*' : given.origins === true || [...(given.origins || [])],
    strictPreflight: false, // OPTIONS without an Origin is not a preflight, but valid
    methods: [...(given.methods ?? ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'])],
    allowedHeaders: [
      ...(given.headers ?? ['Authorization', 'Content-Type', 'Idempotency-Key', 'X-Request-Id', 'Traceparent']),
    ],
    exposedHeaders: [...(given.exposedHeaders ?? exposedHeaders)],
    credentials: given.credentials ?? false,
    maxAge: Math.floor(toMs(given.maxAge ?? '10m') / 1000),
  })
}

/** Answers what cannot be parsed as HTTP. There is no request object, so it writes the answer to the socket and closes it. */
function clientErrorHandler(error: NodeJS.ErrnoException, socket: import('node:net').Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return
  const [status, reason, code] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? [431, 'Request Header Fields Too Large', 'HTTP_TOO_LARGE']
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? [408, 'Request Timeout', 'HTTP_TIMEOUT']
        : [400, 'Bad Request', 'HTTP_BAD_REQUEST']
  const body = JSON.stringify({ type: `urn:rung:error:${code}`, title: reason, status, code, detail: `${reason}.` })
  const answering = (socket as { _httpMessage?: { headersSent: boolean } })._httpMessage?.headersSent
  if (socket.writable && !answering) {
    socket.write(
      `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    )
  }
  socket.destroySoon()
}
