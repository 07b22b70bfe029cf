import { randomBytes } from 'node:crypto'
import type { App } from '../app/define-app.ts'
import { defineModule } from '../app/define-module.ts'
import type { Principal } from '../kernel/scope.ts'

/** A path that nobody else knows. */
export const secretPath = (): string => `/-/sign-in-${randomBytes(8).toString('hex')}`

/** The app, and where it has sessions, a route by which one begins. */
export function withSignIn(app: App, path: string): App {
  if (!app.sessions) return app
  const door = defineModule({
    name: 'test-kit',
    owner: 'rung',
    routes(http, { sessions }) {
      http.post(path, { schema: { hide: true }, config: { limits: false } }, async (request, reply) => {
        await sessions.signIn(request, reply, request.body as Principal)
        return reply.status(204).send()
      })
    },
  })
  return { ...app, modules: [...app.modules, door] }
}
