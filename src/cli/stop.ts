import path from 'node:path'
import { stopAllOn } from '../fleet/stop.ts'
import { type Command, result, settingOptions } from './command.ts'
import { dataDirOfInput } from './input-settings.ts'

const stop: Command = {
  name: 'stop',
  summary: 'stop what runs here',
  usage: 'rung stop [options]',
  wordsMax: 0,
  help: [
    'Tells the "rung up" or "rung start" of this data directory to stop, and waits until',
    'all of it has ended; also ends a Postgres that outlived a killed one. Does nothing',
    'where nothing runs.',
  ].join('\n'),
  examples: ['rung stop', 'rung stop --data /var/lib/my-app'],
  options: settingOptions('process.dataDir'),
  async run(input) {
    const dataDir = dataDirOfInput(input)
    const pid = await stopAllOn(dataDir)
    const place = path.relative(input.cwd, dataDir) || '.'
    return result({ stopped: pid !== undefined, data: dataDir, pid }, ({ stopped }) =>
      input.out.line(`${stopped ? 'Stopped what ran here' : 'Nothing runs here'} (data directory ${place}).`),
    )
  },
}
export default stop
