import { defineApp } from 'rung'
import { articles } from './articles/module.ts'
import { avatars } from './avatars/module.ts'
import { comments } from './comments/module.ts'
import { conduitErrors } from './errors.ts'
import { exportsModule } from './exports/module.ts'
import { identity } from './identity/module.ts'
import { notifications } from './notifications/module.ts'
import { pages } from './pages/module.ts'

/** Conduit, the RealWorld reference application: a blog with users, articles and comments. */
export default defineApp({
  name: 'conduit',
  modules: [identity, articles, comments, notifications, exportsModule, avatars, pages],
  sessions: {},
  users: { table: 'identity.account' },
  http: {
    title: 'Conduit',
    version: '2.0.0',
    description: 'The RealWorld API, served by Rung.',
    cors: {
      origins: true,
      methods: ['GET', 'POST', 'PUT', 'DELETE'],
      headers: ['Authorization', 'Content-Type', 'Idempotency-Key'],
    },
    formatProblem: (problem, request) =>
      request.routeOptions?.config.refused?.(request, problem) ?? conduitErrors(problem),
  },
})
