import { appendFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { onSameDisk, sameDiskWarning } from '../backup/same-disk.ts'
import { openDataDir } from '../engines/postgres/data-dir.ts'
import { claim } from '../engines/process/pid-file.ts'
import { makeDir } from '../engines/process/server-process.ts'
import { type Deployment, deploymentOf } from '../fleet/deployment.ts'
import { engines } from '../fleet/engines.ts'
import { partStarter } from '../fleet/parts.ts'
import { fleetDir, type Plan, placeDeployment, portsNeeded } from '../fleet/placement.ts'
import { freePorts, publicPort } from '../fleet/ports.ts'
import { keepLogsShort } from '../fleet/short-logs.ts'
import { stateWriter } from '../fleet/state.ts'
import { type PartState, supervise } from '../fleet/supervisor.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { secret } from '../kernel/random.ts'
import { formatMs } from '../kernel/units.ts'
import { requireApp } from '../runtime/load-app.ts'
import type { LoadedSettings } from '../runtime/load-settings.ts'
import { storedRoot } from '../runtime/secrets.ts'
import { backupDirOf, dataDirOf, readBindings } from '../topology/bindings.ts'
import { type Command, type Input, settingOptions } from './command.ts'
import { rungAndApp, settingsOf } from './input-settings.ts'
import { lacksOf } from './lacks.ts'
import { lastLine, stopOnSignal } from './stop-on-signal.ts'

const up: Command = {
  name: 'up',
  summary: 'start the app and everything that its rung needs',
  usage: 'rung up [rung] [app-file] [options]',
  help: [
    'Starts what the rung asks for, each part as a process of its own: Postgres, Redis,',
    'nginx, and the app as web and worker. Restarts what dies or does not answer. Ctrl-C',
    'or SIGTERM stops all of it, from the edge inwards; nothing outlives this command.',
    '',
    'rung.config.ts beside the app changes the topology, the environment wins over it,',
    'the options over both. See: rung topology --help. From another terminal: rung ps,',
    'rung logs, rung stop. With RUNG_BACKUP_DIR a process of its own archives the',
    'database all the time. All settings of its processes: rung start --help.',
  ].join('\n'),
  settings: ['rung', 'processes', 'http.host', 'http.port', 'data.url', 'cache.url', 'edge', 'unresponsiveAfterMs'],
  examples: ['rung up 10k', 'rung up 10k src/app.ts --port 8080 --web 2', 'RUNG_EDGE=off rung up 10k'],
  options: settingOptions('http.port', 'processes.web', 'processes.worker', 'log.format', 'process.dataDir'),
  async run(input) {
    const stopped = stopOnSignal(input) // from the first moment: a start takes time, and may be stopped too
    return runFleet(input, stopped)
  },
}
export default up

type Stopped = ReturnType<typeof stopOnSignal>

async function runFleet(input: Input, stopped: Stopped): Promise<number> {
  const { positionals, cwd, json, out } = input
  const began = systemClock.ticks()
  const { rung, app } = rungAndApp(positionals)
  const appFile = requireApp(app, cwd)
  const settings = await settingsOf(input, { app: appFile, rung })
  const deployment = deploymentOf(settings, engines)
  const { topology } = deployment
  const dataDir = dataDirOf(settings, cwd)
  checkEngines(deployment)
  await openDataDir(dataDir)
  makeDir(fleetDir(dataDir), { prefix: [] })
  const claimed = await claim(fleetDir(dataDir), 'rung up')
  try {
    const plan = await planFor(deployment, settings, appFile, input)
    const place = path.relative(cwd, dataDir) || '.'
    const startedAt = systemClock.now()
    const { start, slowestStopMs } = partStarter()
    const stopWaves = new Set(plan.parts.map(({ stopWave }) => stopWave)).size
    const states = new Map<string, PartState>()
    const writer = stateWriter(dataDir, () => ({
      rung: topology.rung,
      app: appFile,
      url: plan.url,
      startedAt,
      stopTimeoutMs: stopWaves * slowestStopMs(),
      parts: plan.parts.map(({ name, address, log }) => ({ ...states.get(name)!, address, log })),
    }))
    const supervisor = supervise({
      parts: plan.parts,
      start,
      unresponsiveAfterMs: topology.unresponsiveAfterMs,
      onChange(state) {
        writer.changed()
        if (state.state === 'restarting') noteRestart(plan, state)
        if (!json || state.state === 'restarting') tell(state, out.note)
      },
    })
    for (const state of supervisor.states) states.set(state.name, state)
    writer.changed()
    const stopShortening = keepLogsShort(plan.parts.map(({ log }) => log))
    const stop = () => {
      stopShortening()
      return supervisor.stop().finally(() => writer.remove())
    }
    let asked = false
    const code = stopped({
      stop() {
        asked = true
        return stop()
      },
    })
    try {
      await supervisor.ready
    } catch (error) {
      if (asked) return await stayUntil(code) // stopped while it started
      await stop().catch(() => {})
      throw error
    }
    if (!asked) {
      const startMs = Math.round(systemClock.ticks() - began)
      const troubles = await Promise.all(
        plan.parts.map((part) => (part.kind === 'app' ? lacksOf(part.address) : undefined)),
      )
      if (json) out.json(factsOf(plan, topology.rung, supervisor.states, troubles, { appFile, dataDir, startMs }))
      else {
        const backupDir = topology.archived ? backupDirOf(settings, cwd) : undefined
        const { mail, process } = settings.values
        const sendsMail = mail.url !== undefined || process.mode !== 'production'
        await greet(
          plan,
          deployment,
          { app: path.relative(cwd, appFile), place, backupDir, sendsMail, startMs, troubles },
          out,
        )
        if (backupDir !== undefined && (await onSameDisk(dataDir, backupDir).catch(() => false)))
          out.note(sameDiskWarning(backupDir))
      }
    }
    return await stayUntil(code)
  } finally {
    await claimed.release()
  }
}

/** Keeps the process alive: engines do not, and all of them may run elsewhere. */
async function stayUntil(code: Promise<number>): Promise<number> {
  const over = new AbortController()
  const stay = async () => {
    for (;;) await sleep(86_400_000, over.signal)
  }
  stay().catch(() => {})
  return code.finally(() => over.abort())
}

/** Missing programs are reported before anything is started. */
function checkEngines({ parts }: Deployment): void {
  const missing = parts.flatMap(({ count, kind }) => {
    if (count === 0 || kind.type !== 'engine' || kind.engine.packages === undefined) return []
    const problem = kind.engine.look?.().problem ?? undefined
    return problem === undefined ? [] : [{ name: kind.engine.name, problem }]
  })
  if (missing.length === 0) return
  // Named from the inside outwards, as `rung engines` lists them.
  const names = missing.map(({ name }) => name).reverse()
  const problems = missing.map(({ problem }) => problem).reverse()
  throw new RungError('ENGINE_MISSING', `${problems.join(', and ')}. Run: rung engines install ${names.join(' ')}`, {
    facts: { missing: names },
  })
}

/** The plan with its ports. Every value that a process of the app will read is checked before anything is started. */
async function planFor(
  deployment: Deployment,
  settings: LoadedSettings,
  appFile: string,
  { env, cwd }: Input,
): Promise<Plan> {
  const dataDir = dataDirOf(settings, cwd)
  const { host, port: wanted } = deployment.topology.http
  const port = await publicPort(dataDir, host, wanted)
  const plan = placeDeployment(deployment, settings, {
    dataDir,
    tmpDir: tmpdir(),
    app: { program: process.execPath, args: [...process.execArgv, process.argv[1]!], file: appFile, cwd, env },
    entry: { host, port },
    ports: await freePorts(dataDir, portsNeeded(deployment), port),
    rootSecret: settings.values.process.secret ?? (await storedRoot(dataDir)),
    secretOf: () => secret(),
  })
  for (const part of plan.parts) if (part.kind === 'app') readBindings(part.env, cwd)
  return plan
}

/** A process that was killed could not write so itself. */
function noteRestart({ parts }: Plan, { name, trouble }: PartState): void {
  const text = `${new Date(systemClock.now()).toISOString()} rung up: ${trouble}; starting it again\n`
  appendFile(parts.find((part) => part.name === name)!.log, text).catch(() => {}) // the disk may be full
}

function tell({ name, state, trouble, restarts, pid }: PartState, note: (text: string) => void): void {
  const line = (text: string) => note(`  ${name.padEnd(9)}  ${text}`)
  if (state === 'running') line(restarts > 0 ? `is back, process ${pid}` : `runs, process ${pid}`)
  if (state === 'restarting') line(`${trouble?.slice(0, 200) ?? 'ended'}; starting it again`)
  if (state === 'stopped') line('stopped')
}

function factsOf(
  plan: Plan,
  rung: string,
  states: readonly PartState[],
  troubles: readonly (string | undefined)[],
  { appFile, dataDir, startMs }: { appFile: string; dataDir: string; startMs: number },
) {
  return {
    app: appFile,
    rung,
    url: plan.url,
    data: dataDir,
    pid: process.pid,
    parts: plan.parts.map(({ name, address }, index) => ({
      name,
      pid: states[index]!.pid,
      address,
      trouble: troubles[index],
    })),
    startMs,
  }
}

async function greet(
  plan: Plan,
  { topology, parts }: Deployment,
  {
    app,
    place,
    backupDir,
    sendsMail,
    startMs,
    troubles,
  }: {
    app: string
    place: string
    backupDir: string | undefined
    sendsMail: boolean
    startMs: number
    troubles: readonly (string | undefined)[]
  },
  out: Input['out'],
): Promise<void> {
  const line = (name: string, text: string) => out.line(`  ${name.padEnd(9)}  ${text}`)
  out.line(`${app} runs at rung ${topology.rung}, ready in ${formatMs(startMs)}`)
  line('app', plan.url)
  for (const part of plan.parts)
    if (part.kind !== 'engine')
      line(
        part.name,
        `http://${part.address}/metrics${part.kind === 'app' && part.role !== 'worker' ? ', /reference' : ''}`,
      )
  line('data', place)
  if (!sendsMail) line('mail', 'is written to the data directory and not sent: set RUNG_SMTP_URL')
  if (backupDir !== undefined) line('backups', backupDir)
  for (const { name, runs, count } of parts) if (count === 0) line(name, `${runs}, which runs elsewhere`)
  for (const [index, trouble] of troubles.entries()) if (trouble) line(plan.parts[index]!.name, `${trouble}: rung logs`)
  line('look', 'rung ps, rung logs -f')
  return lastLine(out, `  ${'stop'.padEnd(9)}  Ctrl-C, or: rung stop`)
}
