import type { Ride } from '../data/rides.ts'
import type { Context } from '../jobs/items.ts'

/**
 * What events ask of an adapter: from a published event to a delivery for each group that has subscribed to it. A delivery
 * is an item of the queue named after its group; how it is worked off is the jobs' contract.
 *
 * What must hold on every adapter:
 * - when the publishing transaction commits, there is a delivery for every group that was subscribed before; when it does
 *   not, there is none;
 * - the deliveries of one key come to a group in the order in which they were published;
 * - a delivery stays until its group has handled it, also when no process of that group runs.
 */
export interface Outbox {
  publish(events: readonly NewEvent[], published: (groups: ReadonlySet<string>) => void): Ride
  /** Called before this process publishes anything, and whenever a process of the group starts. */
  subscribe(subscriptions: readonly Subscription[]): Promise<void>
  /** Ends a group's subscriptions and removes what waits for it. Returns how many deliveries that were. */
  drop(group: string): Promise<number>
  subscriptions(): Promise<SubscriptionRow[]>
}

export interface NewEvent {
  name: string
  /** JSON. */
  payload: string
  key: string | undefined
  context: Context
}

export interface Subscription {
  event: string
  group: string
  attemptsMax: number
}

export interface SubscriptionRow {
  event: string
  group: string
  /** When a process of the group last started. */
  seenAt: Date
}

const prefix = 'event:'

/** The queue of a group's deliveries. */
export function queueOfGroup(group: string): string {
  return prefix + group
}

export function isGroupQueue(queue: string): boolean {
  return queue.startsWith(prefix)
}

export function groupOf(queue: string): string {
  return queue.slice(prefix.length)
}
