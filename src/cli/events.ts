import { RungError } from '../kernel/errors.ts'
import { groupOf, isGroupQueue, queueOfGroup } from '../primitives/events/contract.ts'
import type { Command } from './command.ts'
import { countLines, type QueueView, queueOptions, runQueueVerb, withQueues } from './queues.ts'

const view: QueueView = { noun: 'delivery', ofEvents: true, label: groupOf, queueOf: queueOfGroup }

const events: Command = {
  name: 'events',
  summary: 'groups that listen, and what waits for them',
  usage: 'rung events [list | show <id …> | retry <id …> | cancel <id …> | drop <group>] [options]',
  help: [
    'Without a verb: the groups that listen, to what, and how many deliveries wait, run',
    'and are dead in each. --queue names a group.',
    '',
    '  list    the deliveries that have not ended, newest first',
    '  show    all that is known of some',
    '  retry   dead ones, and those that wait for another try, run now',
    '  cancel  waiting ones are never delivered',
    '  drop    a group that no code has any more: its subscriptions and deliveries go',
  ].join('\n'),
  examples: ['rung events', 'rung events list --state dead --queue notifications', 'rung events drop old-group'],
  settings: ['data', 'process.dataDir', 'process.config'],
  options: queueOptions,
  run(input) {
    return withQueues(input, async ({ queue, outbox }) => {
      const [verb, group] = input.positionals
      if (verb === 'drop') {
        if (group === undefined) throw new RungError('CONFIG_INVALID', 'Name the group: rung events drop <group>')
        const subscriptions = (await outbox.subscriptions()).filter((row) => row.group === group)
        const deliveries = await outbox.drop(group)
        if (input.json) input.out.json({ group, subscriptions: subscriptions.length, deliveries })
        else input.out.line(`${group}: ${subscriptions.length} subscriptions and ${deliveries} deliveries are gone.`)
        return subscriptions.length + deliveries > 0 ? 0 : 1
      }
      if (verb !== undefined) return runQueueVerb(input, queue, view)
      const subscriptions = Map.groupBy(await outbox.subscriptions(), (row) => row.group)
      const known = new Map((await queue.count()).map((count) => [count.queue, count]))
      const none = { waiting: 0, delayed: 0, running: 0, dead: 0, oldestWaitMs: 0 }
      const groups = [
        ...new Set([...subscriptions.keys(), ...[...known.keys()].filter(isGroupQueue).map(groupOf)]),
      ].sort()
      const counts = groups.map((name) => known.get(queueOfGroup(name)) ?? { queue: queueOfGroup(name), ...none })
      if (input.json) {
        input.out.json(
          groups.map((name, at) => ({ group: name, events: eventsOf(name), ...counts[at], queue: undefined })),
        )
      } else if (groups.length === 0) input.out.line('No group listens.')
      else {
        const [head, ...lines] = countLines('group', counts, view)
        input.out.line(head)
        for (const [at, line] of lines.entries()) {
          input.out.line(line)
          for (const event of eventsOf(groups[at]!)) input.out.line(`  ${event}`)
        }
      }
      return 0

      function eventsOf(name: string): string[] {
        return (subscriptions.get(name) ?? []).map((row) => row.event)
      }
    })
  },
}
export default events
