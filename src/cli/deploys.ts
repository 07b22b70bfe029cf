import { type Deploy, listDeploys } from '../runtime/deploys.ts'
import { createLog } from '../runtime/log.ts'
import { startDatabaseServer } from '../runtime/wire.ts'
import { type Command, databaseSettings, numberOption, result, settingOptions } from './command.ts'
import { toolBindings } from './input-settings.ts'
import { tableLines } from './table.ts'

const deploys: Command = {
  name: 'deploys',
  summary: 'list the builds that were started, climbs, and how they ended',
  usage: 'rung deploys [options]',
  wordsMax: 0,
  help: [
    'Lists the last deploys, the newest first: a start of "rung start" or "rung up" with',
    'another build than the last one, each "rung deploy" and each "rung climb". The id of a build is made from',
    "the files of the app's folder, unless RUNG_BUILD names it.",
  ].join('\n'),
  settings: databaseSettings,
  examples: ['rung deploys', 'rung deploys --last 100 --json'],
  options: {
    ...settingOptions('process.dataDir'),
    last: { type: 'string', value: 'number', help: 'How many are shown (20).' },
  },
  async run(input) {
    const bindings = await toolBindings(input)
    const server = await startDatabaseServer(bindings, createLog('rung', 'silent'), 'attach')
    try {
      const last = numberOption(input, 'last', { max: 1_000, otherwise: 20 })
      return result(await listDeploys(server.connection, last), (found) => {
        if (found.length === 0) return input.out.line('Nothing was started here yet.')
        for (const line of linesOf(found)) input.out.line(line)
      })
    } finally {
      await server.stop()
    }
  },
}
export default deploys

function linesOf(found: readonly Deploy[]): string[] {
  const heads = ['when', 'build', 'rung', 'by', 'outcome']
  const rows = found.map(({ startedAt, build, rung, fromRung, startedBy, outcome }) => {
    return [
      `${startedAt.toISOString().slice(0, 19)}Z`,
      build,
      fromRung ? `${fromRung} → ${rung}` : rung,
      startedBy,
      outcome,
    ]
  })
  const reasons = found.flatMap(({ build, reason }) =>
    reason === null
      ? []
      : ['', ...`${build}: ${reason}`.split('\n').map((line, at) => (at === 0 ? line : `  ${line}`))],
  )
  return [...tableLines([20, 14, 11, 11, 11], [heads, ...rows]), ...reasons]
}
