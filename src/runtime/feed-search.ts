import { everyAlone } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import type { Log } from './log.ts'

const feedMs = 200

/**
 * Brings changes to the search database while nobody searches. Logs when that begins to fail, and when it works again.
 * @returns what ends it
 */
export function feedSearch(search: { feed(): Promise<void> }, log: Log): () => Promise<void> {
  let isBehind = false
  return everyAlone(feedMs, async () => {
    try {
      await search.feed()
      if (isBehind) log.info({ event: 'search-fed' }, 'The search database is fed again.')
      isBehind = false
    } catch (error) {
      if (isBehind) return
      isBehind = true
      const why = messageOf(error).replace(/\.+$/, '')
      const message = `The search database cannot be fed: ${why}. Until it can, changes wait in the database of the app, and searches fail. Check RUNG_SEARCH_URL, or search.url in rung.config.ts.`
      log.warn({ event: 'search-behind', err: error }, message)
    }
  })
}
