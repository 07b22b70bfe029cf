import { channel } from 'node:diagnostics_channel'
import type { Database } from '../data/contract.ts'

/** Something of the cache went wrong, or is right again: `CacheNews`. */
export const cacheNews = channel('rung:cache')

export interface CacheNews {
  database: Database
  event: 'log-failed' | 'edge-failed' | 'shared-down' | 'shared-up'
  error?: unknown
}

export function tellCache(news: CacheNews): void {
  if (cacheNews.hasSubscribers) cacheNews.publish(news)
}
