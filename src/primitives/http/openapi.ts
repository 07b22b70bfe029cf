import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifySchema,
  type RouteOptions,
} from 'fastify'
import type { HttpOptions } from './contract.ts'
import { oncePromised } from './once.ts'

export const documentPath = '/openapi.json'
export const referencePath = '/reference'

interface HeaderDocument {
  description: string
  required: boolean
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Headers that the document shows beside those of the route's schema. They are not validated. */
    documentedHeaders?: Readonly<Record<string, HeaderDocument>>
  }
}

export function documentHeader(route: RouteOptions, name: string, header: HeaderDocument): void {
  const documentedHeaders = { ...route.config?.documentedHeaders, [name]: header }
  route.config = { ...route.config, documentedHeaders } as never
}

/** Serves the OpenAPI 3.1 document, made from the routes' own schemas, and a page on which it can be read and tried. */
export function documentation(app: FastifyInstance, options: HttpOptions): void {
  const routes: RouteOptions[] = []
  app.addHook('onRoute', (route) => void routes.push(route))
  const document = oncePromised(async () => {
    const described = await describing(routes, app.getSchemas(), options)
    return described.swagger()
  })
  // The document is for the app's clients. The page, which also sends requests, is for operators.
  const shown = { schema: { hide: true }, config: { system: !options.publicReference } }
  app.get(documentPath, { schema: { hide: true } }, document)
  const page = oncePromised(async () => referencePage(await document(), options.title ?? 'API'))
  const show = async (request: FastifyRequest, reply: FastifyReply) => {
    const answer = await (await page()).inject({ url: request.url, headers: request.headers })
    if (answer.statusCode === 404) return reply.callNotFound()
    const { connection, date, ...headers } = answer.headers // headers of this connection
    return reply.status(answer.statusCode).headers(headers).send(answer.rawPayload)
  }
  for (const url of [referencePath, `${referencePath}/*`]) app.get(url, shown, show)
}

/** Groups routes by module, unless a route has tags of its own. */
function withTags(schema: FastifySchema, { config }: RouteOptions): FastifySchema {
  return { ...schema, tags: schema.tags ?? [config?.module ?? 'rung'] }
}

function withHeaders(schema: FastifySchema, { config }: RouteOptions): FastifySchema {
  const documented = Object.entries(config?.documentedHeaders ?? {})
  if (documented.length === 0) return schema
  const own = (schema.headers ?? {}) as { properties?: object; required?: string[] }
  const headers = {
    type: 'object',
    ...own,
    properties: {
      ...own.properties,
      ...Object.fromEntries(documented.map(([name, { description }]) => [name, { type: 'string', description }])),
    },
    required: [...(own.required ?? []), ...documented.flatMap(([name, { required }]) => (required ? [name] : []))],
  }
  return { ...schema, headers }
}

/**
 * Returns an app that describes the routes. It and the page below are made on the first request: they load libraries and keep documents in
 * memory (25 MiB), and most processes never need them.
 */
async function describing(
  routes: readonly RouteOptions[],
  schemas: Record<string, unknown>,
  { title = 'API', version = '0.0.0', description }: HttpOptions,
): Promise<FastifyInstance> {
  const { default: swagger } = await import('@fastify/swagger')
  const app = Fastify({ exposeHeadRoutes: false, routerOptions: { maxParamLength: 1024 } })
  app.setValidatorCompiler(() => () => true)
  app.setSerializerCompiler(() => () => '')
  for (const schema of Object.values(schemas)) app.addSchema(schema)
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title, version, ...(description === undefined ? {} : { description }) },
      components: {
        securitySchemes: {
          token: { type: 'apiKey', in: 'header', name: 'Authorization', description: 'Token <token>' },
        },
      },
    },
  })
  for (const route of routes) {
    const { method, url, schema = {}, constraints } = route
    if (method === 'HEAD') continue
    app.route({
      method,
      url,
      handler: () => {},
      schema: withTags(withHeaders(schema, route), route),
      ...(constraints && { constraints }),
    })
  }
  await app.ready()
  return app
}

async function referencePage(document: object, title: string): Promise<FastifyInstance> {
  const { default: swagger } = await import('@fastify/swagger')
  const { default: swaggerUi } = await import('@fastify/swagger-ui')
  const page = Fastify()
  await page.register(swagger, { mode: 'static', specification: { document: document as never } })
  await page.register(swaggerUi, {
    routePrefix: referencePath,
    staticCSP: true,
    uiConfig: { tryItOutEnabled: true, layout: 'BaseLayout' },
    theme: { title: `${title}: reference` },
  })
  await page.ready()
  return page
}
