import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type StatementWritten, statementWritten } from '../primitives/data/channels.ts'
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
  listen<StatementWritten>(http, data, statementWritten, ({ site, scope, module }) => {
    if (!scope) return
    const { sites } = tallyOf(scope)
    const count = (sites.get(site) ?? 0) + 1
    sites.set(site, count)
    if (count !== threshold) return
    // The author's frames are on the stack at this moment, and only now is the price of looking paid.
    const statement = (typeof site === 'string' ? site : site.join('?')).replace(/\s+/g, ' ').trim()
    onFound({ statement, name: scope.name, site: callSite(new Error().stack ?? ''), module })
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
