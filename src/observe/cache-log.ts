import { messageOf } from '../kernel/errors.ts'
import { type CacheNews, cacheNews } from '../primitives/cache/channels.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'
import type { Log } from '../runtime/log.ts'
import { listen } from './listen.ts'

/** Logs when the shared layer is lost and when it is back, not each failed call in between. */
export function cacheLog(http: Http, data: DataRoot, log: Log): void {
  const down = new Set<string>()
  listen<CacheNews>(http, data, cacheNews, ({ event, node = '', error }) => {
    const which = node === '' ? 'the shared layer of the cache' : `${node} of the shared layer of the cache`
    if (event === 'shared-down' && !down.has(node)) {
      down.add(node)
      const why = error === undefined ? '' : ` (${messageOf(error)})`
      log.warn(
        { event: 'cache-shared-down', err: error },
        `${which} cannot be used${why}: until it is back, each process loads for itself`,
      )
    } else if (event === 'shared-up' && down.delete(node)) {
      log.warn({ event: 'cache-shared-up' }, `${which} is used again`)
    } else if (event === 'log-failed' || event === 'edge-failed') {
      log.debug({ event: `cache-${event}`, err: error }, `cache: ${event}${error ? `: ${messageOf(error)}` : ''}`)
    }
  })
}
