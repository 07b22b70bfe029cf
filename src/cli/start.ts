import { existsSync } from 'node:fs'
import path from 'node:path'
import type { App } from '../app/define-app.ts'
import { openDataDir } from '../engines/postgres/data-dir.ts'
import { publicPort } from '../fleet/ports.ts'
import { buildOf } from '../fleet/releases.ts'
import { noteStart } from '../fleet/started.ts'
import { runningFleet } from '../fleet/state.ts'
import { fleetStatus, isApp } from '../fleet/status.ts'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import { figuresOfArchiver } from '../observe/archiver-door.ts'
import { exportLogs } from '../observe/export-logs.ts'
import { metricsPath } from '../observe/metrics.ts'
import { observe } from '../observe/observe.ts'
import type { Server } from '../observe/record/look.ts'
import type { Metric } from '../observe/record/snapshot.ts'
import { exportTraces } from '../observe/traces/otlp.ts'
import { TraceRing } from '../observe/traces/ring.ts'
import { documentPath, referencePath } from '../primitives/http/openapi.ts'
import { boot, type Running } from '../runtime/boot.ts'
import { recordStart } from '../runtime/deploys.ts'
import { loadApp, requireApp } from '../runtime/load-app.ts'
import { createLog } from '../runtime/log.ts'
import { outliveStrayErrors } from '../runtime/stray-errors.ts'
import { type Bindings, bindingsOf } from '../topology/bindings.ts'
import { type Command, type Input, present, result, settingOptions } from './command.ts'
import { consoleText, openConsoleDoor } from './console-door.ts'
import { noteLeftOut, settingsOf } from './input-settings.ts'
import { openProcessDoor } from './process-door.ts'
import { stopOnSignal } from './stop-on-signal.ts'

const start: Command = {
  name: 'start',
  summary: 'start the app of this folder',
  usage: 'rung start [app-file] [options]',
  wordsMax: 1,
  help: [
    'Starts the database (Postgres in .rung/, unless DATABASE_URL names one), applies',
    'migrations, and serves the app until Ctrl-C or SIGTERM. Reads rung.config.ts beside',
    'the app; the environment wins over it, options win over both. Engines besides',
    'Postgres must already run: "rung up" starts them.',
  ].join('\n'),
  settings: [
    'rung',
    'processes',
    'http',
    'data',
    'cache',
    'cdn',
    'files',
    'mail',
    'backup',
    'log',
    'record',
    'console',
    'alerts',
    'limits',
    'shedding',
    'stop',
    'process',
    'telemetry',
  ],
  examples: ['rung start', 'rung start --role worker', 'PORT=8080 RUNG_DATA=/var/lib/my-app rung start src/app.ts'],
  options: settingOptions('http.port', 'log.format', 'process.role', 'process.dataDir'),
  async run(input) {
    const stopped = stopOnSignal(input) // from the first moment: a start takes time and may be stopped too
    return stopped(await serve(input))
  },
}
export default start

async function serve(input: Input): Promise<Running> {
  const began = systemClock.ticks()
  const { cwd, positionals } = input
  const file = requireApp(positionals[0], cwd)
  const settings = await settingsOf(input, { app: file })
  noteLeftOut(settings, input)
  const bindings = bindingsOf(settings, cwd)
  const app = await loadApp(file, cwd)
  if (bindings.data.engine === 'external') return startApp(input, bindings, app, file, began)
  await openDataDir(bindings.dataDir)
  await refuseBesideFleet(bindings.dataDir)
  const note = await noteStart(bindings.dataDir, { role: bindings.role, app: app.name, mode: bindings.mode })
  try {
    const running = await startApp(input, bindings, app, file, began, note)
    return { ...running, stop: () => running.stop().finally(note.ended) }
  } catch (error) {
    await note.ended()
    throw error
  }
}

/** A fleet's database has one owner, its supervisor. @throws DATA_DIR_IN_USE */
async function refuseBesideFleet(dataDir: string): Promise<void> {
  const fleet = await runningFleet(dataDir)
  if (!fleet?.parts.some(({ name }) => name === 'postgres')) return
  throw new RungError(
    'DATA_DIR_IN_USE',
    `rung up ${fleet.rung} runs here, as process ${fleet.pid}. End it with rung stop, or set RUNG_DATA to another folder.`,
  )
}

