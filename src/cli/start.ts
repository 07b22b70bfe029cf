import { existsSync } from 'node:fs'
import path from 'node:path'
import type { App } from '../app/define-app.ts'
import { openDataDir } from '../engines/postgres/data-dir.ts'
import { publicPort } from '../fleet/ports.ts'
import { noteStart } from '../fleet/started.ts'
import { systemClock } from '../kernel/clock.ts'
import { formatMs } from '../kernel/units.ts'
import { metricsPath } from '../observe/metrics.ts'
import { observe } from '../observe/observe.ts'
import { exportTraces } from '../observe/traces.ts'
import { documentPath, referencePath } from '../primitives/http/openapi.ts'
import { boot, type Running } from '../runtime/boot.ts'
import { type Config, readConfig } from '../runtime/config.ts'
import { loadApp } from '../runtime/load-app.ts'
import { createLog } from '../runtime/log.ts'
import { outliveStrayErrors } from '../runtime/stray-errors.ts'
import { type Command, type Input, logOption, withOptions } from './command.ts'
import { lastLine, stopOnSignal } from './stop-on-signal.ts'

const start: Command = {
  name: 'start',
  summary: 'start the app of this folder',
  usage: 'rung start [app-file] [options]',
  wordsMax: 1,
  help: [
    'Starts the database (Postgres in .rung/, unless DATABASE_URL names one), applies',
    'migrations, and serves the app until Ctrl-C or SIGTERM.',
    '',
    'Environment: PORT, HOST, RUNG_DATA, DATABASE_URL, RUNG_SECRET, LOG_LEVEL, RUNG_LOG',
    '(as --log), RUNG_LOG_SAMPLE (share of good requests logged, 0.01; in development 1),',
    'RUNG_POOL_READ and',
    'RUNG_POOL_WRITE (connections, 10), RUNG_DRAIN_MS (0), RUNG_ROLE, RUNG_GRACE_MS',
    '(what runs at a stop has so long to end, 10000), RUNG_BACKUP_DIR (archive to it all',
    'the time), RUNG_BACKUP_KEEP (base backups, 7), RUNG_SMTP_URL, RUNG_MAIL_FROM,',
    'OTEL_EXPORTER_OTLP_ENDPOINT.',
  ].join('\n'),
  examples: ['rung start', 'rung start --role worker', 'PORT=8080 RUNG_DATA=/var/lib/my-app rung start src/app.ts'],
  options: {
    port: { type: 'string', value: 'number', help: 'Port, instead of PORT.' },
    log: logOption,
    role: { type: 'string', value: 'name', help: 'web, worker or both (default), instead of RUNG_ROLE.' },
  },
  async run(input) {
    const stopped = stopOnSignal(input) // from the first moment: a start takes time, and may be stopped too
    return stopped(await serve(input))
  },
}
export default start

/** Starts the app and tells where everything is. */
async function serve(input: Input): Promise<Running> {
  const began = systemClock.ticks()
  const { env, cwd, positionals, values } = input
  const config = readConfig(withOptions(env, values), cwd)
  const app = await loadApp(positionals[0], cwd)
  if (config.topology.data.engine === 'external') return startApp(input, config, app, began)
  await openDataDir(config.dataDir)
  const note = await noteStart(config.dataDir, config.role, app.name)
  try {
    const running = await startApp(input, config, app, began)
    await note.running(running.url)
    return { ...running, stop: () => running.stop().finally(note.ended) }
  } catch (error) {
    await note.ended()
    throw error
  }
}

async function startApp({ env, cwd, json, out }: Input, config: Config, app: App, began: number): Promise<Running> {
  if (config.topology.http.port !== 0)
    await publicPort(config.dataDir, config.topology.http.host, config.topology.http.port)
  const isFirst =
    config.topology.data.engine === 'embedded' &&
    config.role !== 'worker' &&
    !existsSync(path.join(config.dataDir, 'postgres'))
  if (isFirst && !json) out.note(`Making a database in ${path.relative(cwd, config.dataDir) || '.'}, this once …`)
  const log = createLog(app.name, config.logLevel, {
    format: config.logFormat === 'auto' && json ? 'json' : config.logFormat,
    frames: config.mode !== 'production',
  })
  const endTraces = await exportTraces(env, app.name)
  const running = await boot(app, config, {
    log,
    extensions: [observe()],
    onMigration(event) {
      if (event.kind === 'waiting') out.note(`  waiting: ${event.detail}`)
      if (event.kind === 'applied') {
        out.note(`  migrated ${event.migration.module}/${event.migration.name} (${formatMs(event.durationMs)})`)
      }
    },
  })
  const endStray = outliveStrayErrors(log)
  const { url } = running
  const dataDir = config.topology.data.engine === 'embedded' ? path.relative(cwd, config.dataDir) || '.' : undefined
  const facts = {
    app: app.name,
    rung: config.topology.rung,
    role: config.role,
    url,
    reference: `${url}${referencePath}`,
    openapi: `${url}${documentPath}`,
    metrics: `${url}${metricsPath}`,
    data: dataDir === undefined ? 'DATABASE_URL' : path.resolve(config.dataDir),
    pid: process.pid,
    postgresPid: running.server.pid(),
    startMs: Math.round(systemClock.ticks() - began),
  }
  if (json) out.json(facts)
  else {
    const as = config.role === 'both' ? '' : ` as ${config.role}`
    out.line(`${app.name} runs at rung ${facts.rung}${as}, ready in ${formatMs(facts.startMs)}`)
    if (config.role === 'worker') out.line(`  health     ${url}/readyz`)
    else {
      out.line(`  app        ${url}`)
      out.line(`  reference  ${facts.reference}`)
    }
    out.line(`  metrics    ${facts.metrics}`)
    out.line(`  data       ${dataDir ?? 'the Postgres at DATABASE_URL'}`)
    await lastLine(out, '  stop       Ctrl-C')
  }
  return { ...running, stop: () => running.stop().finally(endTraces).finally(endStray) }
}
