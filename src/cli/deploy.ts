import path from 'node:path'
import { askFleet, watchMsMost } from '../fleet/control.ts'
import type { DeployResult } from '../fleet/deploy.ts'
import { isRungError, RungError, sentence } from '../kernel/errors.ts'
import { formatMs, toMs } from '../kernel/units.ts'
import { readSetting } from '../topology/read-settings.ts'
import { settings } from '../topology/settings.ts'
import { type Command, type Input, result, settingOptions } from './command.ts'
import { dataDirOfInput } from './input-settings.ts'

const deploy: Command = {
  name: 'deploy',
  summary: 'replace the code of a running fleet, process by process',
  usage: 'rung deploy [folder] [options]',
  wordsMax: 1,
  help: [
    'Copies the code of the app and applies its migrations, while the old code runs; they',
    'must suit both. Then one more web process starts with the new code, and is compared with',
    'the others: share of 5xx answers, and p95. If it is no worse, each web process and each',
    'worker is restarted, one after the other. No request fails.',
    '',
    'If the new code does not start, ends again and again, or is worse, all processes go back',
    'to the old code, and this command exits with 1. Applied migrations stay.',
    '',
    'Without a folder the code is taken from where the fleet was started; a folder of its own',
    'for each release also keeps its node_modules. Settings stay those of the start. Ctrl-C',
    'ends only this command: the deploy is completed. See: rung deploys',
  ].join('\n'),
  settings: ['process.build'],
  examples: [
    'rung deploy',
    'rung deploy ../shop-2 --watch 30s',
    'RUNG_BUILD=$(git rev-parse --short HEAD) rung deploy',
  ],
  options: {
    ...settingOptions('process.dataDir'),
    watch: { type: 'string', value: 'time', help: 'How long old and new are compared (10s); 0s: not at all.' },
  },
  async run(input) {
    const [place] = input.positionals
    const build = readSetting(settings.process.build, { env: input.env })
    const request = {
      command: 'deploy',
      ...(place !== undefined && { place: path.resolve(input.cwd, place) }),
      ...(build !== undefined && { build }),
      ...watchIn(input),
    } as const
    const answer = askFleet(dataDirOfInput(input), request, input.out.note).catch((error) => {
      throw isRungError(error, 'FLEET_NOT_RUNNING') ? orStart(error) : error
    })
    const view = (await answer) as DeployResult
    const isDone = view.outcome !== 'rolled back'
    const print = () => {
      const { out } = input
      if (view.outcome === 'unchanged') out.line(`Build ${view.build} runs already, and nothing was changed.`)
      else if (isDone)
        out.line(`Build ${view.build} runs in place of ${view.previous}, after ${formatMs(view.tookMs)}.`)
      else out.line(`Build ${view.build} was taken back, and ${view.previous} runs. ${view.reason}`)
      if (!isDone && view.migrations.length > 0) out.line(`Its migrations stay: ${view.migrations.join(', ')}.`)
    }
    return result(view, print, isDone ? 0 : 1)
  },
}
export default deploy

function orStart(error: RungError): RungError {
  const message = `${sentence(error.message)} Where nothing runs, "rung up" or "rung start" starts the new code, and applies its migrations.`
  return new RungError('FLEET_NOT_RUNNING', message, { cause: error })
}

/** @throws COMMAND_INVALID */
function watchIn({ values }: Input): { watchMs?: number } {
  if (values.watch === undefined) return {}
  const text = String(values.watch)
  const watchMs = /^\d+(ms|s|m|h)$/.test(text) ? toMs(text as '10s') : Number.NaN
  if (watchMs <= watchMsMost) return { watchMs }
  throw new RungError('COMMAND_INVALID', `--watch must be a time of at most an hour, such as 30s; it is "${text}".`)
}
