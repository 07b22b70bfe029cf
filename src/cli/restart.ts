import { askFleet } from '../fleet/control.ts'
import { type Command, result, settingOptions } from './command.ts'
import { dataDirOfInput, onePart } from './input-settings.ts'

const restart: Command = {
  name: 'restart',
  summary: 'restart parts of a running fleet',
  usage: 'rung restart <part> [options]',
  wordsMax: 1,
  help: [
    'Restarts a part of the "rung up" of this data directory: web-2, or web for all web',
    'processes, one after the other. Behind the balancer no request fails: each answers the',
    'requests that it has, while another one gets the new ones. Other parts are simply',
    'stopped and started again.',
  ].join('\n'),
  examples: ['rung restart web', 'rung restart web-2', 'rung restart pooler'],
  options: settingOptions('process.dataDir'),
  async run(input) {
    const request = { command: 'restart', part: onePart(restart, input) } as const
    const view = await askFleet(dataDirOfInput(input), request, input.out.note)
    return result(view as { restarted: string[] }, ({ restarted }) =>
      input.out.line(`Restarted ${restarted.join(', ')}.`),
    )
  },
}
export default restart
