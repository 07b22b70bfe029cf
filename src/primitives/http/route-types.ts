import type { Static, TSchema } from '@fastify/type-provider-typebox'
import type * as fastify from 'fastify'

/** Derives the types of requests and answers from TypeBox schemas. */
export interface SchemaTypes extends fastify.FastifyTypeProvider {
  readonly validator: this['schema'] extends TSchema ? Static<this['schema']> : unknown
  /** A handler's result is only read, so a frozen value from the cache is allowed. */
  readonly serializer: this['schema'] extends TSchema ? ReadOnly<Static<this['schema']>> : unknown
}

/** The same type with read-only arrays and objects. */
export type ReadOnly<Value> = Value extends readonly unknown[] | object
  ? { readonly [Name in keyof Value]: ReadOnly<Value[Name]> }
  : Value

declare module 'fastify' {
  /** Like Fastify's own, but functions in the route's `config` get the request as its schema describes it. */
  interface RouteShorthandMethod<
    RawServer extends fastify.RawServerBase = fastify.RawServerDefault,
    RawRequest extends fastify.RawRequestDefaultExpression<RawServer> = fastify.RawRequestDefaultExpression<RawServer>,
    RawReply extends fastify.RawReplyDefaultExpression<RawServer> = fastify.RawReplyDefaultExpression<RawServer>,
    TypeProvider extends fastify.FastifyTypeProvider = fastify.FastifyTypeProviderDefault,
    Logger extends fastify.FastifyBaseLogger = fastify.FastifyBaseLogger,
  > {
    // biome-ignore lint/style/useShorthandFunctionType: an interface merges with Fastify's own
    <
      RouteGeneric extends fastify.RouteGenericInterface = fastify.RouteGenericInterface,
      ContextConfig = fastify.ContextConfigDefault,
      const SchemaCompiler extends fastify.FastifySchema = fastify.FastifySchema,
    >(
      path: string,
      opts: fastify.RouteShorthandOptions<
        RawServer,
        RawRequest,
        RawReply,
        RouteGeneric,
        ContextConfig,
        SchemaCompiler,
        TypeProvider,
        Logger
      > & {
        config?: {
          login?(
            request: fastify.FastifyRequest<RouteGeneric, RawServer, RawRequest, NoInfer<SchemaCompiler>, TypeProvider>,
          ): string | undefined
        }
      },
      handler: fastify.RouteHandlerMethod<
        RawServer,
        RawRequest,
        RawReply,
        RouteGeneric,
        ContextConfig,
        SchemaCompiler,
        TypeProvider,
        Logger
      >,
    ): fastify.FastifyInstance<RawServer, RawRequest, RawReply, Logger, TypeProvider>
  }
}
