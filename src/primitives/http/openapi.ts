import { readFile } from 'node:fs/promises'
import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifySchema,
  type RouteOptions,
} from 'fastify'
import { tokens } from '../../kernel/tokens.ts'
import type { HttpOptions } from './contract.ts'
import { oncePromised } from './once.ts'

export const documentPath = '/openapi.json'
export const referencePath = '/reference'

/** Serves the OpenAPI 3.1 document, made from the routes' own schemas, and a page on which it can be read and tried. */
export function documentation(app: FastifyInstance, options: HttpOptions): void {
  const routes: RouteOptions[] = []
  app.addHook('onRoute', (route) => void routes.push(route))
  const described = oncePromised(() => describing(routes, app.getSchemas(), options))
  app.get(documentPath, { schema: { hide: true } }, async () => (await described()).swagger())
  // The document is for the app's clients. The page, which also sends requests, is for operators.
  const shown = { schema: { hide: true }, config: { system: !options.publicReference } }
  const show = async (request: FastifyRequest, reply: FastifyReply) => {
    const answer = await (await described()).inject({ url: request.url, headers: request.headers })
    if (answer.statusCode === 404) return reply.callNotFound()
    const { connection, date, ...headers } = answer.headers // headers of this connection
    const isPage = String(headers['content-type']).startsWith('text/html')
    const body = isPage ? answer.payload.replace('<head>', `<head>${viewport}`) : answer.rawPayload
    if (isPage) delete headers['content-length']
    return reply.status(answer.statusCode).headers(headers).send(body)
  }
  for (const url of [referencePath, `${referencePath}/*`]) app.get(url, shown, show)
}

/** Without it a phone shows the page as a wide screen would, and small. */
const viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'

/**
 * What Swagger UI leaves to others: it is dark by a class and not by itself, and bodies to send have no name and examples that scroll no way
 * to be reached by keyboard.
 */
const completion = `const dark = matchMedia('(prefers-color-scheme: dark)')
const show = () => document.documentElement.classList.toggle('dark-mode', dark.matches)
dark.addEventListener('change', show)
show()
new MutationObserver(() => {
  for (const field of document.querySelectorAll('textarea:not([aria-label])')) field.ariaLabel = 'Body'
  for (const example of document.querySelectorAll('pre:not([tabindex])')) example.tabIndex = 0
}).observe(document.body, { childList: true, subtree: true })
`

/** Groups routes by module, unless a route has tags of its own. */
function withTags(schema: FastifySchema, { config }: RouteOptions): FastifySchema {
  return { ...schema, tags: schema.tags ?? [config?.module ?? 'rung'] }
}

/** Adds the Idempotency-Key to the headers of routes that take one. They are not validated by this schema. */
function withKey(schema: FastifySchema, { config }: RouteOptions): FastifySchema {
  if (config?.idempotency === undefined) return schema
  const own = (schema.headers ?? {}) as { properties?: object; required?: string[] }
  const headers = {
    type: 'object',
    ...own,
    properties: { ...own.properties, 'Idempotency-Key': { type: 'string', description: keyDescription } },
    required: [...(own.required ?? []), ...(config.idempotency === 'required' ? ['Idempotency-Key'] : [])],
  }
  return { ...schema, headers }
}

const keyDescription =
  'A new UUID for each operation, and the same one when the request is repeated. The operation is done once, and each repetition gets the same answer.'

/**
 * Returns an app that describes the routes and has the page. It is made on the first request: it loads libraries and keeps documents in
 * memory (25 MiB), and most processes never need it.
 */
async function describing(
  routes: readonly RouteOptions[],
  schemas: Record<string, unknown>,
  { title = 'API', version = '0.0.0', description }: HttpOptions,
): Promise<FastifyInstance> {
  const { default: swagger } = await import('@fastify/swagger')
  const { default: swaggerUi } = await import('@fastify/swagger-ui')
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
  await app.register(swaggerUi, {
    routePrefix: referencePath,
    staticCSP: true,
    // A link to each operation would be inside of the button that opens it, which screen readers cannot follow.
    uiConfig: { tryItOutEnabled: true, layout: 'BaseLayout', syntaxHighlight: false, deepLinking: false },
    theme: {
      title: `${title}: reference`,
      css: [
        { filename: 'tokens.css', content: tokens() },
        { filename: 'reference.css', content: await readFile(new URL('./reference.css', import.meta.url), 'utf8') },
      ],
      js: [{ filename: 'completion.js', content: completion }],
    },
  })
  for (const route of routes) {
    const { method, url, schema = {}, constraints } = route
    if (method === 'HEAD' || schema.hide) continue
    app.route({
      method,
      url,
      handler: () => {},
      schema: withTags(withKey(schema, route), route),
      ...(constraints && { constraints }),
    })
  }
  await app.ready()
  return app
}
