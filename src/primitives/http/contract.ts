import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyRequest,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify'
import type { Duration, Size } from '../../kernel/units.ts'
import type { Problem } from './problem.ts'
import type { SchemaTypes } from './route-types.ts'
import type { SheddingOptions } from './shedding.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** For operators, on the process's own port and not through a proxy. Such a route is never limited or shed. */
    system?: boolean
  }
}

/** The server that a module's `routes` gets: Fastify, with types from TypeBox schemas. Any Fastify plugin works on it. */
export type Http = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  SchemaTypes
>

/** HTTP options of an app. */
export interface HttpOptions {
  /** Maximum size of a body. Default 1 MiB; a route may set its own `bodyLimit`. */
  bodyMax?: Size
  /** Maximum size of the request line and the headers. Default 16 KiB. */
  headersMax?: Size
  /** Time limit until the headers are complete. Default 10 s. */
  headersTimeout?: Duration
  /** Time limit until the request is complete, and again until it is answered. Default 30 s. */
  requestTimeout?: Duration
  /** How long idle connections are kept. Default 65 s, more than the usual 60 s of a balancer. */
  keepAliveTimeout?: Duration
  /** Maximum number of connections; further ones are refused. Default 10,000. */
  connectionsMax?: number
  /**
   * Addresses or networks of trusted proxies (`10.0.0.0/8`, `loopback`), whose `X-Forwarded-For` names the client. Default none: the
   * header is ignored.
   */
  trustProxy?: readonly string[]
  /** When requests are refused with 503 because there are too many. With `false` they never are. */
  shedding?: SheddingOptions | false
  /** Other origins that may call the app: `true` for any, or a list. Default none. */
  cors?: boolean | readonly string[] | CorsOptions
  /** Whether `/reference` is served through proxies too. Default false: only on the process's own port. `/openapi.json` always is. */
  publicReference?: boolean
  /** Title and version of the API reference. */
  title?: string
  version?: string
  description?: string
  /** Returns an error in the app's own form in place of problem+json: a value for JSON, or a page made with `html`. */
  formatProblem?: (problem: Problem, request: FastifyRequest) => unknown
}

export interface CorsOptions {
  origins: boolean | readonly string[]
  methods?: readonly string[]
  headers?: readonly string[]
  exposedHeaders?: readonly string[]
  credentials?: boolean
  maxAge?: Duration
}
