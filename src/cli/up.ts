import { appendFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { onSameDisk, sameDiskWarning } from '../backup/same-disk.ts'
import { installedNginx, nginxProblem } from '../engines/nginx/server.ts'
import { openDataDir } from '../engines/postgres/data-dir.ts'
import { claim } from '../engines/process/pid-file.ts'
import { makeDir } from '../engines/process/server-process.ts'
import { installedRedis, redisProblem } from '../engines/redis/server.ts'
import { logOf, startPart } from '../fleet/parts.ts'
import { fleetDir, type Part, type Plan, planFleet, portsNeeded } from '../fleet/plan.ts'
import { freePorts, publicPort } from '../fleet/ports.ts'
import { keepLogsShort } from '../fleet/short-logs.ts'
import { stateWriter } from '../fleet/state.ts'
import { type PartState, supervise } from '../fleet/supervisor.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { secret } from '../kernel/random.ts'
import { formatMs } from '../kernel/units.ts'
import { readConfig } from '../runtime/config.ts'
import { findApp } from '../runtime/load-app.ts'
import { storedRoot } from '../runtime/secrets.ts'
import type { Topology } from '../topology/topology.ts'
import { type Command, type Input, logOption, withOptions } from './command.ts'
import { lacksOf } from './lacks.ts'
import {
  dataDirOf,
  dataOption,
  portOption,
  rungAndApp,
  topologyOptions,
  wantedTopology,
  webOption,
  workerOption,
} from './rung-config.ts'
import { lastLine, stopOnSignal } from './stop-on-signal.ts'

const up: Command = {
  name: 'up',
  summary: 'start the app and everything that its rung needs',
  usage: 'rung up [rung] [app-file] [options]',
  help: [
    'Starts what the rung asks for, each part as a process of its own: Postgres, Redis,',
    'nginx, and the app as web and worker. Starts again what dies. Ctrl-C or SIGTERM',
    'stops all of it, from the edge inwards; nothing outlives this command.',
    '',
    'rung.config.ts beside the app changes the topology, the environment wins over it,',
    'the options over both. See: rung topology --help. From another terminal: rung ps,',
    'rung logs, rung stop.',
    '',
    'With RUNG_BACKUP_DIR a process of its own archives the database all the time.',
    '',
    'Environment: as of "rung start", and RUNG_EDGE (on, off), RUNG_WEB, RUNG_WORKER,',
    'RUNG_SILENT_MS (what says nothing for so long is started again, 30000; 0: never).',
  ].join('\n'),
  examples: ['rung up 10k', 'rung up 10k src/app.ts --port 8080 --web 2', 'RUNG_EDGE=off rung up 10k'],
  options: {
    port: portOption,
    web: webOption,
    worker: workerOption,
    log: logOption,
    data: dataOption,
  },
  async run(command) {
    const input = { ...command, env: withOptions(command.env, { log: command.values.log }) }
    const stopped = stopOnSignal(input) // from the first moment: a start takes time, and may be stopped too
    return runFleet(input, stopped)
  },
}
export default up

type Stopped = ReturnType<typeof stopOnSignal>

async function runFleet(input: Input, stopped: Stopped): Promise<number> {
  const { positionals, values, env, cwd, json, out } = input
  const began = systemClock.ticks()
  const { rung, app } = rungAndApp(positionals)
  const appFile = findApp(app, cwd)
  const options = { rung, ...topologyOptions(values) }
  const { topology: wanted } = await wantedTopology([path.dirname(appFile), cwd], env, options)
  const dataDir = dataDirOf(input)
  checkEngines(wanted)
  await openDataDir(dataDir)
  makeDir(fleetDir(dataDir), { prefix: [] })
  const claimed = await claim(fleetDir(dataDir), 'rung up')
  try {
    const { topology, plan } = await planFor(wanted, appFile, dataDir, input)
    const place = path.relative(cwd, dataDir) || '.'
    const startedAt = systemClock.now()
    const states = new Map<string, PartState>()
    const writer = stateWriter(dataDir, () => ({
      rung: topology.rung,
      app: appFile,
      url: plan.url,
      startedAt,
      parts: plan.parts.map((part) => ({ ...states.get(part.name)!, address: part.address, log: logOf(part) })),
    }))
    const supervisor = supervise({
      parts: plan.parts,
      start: startPart,
      silentMsMax: topology.silentMsMax,
      onChange(state) {
        writer.changed()
        if (state.state === 'restarting') noteRestart(plan, state)
        if (!json || state.state === 'restarting') tell(state, out.note)
      },
    })
    for (const state of supervisor.states) states.set(state.name, state)
    writer.changed()
    const stopShortening = keepLogsShort(plan.parts.map(logOf))
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
      if (json) out.json(factsOf(plan, topology, supervisor.states, troubles, { appFile, dataDir, startMs }))
      else {
        const backupDir = plan.parts.some(({ kind }) => kind === 'archiver') ? env.RUNG_BACKUP_DIR : undefined
        const sendsMail = Boolean(env.RUNG_SMTP_URL) || (env.NODE_ENV || 'production') !== 'production'
        await greet(
          plan,
          topology,
          { app: path.relative(cwd, appFile), place, backupDir, sendsMail, startMs, troubles },
          out,
        )
        if (backupDir !== undefined && (await onSameDisk(dataDir, path.resolve(cwd, backupDir)).catch(() => false)))
          out.note(sameDiskWarning(backupDir))
      }
    }
    return await stayUntil(code)
  } finally {
    await claimed.release()
  }
}

