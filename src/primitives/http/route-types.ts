import type { Static, TSchema } from '@fastify/type-provider-typebox'
import type * as fastify from 'fastify'

/** Types of requests and answers from TypeBox schemas. */
export interface SchemaTypes extends fastify.FastifyTypeProvider {
  readonly validator: this['schema'] extends TSchema ? Static<this['schema']> : unknown
  /** What a handler returns is only read: a value of the cache, which is frozen, will do. */
  readonly serializer: this['schema'] extends TSchema ? ReadOnly<Static<this['schema']>> : unknown
}

/** The same, whose arrays and objects may be frozen. */
export type ReadOnly<Value> = Value extends readonly unknown[] | object
  ? { readonly [Name in keyof Value]: ReadOnly<Value[Name]> }
  : Value

declare module 'fastify' {
  /** As Fastify's own, but functions of the route's `config` see the request as its schema describes it. */
  interface RouteShorthandMethod<
    RawServer extends fastify.RawServerBase = fastify.RawServerDefault,
    RawRequest extends fastify.RawRequestDefaultExpression<RawServer> = fastify.RawRequestDefaultExpression<RawServer>,
    RawReply extends fastify.RawReplyDefaultExpression<RawServer> = fastify.RawReplyDefaultExpression<RawServer>,
    TypeProvider extends fastify.FastifyTypeProvider = fastify.FastifyTypeProviderDefault,
    Logger extends fastify.FastifyBaseLogger = fastify.FastifyBaseLogger,
  > {
    // biome-ignore lint/style/useShorthandFunctionType: an interface merges with Fastify's own, a type does not
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
