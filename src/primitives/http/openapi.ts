import swagger from '@fastify/swagger'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { HttpOptions } from './contract.ts'

/** Where the document and the page for people are served. */
export const documentPath = '/openapi.json'
export const referencePath = '/reference'

/** The OpenAPI 3.1 document, made from the routes' own schemas, and a page to read it and try it. */
export async function documentation(app: FastifyInstance, options: HttpOptions): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: options.title ?? 'API',
        version: options.version ?? '0.0.0',
        ...(options.description === undefined ? {} : { description: options.description }),
      },
      components: {
        securitySchemes: {
          token: { type: 'apiKey', in: 'header', name: 'Authorization', description: 'Token <token>' },
        },
      },
    },
  })
  app.get(documentPath, { schema: { hide: true } }, async () => app.swagger())
  const page = oncePromised(() => referencePage(app))
  const show = async (request: FastifyRequest, reply: FastifyReply) => {
    const answer = await (await page()).inject({ url: request.url, headers: request.headers })
    if (answer.statusCode === 404) return reply.callNotFound()
    const { connection, date, ...headers } = answer.headers // of this connection, not of the page's
    return reply.status(answer.statusCode).headers(headers).send(answer.rawPayload)
  }
  for (const url of [referencePath, `${referencePath}/*`]) app.get(url, { schema: { hide: true } }, show)
}

/**
 * The page is an app of its own, made when somebody first looks at it: it loads a file server and keeps its assets in
 * memory, for which most processes have no use.
 */
async function referencePage(app: FastifyInstance): Promise<FastifyInstance> {
  const page = Fastify()
  await page.register(swagger, { mode: 'static', specification: { document: app.swagger() as never } })
  const { default: swaggerUi } = await import('@fastify/swagger-ui')
  await page.register(swaggerUi, { routePrefix: referencePath, staticCSP: true, uiConfig: { tryItOutEnabled: true } })
  await page.ready()
  return page
}

/** Asked for again after a failure. */
function oncePromised<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  return () => {
    made ??= make().catch((error) => {
      made = undefined
      throw error
    })
    return made
  }
}
