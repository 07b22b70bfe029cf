import path from 'node:path'
import { deploymentOf } from '../fleet/deployment.ts'
import { engines } from '../fleet/engines.ts'
import { runningFleet } from '../fleet/state.ts'
import { connectionsNeeded } from '../topology/topology.ts'
import { type Command, result, settingOptions } from './command.ts'
import { dataDirOfInput, rungAndApp, settingsOf } from './input-settings.ts'
import { tableLines } from './table.ts'

const command: Command = {
  name: 'topology',
  summary: 'show what runs at this rung or another',
  usage: 'rung topology [rung] [app-file] [options]',
  help: [
    'Prints what "rung up" would start, with the changes of rung.config.ts beside the app',
    'and of the environment, which wins. Without a rung it is the one that runs here:',
    '',
    "  import { defineTopology } from 'rung'",
    '  export default defineTopology({',
    "    rung: '10k',",
    "    cache: { url: 'redis://…' },  // then none is started",
    "    edge: 'off',",
    '    processes: { web: 2, worker: 1 },',
    '  })',
  ].join('\n'),
  settings: [
    'rung',
    'processes',
    'nodes',
    'http',
    'data',
    'cache.url',
    'cache.nodes',
    'events.engine',
    'events.url',
    'events.nodes',
    'edge',
    'balancer',
    'cdn',
    'backup.dir',
    'backup.url',
    'unresponsiveAfterMs',
  ],
  examples: ['rung topology', 'rung topology 10k --json'],
  options: settingOptions('process.dataDir', 'http.port', 'processes.web', 'processes.worker', 'data.replicas'),
  async run(input) {
    const { positionals, cwd, out } = input
    const { rung, app } = rungAndApp(positionals)
    // A fleet may have climbed, and "rung up" goes on there.
    const running = rung === undefined ? (await runningFleet(dataDirOfInput(input)))?.rung || undefined : undefined
    const settings = await settingsOf(input, { app, rung: rung ?? running })
    const { topology, parts: logical } = deploymentOf(settings, engines)
    const parts = logical.map(({ name, count, runs }) => ({ part: name, count, runs }))
    const needed = connectionsNeeded(topology)
    const view = { file: settings.file ?? null, running: running ?? null, parts, connectionsNeeded: needed, topology }
    return result(view, ({ file }) => {
      out.line(`rung ${topology.rung}${running === undefined ? '' : ', which runs here'}`)
      const rows = parts.map(({ part, count, runs }) => [part, count === 0 ? 'yours' : String(count), runs])
      for (const line of tableLines([9, 5, 62], [['part', 'count', 'what runs'], ...rows])) out.line(line)
      out.line(`\nAll of it needs at most ${needed} connections to a server of the database.`)
      if (file !== null) out.line(`With the changes of ${path.relative(cwd, file)}.`)
    })
  },
}
export default command
