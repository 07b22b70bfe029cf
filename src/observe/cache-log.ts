import { messageOf } from '../kernel/errors.ts'
import { type CacheNews, cacheNews } from '../primitives/cache/channels.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'
import type { Log } from '../runtime/log.ts'
import { listen } from './listen.ts'

/** Logs when the shared layer is lost and when it is back, not each failed call in between. */
export function cacheLog(http: Http, data: DataRoot, log: Log): void {
  let isDown = false
  listen<CacheNews>(http, data, cacheNews, ({ event, error }) => {
    if (event === 'shared-down' && !isDown) {
      isDown = true
      const why = error === undefined ? '' : ` (${messageOf(error)})`
      log.warn(
        { event: 'cache-shared-down', err: error },
        `the shared layer of the cache cannot be used${why}: until it is back, each process loads for itself`,
      )
    } else if (event === 'shared-up' && isDown) {
      isDown = false
      log.warn({ event: 'cache-shared-up' }, 'the shared layer of the cache is used again')
    } else if (event === 'log-failed' || event === 'edge-failed') {
      log.debug({ event: `cache-${event}`, err: error }, `cache: ${event}${error ? `: ${messageOf(error)}` : ''}`)
    }
  })
}
