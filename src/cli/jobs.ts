import { formatMs } from '../kernel/units.ts'
import { isGroupQueue } from '../primitives/events/contract.ts'
import { type CronState, readCrons } from '../primitives/jobs/cron.ts'
import { type Command, databaseSettings, result, unknownVerb } from './command.ts'
import { withOpenDatabase } from './database.ts'
import { countLines, type QueueKind, queueOptions, runQueueVerb, withQueues } from './queues.ts'
import { cut, second, tableLines } from './table.ts'

const kind: QueueKind = { noun: 'job', ofEvents: false, label: (queue) => queue, queueOf: (label) => label }

const jobs: Command = {
  name: 'jobs',
  summary: 'count, list, retry and cancel jobs',
  usage: 'rung jobs [list | crons | show <id …> | retry <id …> | cancel <id …>] [options]',
  help: [
    'Without a verb: how many jobs of each queue wait, run and are dead, and how long',
    'the oldest has waited. Works on the database of the app, which may be running.',
    '',
    '  list    lists jobs, newest first',
    '  crons   lists what enqueues jobs at regular times: when next, and how the last',
    '          run of its job ended, on which process',
    '  show    shows everything known about the given jobs',
    '  retry   runs dead jobs, and jobs that wait for another try, now',
    '  cancel  removes waiting jobs, and tells running ones to end',
  ].join('\n'),
  examples: ['rung jobs', 'rung jobs crons', 'rung jobs list --state dead', 'rung jobs retry --dead --queue send-mail'],
  settings: databaseSettings,
  options: queueOptions,
  run(input) {
    if (input.positionals[0] === 'crons') {
      if (input.positionals.length > 1) return unknownVerb(jobs, input.positionals.join(' '))
      return withOpenDatabase(input, async ({ database }) =>
        result(await readCrons(database), (crons) => {
          if (crons.length === 0) input.out.line('No job is enqueued at regular times.')
          else for (const line of cronLines(crons)) input.out.line(line)
        }),
      )
    }
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

function cronLines(crons: readonly CronState[]): string[] {
  const widths = [26, 17, 19, 11]
  const rows = crons.flatMap(({ name, pattern, timeZone, job, nextAt, overdue, lastRun }) => {
    const next = overdue ? 'overdue' : nextAt === null ? 'never' : second(Date.parse(nextAt))
    const facts = [
      ...(timeZone === 'UTC' ? [] : [timeZone]),
      ...(job === null || job === name ? [] : [`job ${job}`]),
      ...(lastRun
        ? [`at ${second(Date.parse(lastRun.at))} on ${lastRun.worker}, ${formatMs(lastRun.durationMs)}`]
        : ['no run is known']),
      ...(lastRun?.error === undefined ? [] : [lastRun.error.replace(/\s+/g, ' ')]),
    ]
    const [line] = tableLines(widths, [[name, pattern, next, lastRun?.outcome ?? '']])
    return [line!, `  ${cut(facts.join(', '), 78)}`]
  })
  return [...tableLines(widths, [['cron', 'times', 'next (UTC)', 'last run']]), ...rows]
}
