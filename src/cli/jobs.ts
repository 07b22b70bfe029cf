import { isGroupQueue } from '../primitives/events/contract.ts'
import type { Command } from './command.ts'
import { countLines, type QueueView, queueOptions, runQueueVerb, withQueues } from './queues.ts'

const view: QueueView = {
  noun: 'job',
  ofEvents: false,
  label: (queue) => queue,
  queueOf: (label) => label,
}

const jobs: Command = {
  name: 'jobs',
  summary: 'count, list, retry and cancel jobs',
  usage: 'rung jobs [list | show <id …> | retry <id …> | cancel <id …>] [options]',
  help: [
    'Without a verb: how many jobs wait, run and are dead in each queue, and how long',
    'the oldest has been waiting. Works on the database of the app, which may run.',
    '',
    '  list    the jobs, newest first',
    '  show    all that is known of some',
    '  retry   dead ones, and those that wait for another try, run now',
    '  cancel  waiting ones never run, running ones are told to end',
  ].join('\n'),
  examples: ['rung jobs', 'rung jobs list --state dead', 'rung jobs retry --dead --queue send-mail'],
  settings: ['data', 'process.dataDir', 'process.config'],
  options: queueOptions,
  run(input) {
    return withQueues(input, async ({ queue }) => {
      if (input.positionals.length > 0) return runQueueVerb(input, queue, view)
      const counts = (await queue.count()).filter(({ queue: name }) => !isGroupQueue(name))
      if (input.json) input.out.json(counts)
      else if (counts.length === 0) input.out.line('No job waits, runs or is dead.')
      else for (const line of countLines('queue', counts, view)) input.out.line(line)
      return 0
    })
  },
}
export default jobs
