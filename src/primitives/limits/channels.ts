import { channel } from 'node:diagnostics_channel'
import type { Database } from '../data/contract.ts'

/** Tells that a request was refused, or that the counts could not be reached: `LimitDecided`. */
export const limitDecided = channel('rung:limit')

export interface LimitDecided {
  readonly database: Database
  readonly outcome: 'refused' | 'unavailable'
  readonly limit: string
  readonly error?: unknown
}

export function tellLimit(decided: LimitDecided): void {
  if (limitDecided.hasSubscribers) limitDecided.publish(decided)
}
