import { askFleet, type ControlRequest } from '../fleet/control.ts'
import { RungError } from '../kernel/errors.ts'
import { type Command, type Input, result, settingOptions } from './command.ts'
import { dataDirOfInput, onePart } from './input-settings.ts'

const kill: Command = {
  name: 'kill',
  summary: 'kill a part of a running fleet, to see what happens',
  usage: 'rung kill <part> | zone <name> [options]',
  wordsMax: 2,
  help: [
    'Kills a part of the "rung up" of this data directory at once, as kill -9 does. The',
    'supervisor restarts it. "zone" kills all web and worker processes and all servers of',
    'the database in a zone (RUNG_ZONES). In production mode (NODE_ENV), which is the',
    'default of "rung up", it needs --yes.',
  ].join('\n'),
  examples: ['rung kill web-2', 'rung kill zone b', 'rung kill balancer --yes'],
  options: {
    yes: { type: 'boolean', help: 'Also in production.' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const view = await askFleet(dataDirOfInput(input), requestOf(input), input.out.note)
    return result(view as Killed, (killed) => input.out.line(`Killed ${whatOf(killed)}. See: rung ps`))
  },
}
export default kill

type Killed = { killed: string; pid?: number } | { killed: string[]; zone: string }

function whatOf(view: Killed): string {
  if ('zone' in view) return `zone ${view.zone}: ${view.killed.join(', ')}`
  return view.pid === undefined ? view.killed : `${view.killed}, process ${view.pid}`
}

/** @throws COMMAND_INVALID */
function requestOf(input: Input): ControlRequest {
  const sure = input.values.yes === true
  const [first, second, ...more] = input.positionals
  if (first === 'zone' && second !== undefined && more.length === 0) return { command: 'kill-zone', zone: second, sure }
  if (second === undefined) return { command: 'kill', part: onePart(kill, input), sure }
  throw new RungError('COMMAND_INVALID', 'Name one part, or a zone, for example: rung kill web-2, or rung kill zone b')
}
