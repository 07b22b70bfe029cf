import path from 'node:path'
import { type InForce, settingsInForce } from '../topology/in-force.ts'
import { type Command, result, settingOptions } from './command.ts'
import { noteLeftOut, rungAndApp, settingsOf } from './input-settings.ts'
import { tableLines } from './table.ts'

const command: Command = {
  name: 'settings',
  summary: 'show which settings are in force, and where each comes from',
  usage: 'rung settings [rung] [app-file] [options]',
  help: [
    'Prints every setting that has a value, as a command that is started here reads it:',
    'options win over the environment, and that over rung.config.ts beside the app. The',
    'rest comes from the rung, from NODE_ENV, or is the default. Secrets are not shown.',
    '',
    'A secret may be in a file: instead of RUNG_SECRET set RUNG_SECRET_FILE to its path;',
    'the same goes for every setting that is a secret. With --given only what somebody has',
    'set is printed.',
  ].join('\n'),
  examples: ['rung settings', 'rung settings 10k --given', 'rung settings --json'],
  options: {
    given: { type: 'boolean', help: 'Leave out defaults.' },
    ...settingOptions('http.port', 'processes.web', 'processes.worker', 'data.replicas', 'process.dataDir'),
  },
  async run(input) {
    const { positionals, cwd, out, values } = input
    const settings = await settingsOf(input, rungAndApp(positionals))
    noteLeftOut(settings, input)
    const all = settingsInForce(settings)
    const isGiven = ({ from }: InForce) => from === 'file' || from === 'environment' || from === 'option'
    const shown = values.given ? all.filter(isGiven) : all
    const view = { file: settings.file ?? null, leftOut: settings.leftOut, settings: shown }
    return result(view, ({ file }) => {
      const rows = shown.flatMap((one) => {
        const value = one.hidden ? '(not shown)' : one.value
        return value === null ? [] : [[one.variable, value, sourceOf(one, settings.values.rung)]]
      })
      const wide = (at: number) => Math.max(5, ...rows.map((row) => row[at]!.length))
      for (const line of tableLines([wide(0), wide(1), wide(2)], [['variable', 'value', 'from'], ...rows], '  '))
        out.line(line)
      if (rows.length === 0) out.line('Nothing is set.')
      const shownFile = file === null ? undefined : path.relative(cwd, file)
      if (shownFile !== undefined && shownFile !== 'rung.config.ts') out.line(`\nrung.config.ts is ${shownFile}.`)
    })
  },
}
export default command

function sourceOf({ from, called, setting }: InForce, rung: string): string {
  if (from === 'rung') return `rung ${rung}`
  if (from === 'mode') return 'NODE_ENV'
  if (from === 'file') return `rung.config.ts, ${setting}`
  return called ?? 'default'
}
