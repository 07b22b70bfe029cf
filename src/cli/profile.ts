import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { codeFolderOf, releasesDir } from '../fleet/releases.ts'
import { runningFleet } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import { summariseProfile } from '../observe/profile/summary.ts'
import { type Command, numberOption, result, settingOptions, timeOption } from './command.ts'
import { dataDirOfInput } from './input-settings.ts'
import { appProcesses, askForProfile, profileMsMax } from './process-door.ts'
import { cutStart, tableLines } from './table.ts'

const profile: Command = {
  name: 'profile',
  summary: 'show where a running process of the app spends its CPU time',
  usage: 'rung profile [part] [options]',
  wordsMax: 1,
  help: [
    'Profiles a process of "rung start" or "rung up" while it answers, and shows which folders',
    'of the app, packages and functions use its CPU. Without a part it is the first process',
    'that answers requests. A profile costs the process a few percent of its CPU.',
    '',
    'The whole profile is written into a file, for the Performance tab of Chrome, for VS Code',
    'or for speedscope.app, which draw it as flames.',
  ].join('\n'),
  examples: ['rung profile', 'rung profile web-1 --for 10s', 'rung profile worker-1 --out worker.cpuprofile'],
  options: {
    for: { type: 'string', value: 'time', help: 'How long: 10s, at most 1m (10s).' },
    out: { type: 'string', value: 'file', help: 'Where the profile is written (<part>-<time>.cpuprofile).' },
    last: { type: 'string', value: 'number', help: 'How many functions are shown (15).' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { positionals, values, cwd, out } = input
    const dataDir = dataDirOfInput(input)
    const ms = timeOption(input, 'for', 10_000)
    if (ms > profileMsMax) throw new RungError('COMMAND_INVALID', `--for must be at most ${formatMs(profileMsMax)}.`)
    const last = numberOption(input, 'last', { max: 1_000, otherwise: 15 })
    const { name, pid } = await processOf(dataDir, positionals[0])
    out.note(`profiles ${name} for ${formatMs(ms)}`)
    const taken = await askForProfile(dataDir, pid, ms)
    const time = new Date(systemClock.now()).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')
    const file = path.resolve(cwd, typeof values.out === 'string' ? values.out : `${name}-${time}.cpuprofile`)
    await writeFile(file, JSON.stringify(taken), { mode: 0o600 }).catch((cause) => {
      throw new RungError('COMMAND_INVALID', `${file} cannot be written (${cause.code}). Name another --out.`, {
        cause,
      })
    })
    const fleet = await runningFleet(dataDir)
    const appDir = fleet?.app ? codeFolderOf(fleet.app) : cwd
    const where = { rungDir, cwd, appDir, releasesDir: releasesDir(dataDir) }
    const { functions, ...summary } = summariseProfile(taken, where)
    const view = { part: name, file, ...summary, functions: functions.slice(0, last) }
    return result(view, ({ ms, busy, places, functions }) => {
      out.line(`${name} was busy for ${percent(busy)} of ${formatMs(ms)}.`)
      out.line()
      const rows = places.slice(0, 12).map(({ place, share }) => [cutStart(place, 60), percent(share)])
      for (const line of tableLines([62, -9], [['in code of', 'time'], ...rows])) out.line(line)
      out.line()
      const cells = functions.map((one) => [
        ...[cutStart(one.name, 28), cutStart(one.at, 31), percent(one.own), percent(one.total)],
      ])
      for (const line of tableLines([28, 31, -7, -8], [['function', 'at', 'own', 'with all'], ...cells])) out.line(line)
      out.line()
      out.line(`All of it: ${path.relative(cwd, file) || file}`)
    })
  },
}
export default profile

/** `src`, or `dist` of the package. */
const rungDir = path.dirname(import.meta.dirname)

/** @throws FLEET_NOT_RUNNING, COMMAND_INVALID */
async function processOf(dataDir: string, named: string | undefined): Promise<{ name: string; pid: number }> {
  const parts = await appProcesses(dataDir)
  const found = parts.find(({ name }) => named === undefined || name === named)
  if (found) return found
  const names = parts.map(({ name }) => name).join(', ')
  throw new RungError('COMMAND_INVALID', `No process of the app is named "${named}". These run: ${names}.`)
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}
