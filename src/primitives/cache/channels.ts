import { channel } from 'node:diagnostics_channel'
import type { Scope } from '../../kernel/scope.ts'
import type { Database } from '../data/contract.ts'

/** Something of the cache went wrong, or is right again: `CacheNews`. */
export const cacheNews = channel('rung:cache')

export interface CacheNews {
  database: Database
  event: 'log-failed' | 'edge-failed' | 'shared-down' | 'shared-up'
  /** Which node of the shared layer, if it has several: `node 2 of 3`. */
  node?: string
  error?: unknown
}

export function tellCache(news: CacheNews): void {
  if (cacheNews.hasSubscribers) cacheNews.publish(news)
}

/** A unit of work has got a value, or has failed to: `CacheReadDone`. */
export const cacheReadDone = channel('rung:cache:read')

export interface CacheReadDone {
  readonly scope: Scope
  readonly module: string
  /** The kind of the key: never the key, which may contain what users sent. */
  readonly group: string
  readonly outcome: ReadOutcome
  /** From the call to the value, ms. */
  readonly durationMs: number
}

/** `coalesced`: it waited for the load of another reader. `grace`: an expired value. `bypassed`: loaded without the cache. */
export type ReadOutcome = 'memory' | 'shared' | 'grace' | 'coalesced' | 'loaded' | 'failed' | 'bypassed'
