import path from 'node:path'
import { describe } from '../topology/describe.ts'
import type { Command, Input } from './command.ts'
import {
  appFolder,
  portOption,
  rungAndApp,
  topologyOptions,
  wantedTopology,
  webOption,
  workerOption,
} from './rung-config.ts'

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
    '    data: { url, readConnectionsMax, writeConnectionsMax },  // DATABASE_URL, …',
    "    cache: { url: 'redis://…' },            // RUNG_REDIS_URL: none is started",
    "    edge: 'off',                            // RUNG_EDGE",
    "    cdn: { name: 'fastly', id, url },       // RUNG_CDN (or off), RUNG_CDN_ID, …;",
    '                                            // its token by RUNG_CDN_TOKEN alone',
    '    processes: { web: 2, worker: 1 },       // RUNG_WEB, RUNG_WORKER',
    "    http: { host: '0.0.0.0', port: 80 },    // HOST, PORT",
    '    silentMsMax: 30_000,                    // RUNG_SILENT_MS',
    '  })',
    '',
    'All of it may be left out. With RUNG_BACKUP_DIR its own Postgres is archived.',
  ].join('\n'),
  examples: ['rung topology', 'rung topology 10k --json'],
  options: { port: portOption, web: webOption, worker: workerOption },
  async run({ positionals, values, env, cwd, json, out }) {
    const { rung, app } = rungAndApp(positionals)
    const { topology, file } = await wantedTopology([...appFolder(app, cwd), cwd], env, {
      rung,
      ...topologyOptions(values),
    })
    const parts = describe(topology, env.RUNG_BACKUP_DIR)
    if (json) {
      out.json({ file: file ?? null, parts, topology: shown(topology) })
      return 0
    }
    print(topology.rung, parts, out)
    if (file !== undefined) out.line(`\nWith the changes of ${path.relative(cwd, file)}.`)
    return 0
  },
}
export default command

function print(rung: string, parts: ReturnType<typeof describe>, out: Input['out']): void {
  const row = (part: string, count: string, runs: string) => out.line(`${part.padEnd(11)}${count.padEnd(7)}${runs}`)
  out.line(`rung ${rung}`)
  row('part', 'count', 'what runs')
  for (const { part, count, runs } of parts) row(part, count === 0 ? 'yours' : String(count), runs)
}

/** URLs may hold passwords, and what may purge is nobody's to see. */
function shown(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (key, inner) => {
      if (key === 'token') return undefined
      if (key !== 'url' || typeof inner !== 'string') return inner
      return inner.replace(/\/\/[^/@]*@/, '//…@')
    }),
  )
}
