import path from 'node:path'
import { deploymentOf, type LogicalPart } from '../fleet/deployment.ts'
import { engines } from '../fleet/engines.ts'
import { type Command, type Input, settingOptions } from './command.ts'
import { rungAndApp, settingsOf } from './input-settings.ts'

const command: Command = {
  name: 'topology',
  summary: 'what runs where, at this rung or another',
  usage: 'rung topology [rung] [app-file] [options]',
  help: [
    'Prints what "rung up" would start, with the changes of rung.config.ts beside the app',
    'and of the environment, which wins:',
    '',
    "  import { defineTopology } from 'rung'",
    '  export default defineTopology({',
    "    rung: '10k',",
    "    cache: { url: 'redis://…' },  // then none is started",
    "    edge: 'off',",
    '    processes: { web: 2, worker: 1 },',
    '  })',
  ].join('\n'),
  settings: ['rung', 'processes', 'http', 'data', 'cache.url', 'edge', 'cdn', 'backup.dir', 'unresponsiveAfterMs'],
  examples: ['rung topology', 'rung topology 10k --json'],
  options: settingOptions('http.port', 'processes.web', 'processes.worker'),
  async run(input) {
    const { positionals, cwd, json, out } = input
    const settings = await settingsOf(input, rungAndApp(positionals))
    const { topology, parts } = deploymentOf(settings, engines)
    const rows = parts.map(({ name, count, runs }) => ({ part: name, count, runs }))
    const { file } = settings
    if (json) {
      out.json({ file: file ?? null, parts: rows, topology })
      return 0
    }
    print(topology.rung, parts, out)
    if (file !== undefined) out.line(`\nWith the changes of ${path.relative(cwd, file)}.`)
    return 0
  },
}
export default command

function print(rung: string, parts: readonly LogicalPart[], out: Input['out']): void {
  const row = (part: string, count: string, runs: string) => out.line(`${part.padEnd(11)}${count.padEnd(7)}${runs}`)
  out.line(`rung ${rung}`)
  row('part', 'count', 'what runs')
  for (const { name, count, runs } of parts) row(name, count === 0 ? 'yours' : String(count), runs)
}