async function startApp(
  input: Input,
  bindings: Bindings,
  app: App,
  file: string,
  began: number,
  note?: Awaited<ReturnType<typeof noteStart>>,
): Promise<Running> {
  const { cwd, json, out } = input
  const { data, dataDir, role, rung } = bindings
  const { host, port } = bindings.http
  if (port !== 0) await publicPort(dataDir, host, port)
  const place = path.relative(cwd, dataDir) || '.'
  const isFirst = data.engine === 'embedded' && role !== 'worker' && !existsSync(path.join(dataDir, 'postgres'))
  if (isFirst && !json) out.note(`Creating a database in ${place} …`)
  const logs = await exportLogs(bindings.telemetry, app.name)
  const log = createLog(app.name, bindings.log.level, {
    format: bindings.log.format === 'auto' && json ? 'json' : bindings.log.format,
    frames: bindings.mode !== 'production',
    zone: bindings.zone,
    copyTo: logs?.write,
  })
  const endTraces = await exportTraces(bindings.telemetry, app.name)
  const ring = new TraceRing({ always: bindings.mode === 'development' })
  const running = await boot(app, bindings, {
    log,
    extensions: [
      observe({
        app,
        traces: ring,
        servers: () => serversOn(dataDir),
        ...(bindings.inFleet && {
          certificateEndsAt: async () => (await runningFleet(dataDir))?.certificate?.endsAt,
          archiver: () => archiverOf(dataDir),
        }),
      }),
    ],
    onMigration(event) {
      if (event.kind === 'newer')
        log.warn({ event: 'migrations-newer', names: event.names }, newerMigrations(event.names))
      if (event.kind === 'waiting') out.note(`  waiting: ${event.detail}`)
      if (event.kind === 'applied') {
        out.note(`  migrated ${event.migration.module}/${event.migration.name} (${formatMs(event.durationMs)})`)
      }
    },
  })
  const endStray = outliveStrayErrors(log)
  // Nobody waits for it, except a stop. A folder that cannot be written must not keep an app from running.
  const closesProcessDoor = openProcessDoor(dataDir, { traces: (query) => ring.answer(query) }).catch((err) => {
    log.debug({ event: 'no-process-door', err }, 'rung profile and rung traces cannot ask this process')
    return async () => {}
  })
  const { url } = running
  const consoleDoor = await openConsoleDoor(bindings.console, { dataDir, app: file, cwd }, (err) =>
    log.debug({ event: 'no-console', err }, 'the console cannot be opened'),
  )
  const view = {
    app: app.name,
    rung,
    role,
    url,
    reference: `${url}${referencePath}`,
    openapi: `${url}${documentPath}`,
    metrics: `${url}${metricsPath}`,
    console: consoleDoor?.url ?? null,
    data: data.engine === 'embedded' ? path.resolve(dataDir) : 'DATABASE_URL',
    pid: process.pid,
    postgresPid: running.server.pid(),
    startMs: Math.round(systemClock.ticks() - began),
  }
  const print = () => {
    out.line(
      `${view.app} runs at rung ${rung}${role === 'both' ? '' : ` as ${role}`}, ready in ${formatMs(view.startMs)}`,
    )
    if (role === 'worker') out.line(`  health     ${url}/readyz`)
    else {
      out.line(`  app        ${url}`)
      out.line(`  reference  ${view.reference}`)
    }
    out.line(`  metrics    ${view.metrics}`)
    if (consoleDoor) out.line(`  console    ${consoleText(consoleDoor)}`)
    out.line(`  data       ${data.engine === 'embedded' ? place : 'the Postgres at DATABASE_URL'}`)
    out.line('  stop       Ctrl-C')
  }
  await note?.running(running)
  present(result(view, print), input)
  // Nobody waits for this, except a stop.
  const recorded = bindings.inFleet
    ? undefined
    : recordBuild(file, bindings, running).catch((err) => log.warn({ event: 'deploy', err }, notRecorded))
  return {
    ...running,
    async stop() {
      running.drain()
      await recorded
      const consoleClosed = consoleDoor?.close()
      await (await closesProcessDoor)()
      await running.stop().finally(endTraces).finally(endStray).finally(logs?.end)
      await consoleClosed
    },
  }
}

async function archiverOf(dataDir: string): Promise<Metric[]> {
  const fleet = await runningFleet(dataDir)
  const archiver = fleet?.parts.find(({ name }) => name === 'archiver')
  return archiver ? figuresOfArchiver(archiver.address) : []
}

/** Processes of the app measure themselves. */
async function serversOn(dataDir: string): Promise<Server[]> {
  const status = await fleetStatus(dataDir)
  return (status.running ? status.parts : []).flatMap(({ name, pid }) =>
    pid === undefined || isApp(name) ? [] : [{ name, pid }],
  )
}

const notRecorded = 'this start was not recorded as a deploy'

/** Records a deploy if this build is another one than that of the last start. */
async function recordBuild(file: string, { build, dataDir, rung }: Bindings, { server }: Running): Promise<void> {
  const id = build ?? (await buildOf(file, dataDir))
  if (id !== undefined) await recordStart(server.connection, { build: id, rung, startedBy: 'rung start' })
}

function newerMigrations(names: readonly string[]): string {
  return `The database has migrations of a newer build: ${names.join(', ')}. This build runs on it all the same, because migrations must suit the build before them.`
}
