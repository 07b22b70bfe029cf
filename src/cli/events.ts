import { RungError } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import { groupOf, type Outbox, queueOfGroup } from '../primitives/events/contract.ts'
import { groupLags, groupViews } from '../primitives/events/groups.ts'
import { mainDatabase } from '../runtime/wire.ts'
import { type Command, databaseSettings, type Input, type Result, result } from './command.ts'
import { countLines, type QueueKind, queueOptions, runQueueVerb, withQueues } from './queues.ts'

const kind: QueueKind = { noun: 'delivery', ofEvents: true, label: groupOf, queueOf: queueOfGroup }

const events: Command = {
  name: 'events',
  summary: 'list consumer groups and their deliveries',
  usage: 'rung events [list | show <id …> | retry <id …> | cancel <id …> | drop <group>] [options]',
  help: [
    'Without a verb: each consumer group, the events it subscribes to, and how many of',
    'its deliveries wait, run and are dead. --queue names a group. Where events go over',
    'a broker: how many events a group is behind, and what the database keeps of them.',
    '',
    '  list    lists deliveries that have not ended, newest first',
    '  show    shows everything known about the given deliveries',
    '  retry   runs dead deliveries, and those that wait for another try, now',
    '  cancel  removes waiting deliveries',
    '  drop    removes a group that no code handles any more, with its subscriptions',
    '          and deliveries',
  ].join('\n'),
  examples: ['rung events', 'rung events list --state dead --queue notifications', 'rung events drop old-group'],
  settings: databaseSettings,
  options: queueOptions,
  run(input) {
    return withQueues(input, async (queue, outbox, log) => {
      const { out, positionals } = input
      if (positionals[0] === 'drop') return drop(input, outbox)
      if (positionals.length > 0) return runQueueVerb(events, input, queue, kind)
      const lags = await groupLags([{ name: mainDatabase, log }])
      const groups = await groupViews(queue, outbox, lags)
      const state = lags.length > 0 ? await log.state() : undefined
      return result(groups, () => {
        if (groups.length === 0) return out.line('There are no consumer groups.')
        const counts = groups.map(({ group, ...count }) => ({ ...count, queue: queueOfGroup(group) }))
        const [head, ...lines] = countLines('group', counts, kind)
        out.line(head)
        for (const [index, line] of lines.entries()) {
          out.line(line)
          const { events, behind } = groups[index]!
          for (const event of events) out.line(`  ${event}`)
          if (behind) out.line(`  is behind by ${behind} ${behind === 1 ? 'event' : 'events'}`)
        }
        if (!state) return
        const unsent = state.unnumbered + state.unsent
        const waits = unsent === 0 ? '' : `; the oldest waits for ${formatMs(state.oldestMs)}`
        out.line(`\n${unsent} published events are not in the broker yet${waits}.`)
      })
    })
  },
}
export default events

async function drop({ positionals: [, group], out }: Input, outbox: Outbox): Promise<Result> {
  if (group === undefined) throw new RungError('COMMAND_INVALID', 'Name the group: rung events drop <group>')
  const subscriptions = (await outbox.subscriptions()).filter((row) => row.group === group).length
  const deliveries = await outbox.drop(group)
  return result(
    { group, subscriptions, deliveries },
    () => out.line(`${group}: removed ${subscriptions} subscriptions and ${deliveries} deliveries.`),
    subscriptions + deliveries > 0 ? 0 : 1,
  )
}
