import { askFleet } from '../fleet/control.ts'
import { type Command, result, settingOptions } from './command.ts'
import { dataDirOfInput, onePart } from './input-settings.ts'

const kill: Command = {
  name: 'kill',
  summary: 'kill a part of a running fleet, to see what happens',
  usage: 'rung kill <part> [options]',
  wordsMax: 1,
  help: [
    'Kills a part of the "rung up" of this data directory at once, as kill -9 does. The',
    'supervisor restarts it. A fleet in production (NODE_ENV) needs --yes.',
  ].join('\n'),
  examples: ['rung kill web-2', 'rung kill balancer --yes'],
  options: {
    yes: { type: 'boolean', help: 'Also in production.' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const request = { command: 'kill', part: onePart(kill, input), sure: input.values.yes === true } as const
    const view = await askFleet(dataDirOfInput(input), request, input.out.note)
    return result(view as { killed: string; pid?: number }, ({ killed, pid }) =>
      input.out.line(`Killed ${killed}${pid === undefined ? '' : `, process ${pid}`}. See: rung ps`),
    )
  },
}
export default kill
