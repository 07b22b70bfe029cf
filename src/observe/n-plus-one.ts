import path from 'node:path'
import { fileURLToPath } from 'node:url'
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

/** One statement that a unit of work ran again and again, usually once for each row of another. */
export interface NPlusOne {
  statement: string
  /** The unit of work: `GET /api/articles`. */
  name: string
  /** File, line and column in the app's own code. */
  site: string
  module: string | undefined
}

/** From the tenth run of one statement within a scope on it is told, once for each scope. */
export const threshold = 10

const ownFolder = path.resolve(fileURLToPath(import.meta.url), '../..')

export function watchNPlusOne(http: Http, data: DataRoot, onFound: (found: NPlusOne) => void): void {
  /** Places that are about to run for the tenth time: the author's frames are on the stack when a statement is written. */
  const places = new WeakMap<Scope, Map<unknown, string>>()

  listen<StatementWritten>(http, data, statementWritten, ({ site, scope }) => {
    if (scope && tallyOf(scope).sites.get(site) === threshold - 1) {
      const known = places.get(scope) ?? new Map()
      places.set(scope, known.set(site, callSite(new Error().stack ?? '')))
    }
  })

  // Counted as they run: a piece of another statement is none of its own.
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

/** The first frame that belongs neither to this library nor to Node or a dependency. Pure. */
export function callSite(stack: string, own = ownFolder): string {
  for (const line of stack.split('\n').slice(1)) {
    const match = /(?:\(|at (?:async )?)((?:file:\/\/)?\/?[^()]+?:\d+:\d+)\)?$/.exec(line)
    if (!match) continue
    const place = match[1]!.startsWith('file:') ? withoutScheme(match[1]!) : match[1]!
    if (place.startsWith('node:') || place.includes('/node_modules/') || place.startsWith(`${own}${path.sep}`)) continue
    return place
  }
  return 'unknown'
}

function withoutScheme(url: string): string {
  const [, file, position] = /^(.*?)(:\d+:\d+)$/.exec(url)!
  return fileURLToPath(file!) + position
}
