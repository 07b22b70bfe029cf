import type { App } from '../app/define-app.ts'
import { sessionCookieNames } from '../kernel/http-facts.ts'
import type { Keys } from '../kernel/keys.ts'
import { cachedRoutes } from '../primitives/cache/routes.ts'
import type { Broker } from '../primitives/events/contract.ts'
import type { FilesRoot } from '../primitives/files/files.ts'
import { serveFiles } from '../primitives/files/serve.ts'
import { answerChallenges } from '../primitives/http/acme.ts'
import type { Http } from '../primitives/http/contract.ts'
import { tellEdge } from '../primitives/http/edge-terms.ts'
import { type SheddingOptions, shedRequests } from '../primitives/http/shedding.ts'
import { idempotentRoutes } from '../primitives/idempotency/idempotency.ts'
import type { Limiter } from '../primitives/limits/contract.ts'
import { limitRequests } from '../primitives/limits/limits.ts'
import { type Inbox, serveInbox } from '../primitives/mail/inbox.ts'
import type { PositionRecords } from '../primitives/positions/contract.ts'
import { carryPositions } from '../primitives/positions/positions.ts'
import type { SessionStore } from '../primitives/sessions/contract.ts'
import { cookieSessions, type Sessions } from '../primitives/sessions/sessions.ts'
import type { Bindings } from '../topology/bindings.ts'
import { type Health, health, type OwnFacts } from './health.ts'
import type { Log } from './log.ts'
import type { Primitives } from './primitives.ts'
import { checkRouteConfigs } from './route-config.ts'
import { tagHeader } from './wire.ts'

/** What the stages of a request work with. */
export interface RequestParts {
  app: App
  bindings: Bindings
  log: Log
  http: Http
  primitives: Primitives
  health: Health
  ownFacts: OwnFacts
  redis: { readonly isUp: boolean } | undefined
  broker: Broker | undefined
  observers: readonly (() => void | Promise<void>)[]
  sessionStore: SessionStore
  /** Set by its stage. */
  sessions: Sessions
  positions: PositionRecords
  limiter: Limiter | undefined
  files: FilesRoot
  inbox: Inbox | undefined
  keys(purpose: string): Keys
}

interface RequestStage {
  name: string
  add(parts: RequestParts): void | Promise<void>
}

/**
 * What a request passes before it reaches a route of a module, in this order: Fastify runs the hooks of one kind in the order in which
 * they were added, and a hook that watches routes sees those that are added after it.
 */
export const requestStages: readonly RequestStage[] = [
  // Before every route: it tells the edge of each.
  {
    name: 'terms for the edge',
    add({ app, bindings, http }) {
      if (!bindings.edge || bindings.role === 'worker') return
      tellEdge(http, bindings.edge.secret, sheddingOf(app, bindings))
    },
  },
  // So early that a process that refuses everything else still says how it is.
  {
    name: 'health',
    add: ({ http, primitives, health: state, redis, broker, ownFacts }) =>
      health(http, primitives.stores, state, redis, broker, ownFacts),
  },
  // They see every request, also one that is refused.
  {
    name: 'observers',
    async add({ observers }) {
      for (const observe of observers) await observe()
    },
  },
  // Before anything that costs a question to an engine.
  {
    name: 'shedding',
    add({ app, bindings, http, primitives }) {
      const shedding = sheddingOf(app, bindings)
      if (shedding) shedRequests(http, shedding, primitives.stores.main.database)
    },
  },
  // Limits and positions ask who sent the request.
  {
    name: 'sessions',
    add(parts) {
      const { app, bindings, http, sessionStore, keys } = parts
      if (!app.sessions) return
      const secure = bindings.mode === 'production'
      // No module's name has a blank, so no module has this key.
      parts.sessions = cookieSessions(http, sessionStore, app.sessions, { keys: keys('rung sessions'), secure })
    },
  },
  {
    name: 'positions',
    add({ bindings, log, http, positions, primitives, keys }) {
      carryPositions(http, {
        lags: primitives.data.databases.some(({ lags }) => lags),
        readsMove: !primitives.cache.alone,
        records: positions,
        keys: keys('rung positions'),
        secure: bindings.mode === 'production',
        trouble: (what, error) => log.debug({ event: 'position', what, err: error }, 'a position could not be had'),
      })
    },
  },
  {
    name: 'limits',
    add({ app, http, limiter, primitives }) {
      if (limiter) limitRequests(http, limiter, app.limits, primitives.stores.main.database)
    },
  },
  { name: 'checks of route options', add: ({ http }) => checkRouteConfigs(http) },
  // Behind the limits: a kept answer counts as a request.
  {
    name: 'kept answers',
    async add({ bindings, http, primitives: { cache, stores } }) {
      cachedRoutes(http, {
        of: (module) => cache.forModule(module, stores.data(module).write),
        caughtUp: (purges) => cache.caughtUp(purges),
        tagHeader: await tagHeader(bindings),
        cookies: Object.values(sessionCookieNames),
        off: !bindings.cache.enabled,
      })
    },
  },
  {
    name: 'idempotency',
    add({ app, http, primitives: { stores } }) {
      idempotentRoutes(http, (name) => stores.named(name)?.records, app.idempotency, stores.main.database)
    },
  },
  {
    name: 'challenges of ACME',
    add({ bindings, http }) {
      if (bindings.acmeDir !== undefined) answerChallenges(http, bindings.acmeDir)
    },
  },
  {
    name: 'files',
    async add({ http, files }) {
      await http.register(serveFiles(files))
    },
  },
  {
    name: 'mail that was not sent',
    async add({ bindings, http, inbox }) {
      if (inbox && bindings.mode !== 'production') await http.register(serveInbox(inbox))
    },
  },
]

function sheddingOf({ http }: App, { shedding }: Bindings): SheddingOptions | undefined {
  return shedding === 'off' || http.shedding === false ? undefined : (http.shedding ?? {})
}
