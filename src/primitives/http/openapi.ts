import swagger from '@fastify/swagger'
import type { FastifyInstance } from 'fastify'
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
  // The page's assets are read at start; a process that serves no page need not pay for them.
  const page = (await import('@fastify/swagger-ui')).default
  await app.register(page, { routePrefix: referencePath, staticCSP: true, uiConfig: { tryItOutEnabled: true } })
  app.get(documentPath, { schema: { hide: true } }, async () => app.swagger())
}
