import { channel } from 'node:diagnostics_channel'
import type { Database } from '../data/contract.ts'

/** The broker cannot be used (`broker-failed`), takes nothing more (`broker-full`), or can be used again (`broker-back`). */
export interface EventTrouble {
  database: Database
  event: 'broker-failed' | 'broker-full' | 'broker-back' | 'take-failed' | 'read-failed'
  error?: unknown
}

/** Moments at which a process may die without harm; for tests that let it. */
export type EventMoment = 'numbered' | 'stored' | 'sent' | 'received' | 'taken' | 'acknowledged'

const eventMoment = channel('rung:event-moment')

export function announceEvents(at: EventMoment): void {
  if (eventMoment.hasSubscribers) eventMoment.publish({ at })
}

export const eventTrouble = channel('rung:event-trouble')

export function tellEventTrouble(trouble: EventTrouble): void {
  if (eventTrouble.hasSubscribers) eventTrouble.publish(trouble)
}