/** Engines do not keep this process alive; with all of them elsewhere nothing else would. */
async function stayUntil(code: Promise<number>): Promise<number> {
  const over = new AbortController()
  const stay = async () => {
    for (;;) await sleep(86_400_000, over.signal)
  }
  stay().catch(() => {})
  return code.finally(() => over.abort())
}

/** Missing programs are told before anything is started. */
function checkEngines({ cache, edge }: Topology): void {
  const missing: [string, string][] = []
  const redis = cache.engine === 'redis' && cache.url === undefined ? redisProblem(installedRedis()) : undefined
  const nginx = edge.engine === 'nginx' ? nginxProblem(installedNginx()) : undefined
  if (redis !== undefined) missing.push(['redis', redis])
  if (nginx !== undefined) missing.push(['nginx', nginx])
  if (missing.length === 0) return
  throw new RungError(
    'ENGINE_MISSING',
    `${missing.map(([, problem]) => problem).join(', and ')}. Run: rung engines install ${missing.map(([name]) => name).join(' ')}`,
    { facts: { missing: missing.map(([name]) => name) } },
  )
}

/** With its ports, and every value that a process of the app will read looked at once, before anything is started. */
async function planFor(
  wanted: Topology,
  appFile: string,
  dataDir: string,
  { env, cwd }: Input,
): Promise<{ topology: Topology; plan: Plan }> {
  const port = await publicPort(dataDir, wanted.http.host, wanted.http.port)
  const topology = { ...wanted, http: { ...wanted.http, port } }
  const args = [...process.execArgv, process.argv[1]!]
  const app = { program: process.execPath, args, file: appFile, cwd, env }
  const plan = planFleet(topology, {
    dataDir,
    tmpDir: tmpdir(),
    app,
    ports: await freePorts(dataDir, portsNeeded(topology, app), port),
    secrets: { root: env.RUNG_SECRET || (await storedRoot(dataDir)), redis: secret(), edge: secret() },
  })
  for (const part of plan.parts) if ('env' in part) readConfig(part.env, cwd)
  return { topology, plan }
}

/** What was killed could not say so itself. */
function noteRestart({ parts }: Plan, { name, trouble }: PartState): void {
  const text = `${new Date(systemClock.now()).toISOString()} rung up: ${trouble}; starting it again\n`
  appendFile(logOf(parts.find((part) => part.name === name)!), text).catch(() => {}) // the disk may be full
}

function tell({ name, state, trouble, restarts, pid }: PartState, note: (text: string) => void): void {
  const line = (text: string) => note(`  ${name.padEnd(9)}  ${text}`)
  if (state === 'running') line(restarts > 0 ? `is back, process ${pid}` : `runs, process ${pid}`)
  if (state === 'restarting') line(`${trouble?.slice(0, 200) ?? 'ended'}; starting it again`)
  if (state === 'stopped') line('stopped')
}

function factsOf(
  plan: Plan,
  topology: Topology,
  states: readonly PartState[],
  troubles: readonly (string | undefined)[],
  { appFile, dataDir, startMs }: { appFile: string; dataDir: string; startMs: number },
) {
  return {
    app: appFile,
    rung: topology.rung,
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
  topology: Topology,
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
    if ('healthUrl' in part)
      line(
        part.name,
        `http://${part.address}/metrics${part.kind === 'app' && part.role !== 'worker' ? ', /reference' : ''}`,
      )
  line('data', place)
  if (!sendsMail) line('mail', 'is written to the data directory and not sent: set RUNG_SMTP_URL')
  if (backupDir !== undefined) line('backups', backupDir)
  for (const [name, text] of elsewhere(topology, plan.parts)) line(name, text)
  for (const [index, trouble] of troubles.entries()) if (trouble) line(plan.parts[index]!.name, `${trouble}: rung logs`)
  line('look', 'rung ps, rung logs -f')
  return lastLine(out, `  ${'stop'.padEnd(9)}  Ctrl-C, or: rung stop`)
}

/** Engines that this command has not started. */
function elsewhere({ data, cache, cdn }: Topology, parts: readonly Part[]): [name: string, text: string][] {
  const has = (kind: Part['kind']) => parts.some((part) => part.kind === kind)
  return [
    ...(data.url !== undefined && !has('postgres')
      ? [['postgres', 'yours, which runs elsewhere'] as [string, string]]
      : []),
    ...(cache.url !== undefined && !has('redis') ? [['redis', 'yours, which runs elsewhere'] as [string, string]] : []),
    ...(cdn !== undefined ? [['cdn', `${cdn.name}, which is purged`] as [string, string]] : []),
  ]
}
