import { askFleet, type Counts, countLimitsOf, type ScaleRequest, scalable } from '../fleet/control.ts'
import { runningFleet } from '../fleet/state.ts'
import { RungError } from '../kernel/errors.ts'
import { rangeIn } from '../topology/setting-types.ts'
import type { Range } from '../topology/topology.ts'
import { type Command, result, settingOptions } from './command.ts'
import { dataDirOfInput } from './input-settings.ts'
import { noteKept } from './kept-notes.ts'

const scale: Command = {
  name: 'scale',
  summary: 'change the number of processes and replicas of a running fleet',
  usage: 'rung scale <part>=<number>|<least>..<most> … [options]',
  help: [
    'Adds and removes web and worker processes and replicas of the database, while the',
    '"rung up" of this data directory answers requests. No request fails: a new process gets',
    'requests once it is ready; one that is removed answers those that it has. For other',
    'replicas the processes of the app are restarted one after the other.',
    '',
    'With two numbers, such as web=2..8, the autoscaler finds the number of web processes or',
    'workers between them; "rung ps" says why. One number ends that.',
    '',
    'Processes of a group of modules are named after it: media-web=3.',
    '',
    'The numbers hold until the fleet stops. Ctrl-C ends only this command: the change',
    'is completed.',
  ].join('\n'),
  examples: [
    'rung scale web=4',
    'rung scale web=2 worker=2 replicas=1',
    'rung scale web=2..8',
    'rung scale web=4 --json',
  ],
  options: settingOptions('process.dataDir'),
  async run(input) {
    const request: ScaleRequest = { command: 'scale', ...countsIn(input.positionals) }
    const dataDir = dataDirOfInput(input)
    const fleet = await runningFleet(dataDir)
    // A fleet that has two processes already was told at its start.
    if (fleet?.parts.filter(({ name }) => /^(web|worker)\b/.test(name)).length === 1) {
      const { web = 1, worker = 0 } = request as Partial<Record<string, number | Range>>
      await noteKept(fleet.app, { web: mostOf(web), worker: mostOf(worker) }, input)
    }
    const view = await askFleet(dataDir, request, input.out.note)
    return result(view as Scaled, ({ now, scaling = {} }) => {
      const counts = Object.entries(now).map(([name, count]) => {
        const range = scaling[name]
        return `${name} ${count}${range ? ` (${range.least} to ${range.most})` : ''}`
      })
      input.out.line(`The fleet now has: ${counts.join(', ')}.`)
    })
  },
}
export default scale

const mostOf = (count: number | Range) => (typeof count === 'number' ? count : count.most)

interface Scaled {
  now: Counts
  scaling?: Readonly<Partial<Record<string, Range>>>
}

/** @throws COMMAND_INVALID */
function countsIn(words: readonly string[]): Record<string, number | Range> {
  const counts: Record<string, number | Range> = {}
  for (const word of words) {
    const [, name, count] = /^([a-z][a-z0-9-]*)=(\d{1,3}(?:\.\.\d{1,3})?)$/.exec(word) ?? []
    const [, part] = /^([\w-]+)=/.exec(word) ?? []
    if (part !== undefined && !countLimitsOf(part)) {
      throw new RungError('COMMAND_INVALID', `"${part}" cannot be scaled; these can: ${scalable}.`)
    }
    if (name === undefined || Object.hasOwn(counts, name)) {
      throw new RungError(
        'COMMAND_INVALID',
        `"${word}" is not a number of parts. Write for example: rung scale web=4 replicas=1`,
      )
    }
    counts[name] = rangeIn(count) ?? Number(count)
  }
  if (words.length > 0) return counts
  throw new RungError('COMMAND_INVALID', 'Say what to change, for example: rung scale web=4 replicas=1 worker=2')
}
