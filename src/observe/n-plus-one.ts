import { callSite } from '../kernel/fault.ts'
import type { Scope } from '../kernel/scope.ts'
import {
  type StatementDone,
  type StatementWritten,
  statementDone,
  statementWritten,
} from '../primitives/data/channels.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'
import { listen } from './listen.ts'
import { tallyOf } from './tally.ts'

/** A statement that a unit of work ran again and again, usually once for each row of another. */
export interface NPlusOne {
  statement: string
  /** The unit of work: `GET /api/articles`. */
  name: string
  /** File, line and column in the app's own code. */
  site: string
  module: string | undefined
}

/** The tenth run of a statement within a scope is reported, once for each scope. */
export const threshold = 10

export function watchNPlusOne(http: Http, data: DataRoot, onFound: (found: NPlusOne) => void): void {
  /** Places that are about to run for the tenth time. The author's frames are on the stack when a statement is written. */
  const places = new WeakMap<Scope, Map<unknown, string>>()

  listen<StatementWritten>(http, data, statementWritten, ({ site, scope }) => {
    if (scope && tallyOf(scope).sites.get(site) === threshold - 1) {
      const known = places.get(scope) ?? new Map()
      places.set(scope, known.set(site, callSite(new Error().stack ?? '')))
    }
  })

  // Counted when they run: a fragment of another statement does not count.
  listen<StatementDone>(http, data, statementDone, ({ statement, scope, module }) => {
    if (!scope || scope.kind === 'task') return
    const site = statement.site ?? statement.text
    const { sites } = tallyOf(scope)
    const count = (sites.get(site) ?? 0) + 1
    sites.set(site, count)
    if (count !== threshold) return
    const place = places.get(scope)?.get(site) ?? 'unknown'
    onFound({ statement: statement.text.replace(/\s+/g, ' ').trim(), name: scope.name, site: place, module })
  })
}
