import { channel } from 'node:diagnostics_channel'
import type { Outcome } from './items.ts'

/** What happens with jobs and deliveries, for whoever wants to see it. */
export interface RunDone {
  queue: string
  name: string
  id: number
  outcome: Outcome['kind'] | 'lost'
  /** How long it could have run before it did, ms. */
  waitedMs: number
  durationMs: number
  failures: number
  error: unknown
}

/** A run has ended, whichever way. */
export const runDone = channel('rung:job')
/** The queue could not be reached, or took items back: `{ event, error?, count? }`. */
export const queueTrouble = channel('rung:queue')
/**
 * A moment of a claim's life has come: `{ at, item }`. For tests that end the process there; costs nothing while nobody
 * listens.
 */
export const moment = channel('rung:job-moment')

export type Moment = 'claimed' | 'before-run' | 'after-run' | 'before-settle' | 'after-settle'
