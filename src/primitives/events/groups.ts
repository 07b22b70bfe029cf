import type { Queue } from '../jobs/contract.ts'
import type { QueueCount } from '../jobs/items.ts'
import { type EventLog, groupOf, isGroupQueue, type Outbox, queueOfGroup } from './contract.ts'

/** A consumer group: the events it subscribes to, and how many of its deliveries wait, run and are dead. */
export interface GroupView extends Omit<QueueCount, 'queue'> {
  group: string
  events: string[]
  /** Events in the log that it does not have yet; `null` if it takes none from there. */
  behind: number | null
}

/** How far a group has come in the log of a database. */
export interface GroupLag {
  source: string
  group: string
  /** The last event that all its subscriptions have. */
  n: number
  /** How many events follow it. */
  behind: number
}

/** Returns how far groups have come in the logs. A database that cannot be asked is left out. */
export async function groupLags(logs: readonly { name: string; log: EventLog }[]): Promise<GroupLag[]> {
  const marks = (await Promise.all(logs.map(({ log }) => log.marks().catch(() => [])))).flat()
  const lags = await Promise.all(
    logs.map(async ({ name, log }) => {
      const lowest = new Map<string, number>()
      for (const { source, group, n } of marks) {
        if (source === name) lowest.set(group, Math.min(n, lowest.get(group) ?? Number.POSITIVE_INFINITY))
      }
      const counts = new Map<number, number>()
      for (const n of new Set(lowest.values())) counts.set(n, await log.count(n))
      return Array.from(lowest, ([group, n]) => ({ source: name, group, n, behind: counts.get(n)! }))
    }),
  )
  return lags.flat()
}

/** Returns all groups that subscribe to an event or still have deliveries, by name. */
export async function groupViews(queue: Queue, outbox: Outbox, lags: readonly GroupLag[] = []): Promise<GroupView[]> {
  const subscriptions = Map.groupBy(await outbox.subscriptions(), ({ group }) => group)
  const counts = new Map((await queue.count()).map((count) => [count.queue, count]))
  const withDeliveries = [...counts.keys()].filter(isGroupQueue).map(groupOf)
  return [...new Set([...subscriptions.keys(), ...withDeliveries])].sort().map((group) => {
    const none = { waiting: 0, delayed: 0, running: 0, dead: 0, oldestWaitMs: 0 }
    const { queue: _, ...count } = counts.get(queueOfGroup(group)) ?? { queue: '', ...none }
    const ofGroup = lags.filter((lag) => lag.group === group)
    const behind = ofGroup.length === 0 ? null : ofGroup.reduce((sum, lag) => sum + lag.behind, 0)
    return { group, events: (subscriptions.get(group) ?? []).map(({ event }) => event), ...count, behind }
  })
}
