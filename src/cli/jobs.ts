import { isGroupQueue } from '../primitives/events/contract.ts'
import { type Command, databaseSettings, result } from './command.ts'
import { countLines, type QueueKind, queueOptions, runQueueVerb, withQueues } from './queues.ts'

const kind: QueueKind = { noun: 'job', ofEvents: false, label: (queue) => queue, queueOf: (label) => label }

const jobs: Command = {
  name: 'jobs',
  summary: 'count, list, retry and cancel jobs',
  usage: 'rung jobs [list | show <id …> | retry <id …> | cancel <id …>] [options]',
  help: [
    'Without a verb: how many jobs of each queue wait, run and are dead, and how long',
    'the oldest has waited. Works on the database of the app, which may be running.',
    '',
    '  list    lists jobs, newest first',
    '  show    shows everything known about the given jobs',
    '  retry   runs dead jobs, and jobs that wait for another try, now',
    '  cancel  removes waiting jobs, and tells running ones to end',
  ].join('\n'),
  examples: ['rung jobs', 'rung jobs list --state dead', 'rung jobs retry --dead --queue send-mail'],
  settings: databaseSettings,
  options: queueOptions,
  run(input) {
    return withQueues(input, async (queue) => {
      if (input.positionals.length > 0) return runQueueVerb(jobs, input, queue, kind)
      const counts = (await queue.count()).filter(({ queue: name }) => !isGroupQueue(name))
      return result(counts, () => {
        if (counts.length === 0) input.out.line('No job waits, runs or is dead.')
        else for (const line of countLines('queue', counts, kind)) input.out.line(line)
      })
    })
  },
}
export default jobs
