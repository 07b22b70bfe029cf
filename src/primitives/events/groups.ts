import type { Queue } from '../jobs/contract.ts'
import type { QueueCount } from '../jobs/items.ts'
import { groupOf, isGroupQueue, type Outbox, queueOfGroup } from './contract.ts'

/** A consumer group: the events it subscribes to, and how many of its deliveries wait, run and are dead. */
export interface GroupView extends Omit<QueueCount, 'queue'> {
  group: string
  events: string[]
}

/** Returns all groups that subscribe to an event or still have deliveries, by name. */
export async function groupViews(queue: Queue, outbox: Outbox): Promise<GroupView[]> {
  const subscriptions = Map.groupBy(await outbox.subscriptions(), ({ group }) => group)
  const counts = new Map((await queue.count()).map((count) => [count.queue, count]))
  const withDeliveries = [...counts.keys()].filter(isGroupQueue).map(groupOf)
  return [...new Set([...subscriptions.keys(), ...withDeliveries])].sort().map((group) => {
    const none = { waiting: 0, delayed: 0, running: 0, dead: 0, oldestWaitMs: 0 }
    const { queue: _, ...count } = counts.get(queueOfGroup(group)) ?? { queue: '', ...none }
    return { group, events: (subscriptions.get(group) ?? []).map(({ event }) => event), ...count }
  })
}
