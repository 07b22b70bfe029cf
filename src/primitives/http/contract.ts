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
    /** Asked by those who run the process, on its own port, and not by clients through a proxy: never limited, never shed. */
    system?: boolean
  }
}

/** What a module's `routes` gets: Fastify, with types from TypeBox schemas. Any Fastify plugin works on it. */
export type Http = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  SchemaTypes
>

/** Options of the app's HTTP side, with the defaults named. */
export interface HttpOptions {
  /** Default 1 MiB; a route may set its own `bodyLimit`. */
  bodyMax?: Size
  /** Request line and headers together. Default 16 KiB. */
  headersMax?: Size
  /** Until the headers are complete. Default 10 s. */
  headersTimeout?: Duration
  /** Until the request is complete, and again until it is answered. Default 30 s. */
  requestTimeout?: Duration
  /** Idle connections are kept for. Default 65 s, above the usual 60 s of a balancer. */
  keepAliveTimeout?: Duration
  /** Default 10,000; further ones are refused. */
  connectionsMax?: number
  /**
   * Proxies in front, by address or network (`10.0.0.0/8`, `loopback`): they may say for whom they ask (`X-Forwarded-For`).
   * Default none: the header is then anybody's invention and is ignored.
   */
  trustProxy?: readonly string[]
  /** When requests are refused (503) because there are too many. `false`: never. */
  shedding?: SheddingOptions | false
  /** Other origins that may call: `true` for any, a list, or nothing (default). */
  cors?: boolean | readonly string[] | CorsOptions
  /** `/reference` is shown to whoever comes through a proxy, too. Default: only on the process's own port. `/openapi.json` always is. */
  publicReference?: boolean
  /** Title and version of the API reference. */
  title?: string
  version?: string
  description?: string
  /** The app's own form of errors instead of problem+json; what is made with `html` is a page. */
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
