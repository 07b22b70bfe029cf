import type { App } from '../app/define-app.ts'
import type { Data } from '../app/define-module.ts'
import { requestTimeoutOf } from '../primitives/http/http.ts'
import type { Search } from '../primitives/search/search.ts'
import { openData } from './open-data.ts'

/** The data primitive as one module of the app has it. */
export type DataOf = (module: string) => Data
export type SearchOf = (module: string) => Search

/**
 * For a script beside the app: a seed, an import, a report. Uses the app's database, whether the app runs at the moment or
 * not, applies pending migrations, and closes everything when `fn` is done. Reads the settings as `rung start` does: the
 * environment, and `rung.config.ts` of the folder that it runs in.
 * Statements of a script have no time limit.
 */
export async function withData<T>(app: App, fn: (dataOf: DataOf, searchOf: SearchOf) => Promise<T>): Promise<T> {
  const opened = await openData({
    name: app.name,
    modules: app.modules,
    server: 'attach',
    statementTimeoutMs: 0,
    requestTimeoutMs: requestTimeoutOf(app.http),
  })
  try {
    return await fn(opened.data, opened.search)
  } finally {
    await opened.close()
  }
}
