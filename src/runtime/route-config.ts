import type { FastifyContextConfig } from 'fastify'
import { RungError } from '../kernel/errors.ts'
import { nearestOf } from '../kernel/typos.ts'
import { toMs } from '../kernel/units.ts'
import type { Http } from '../primitives/http/contract.ts'
import { checkRouteLimits } from '../primitives/limits/limits.ts'

const known = [
  'cache',
  'idempotency',
  'limits',
  'login',
  'priority',
  'staleFor',
  'system',
] as const satisfies readonly (keyof FastifyContextConfig)[]

const priorities = ['critical', 'normal', 'sheddable']

/**
 * Refuses a route whose `config` has a key that is nearly one of Rung's, or a value that cannot be used. Apps may add keys
 * of their own, so that the types cannot tell a misspelt key. Before the routes.
 */
export function checkRouteConfigs(http: Http): void {
  http.addHook('onRoute', ({ method, url, config = {} }) => {
    const route = `${method} ${url}`
    for (const key of Object.keys(config)) {
      if (known.some((name) => name === key)) continue
      const meant = nearestOf(key, known)
      if (meant) throw new RungError('APP_INVALID', `${route}: config has "${key}"; write ${meant}.`)
    }
    const { limits, priority, staleFor } = config as FastifyContextConfig
    if (priority !== undefined && !priorities.includes(priority))
      throw new RungError('APP_INVALID', `${route}: config.priority must be one of ${priorities.join(', ')}.`)
    if (staleFor !== undefined) toMs(staleFor)
    checkRouteLimits(`${route}: config.limits`, limits)
  })
}
