import { channel } from 'node:diagnostics_channel'
import type { Database } from '../data/contract.ts'

/** A signal could not be sent, or the line that carries them was lost: `SignalFailure`. */
export const signalFailed = channel('rung:signal-failed')

export interface SignalFailure {
  database: Database
  error: unknown
}

export function tellSignals(failure: SignalFailure): void {
  if (signalFailed.hasSubscribers) signalFailed.publish(failure)
}
