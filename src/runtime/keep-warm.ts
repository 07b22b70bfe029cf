import { atMost } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import type { CacheCore } from '../primitives/cache/cache.ts'
import { type DeclaredWarm, Warming } from '../primitives/cache/warming.ts'
import type { Http } from '../primitives/http/contract.ts'
import { askItself } from '../primitives/http/own-request.ts'
import type { Log } from './log.ts'

/** Requests wait this long at most for a warm cache; the rest of the warming goes on beside them. */
const startMsMax = 3_000
/** For what is under way at a stop. */
const stopMsMax = 10_000

/** Fills the cache at the start, and again each time the shared layer was emptied. Returns what ends it. */
export async function keepWarm(
  warms: readonly DeclaredWarm[],
  cache: CacheCore,
  http: Http,
  log: Log,
): Promise<() => Promise<void>> {
  const warming = new Warming({
    core: cache,
    warms,
    visit: (path) => visit(http, path),
    failed(name, error) {
      log.warn({ event: 'cache-warm-failed', err: error }, `warming ${name} failed: ${messageOf(error)}`)
    },
    ended({ items, failed, ms }) {
      const failures = failed > 0 ? `, ${failed} failed` : ''
      log.debug(
        { event: 'cache-warmed', items, failed, ms },
        `the cache is warm: ${items} items in ${ms} ms${failures}`,
      )
    },
  })
  await http.ready()
  cache.shared?.onEmptied(() => void warming.run())
  await atMost(startMsMax, warming.run())
  return () => atMost(stopMsMax, warming.stop())
}

async function visit(http: Http, path: string): Promise<void> {
  const { status, headers } = await askItself(http, path)
  if (status >= 400) throw new Error(`GET ${path} answered ${status}`)
  if (String(headers['cache-control']).startsWith('public')) return
  throw new RungError('APP_INVALID', `GET ${path} keeps no answer: give its route a cache, or take it off the list.`)
}
