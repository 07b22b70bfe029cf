import { appendFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import path from 'node:path'
import { onSameDisk, sameDiskWarning } from '../backup/same-disk.ts'
import { undoLeft } from '../chaos/records.ts'
import { openDataDir } from '../engines/postgres/data-dir.ts'
import { openCpuQuota } from '../engines/process/cpu-quota.ts'
import { claim } from '../engines/process/pid-file.ts'
import { makeDir } from '../engines/process/server-process.ts'
import { autoscale } from '../fleet/autoscale.ts'
import { type Certificate, keepCertificate, readCertificate } from '../fleet/certificate.ts'
import type { Planned } from '../fleet/change.ts'
import { type Climbed, readClimbed, writeClimbed } from '../fleet/climbed.ts'
import { type ControlRequest, type Counts, openControl } from '../fleet/control.ts'
import { countsOf, nodesOf, withCounts } from '../fleet/counts.ts'
import type { ReleaseBook } from '../fleet/deploy.ts'
import { type Deployment, deploymentOf } from '../fleet/deployment.ts'
import { engines } from '../fleet/engines.ts'
import { type EntrySocket, openEntrySocket } from '../fleet/entry-socket.ts'
import { openFailover } from '../fleet/failover.ts'
import { liveFleet } from '../fleet/live.ts'
import { partStarter } from '../fleet/parts.ts'
import {
  fleetDir,
  type Part,
  type Plan,
  placeDeployment,
  portsNeeded,
  sharesEntry,
  wordOf,
} from '../fleet/placement.ts'
import { freePorts, publicPort } from '../fleet/ports.ts'
import { processesOfCoreMax } from '../fleet/preflight.ts'
import { probe } from '../fleet/probe.ts'
import { firstRelease, forgetReleases, type Release } from '../fleet/releases.ts'
import { buildIn, withReleases } from '../fleet/rollout.ts'
import { keepLogsShort } from '../fleet/short-logs.ts'
import { noQuota, stateWriter } from '../fleet/state.ts'
import { unusableEngine } from '../fleet/status.ts'
import { type PartState, type Supervisor, supervise } from '../fleet/supervisor.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { secret } from '../kernel/random.ts'
import { formatMs } from '../kernel/units.ts'
import { recordStart } from '../runtime/deploys.ts'
import { requireApp } from '../runtime/load-app.ts'
import type { LoadedSettings } from '../runtime/load-settings.ts'
import { storedRoot } from '../runtime/secrets.ts'
import { backupDirOf, dataDirOf, readBindings } from '../topology/bindings.ts'
import { databaseConnections, type RungName, type Topology } from '../topology/topology.ts'
import { topologyOf } from '../topology/topology-of.ts'
import { type Command, type Input, present, type Result, result, settingOptions } from './command.ts'
import { type ConsoleDoor, consoleText, openConsoleDoor } from './console-door.ts'
import { beginClimb, deployEffects } from './deploy-effects.ts'
import { withFleetDatabase } from './deploy-records.ts'
import { noteLeftOut, rungAndApp, settingsOf } from './input-settings.ts'
import { noteKept } from './kept-notes.ts'
import { stopOnSignal } from './stop-on-signal.ts'

const up: Command = {
  name: 'up',
  summary: 'start the app and everything that its rung needs',
  usage: 'rung up [rung] [app-file] [options]',
  help: [
    'Starts what the rung asks for, each part as a process of its own: Postgres and its',
    'replicas, PgBouncer, Redis, NATS, nginx, HAProxy, and the app as web and worker. Restarts',
    'a part that dies or does not answer.',
    'Ctrl-C or SIGTERM stops all of it, from the edge inwards; nothing outlives this',
    'command.',
    '',
    'rung.config.ts beside the app changes the topology; the environment wins over it,',
    'options win over both. See: rung topology --help. From another terminal: rung ps,',
    'rung logs, rung scale, rung restart, rung stop. With RUNG_BACKUP_DIR or',
    'RUNG_BACKUP_S3_URL a process of its own archives the database. All settings of its',
    'processes: rung start --help.',
  ].join('\n'),
  settings: [
    'rung',
    'processes',
    'nodes',
    'http.host',
    'http.port',
    'tls',
    'data.url',
    'data.readUrls',
    'data.replicas',
    'data.pooler',
    'cache.url',
    'cache.nodes',
    'events.engine',
    'events.url',
    'events.nodes',
    'edge',
    'balancer',
    'unresponsiveAfterMs',
    'console',
  ],
  examples: ['rung up 10k', 'rung up 100k', 'rung up 10k src/app.ts --port 8080 --web 2', 'RUNG_EDGE=off rung up 10k'],
  options: settingOptions(
    ...['http.port', 'processes.web', 'processes.worker', 'data.replicas', 'log.format', 'process.dataDir'],
  ),
  async run(input) {
    const stopped = stopOnSignal(input) // from the first moment: a start takes time and may be stopped too
    const { cwd } = input
    const began = systemClock.ticks()
    const { rung, app } = rungAndApp(input.positionals)
    const appFile = requireApp(app, cwd)
    const told = await settingsOf(input, { app: appFile, rung })
    noteLeftOut(told, input)
    const dataDir = dataDirOf(told, cwd)
    const climbed = await climbedBefore(dataDir, told)
    const settings = climbed.goesOn ? await settingsOf(input, { app: appFile, rung: climbed.goesOn.rung }) : told
    const deployment = withRoomToClimb(deploymentOf(settings, engines))
    checkEngines(deployment)
    await openDataDir(dataDir)
    makeDir(fleetDir(dataDir), { prefix: [] })
    const claimed = await claim(fleetDir(dataDir), 'rung up')
    const entry: Entry = { certificate: undefined }
    let door: ConsoleDoor | undefined
    try {
      const book: ReleaseBook = {
        present: await firstRelease(appFile, dataDir, settings.values.process.build),
        of: new Map<string, Release>(),
      }
      await forgetReleases(dataDir, [book.present])
      if (climbed.note !== undefined) input.out.note(climbed.note)
      if (!climbed.goesOn) await writeClimbed(dataDir, undefined)
      await undoLeft(dataDir) // a fault may have outlived a machine
      const files = certificateFiles(settings, cwd)
      entry.certificate = files && (await readCertificate(files))
      const planned = planFor(appFile, input, entry)
      const planner: Planner = async (...of) => withReleases(await planned(...of), appFile, book)
      const plan = await planner(deployment, settings)
      void noteKept(appFile, deployment.topology.processes, input)
      noteMany(deployment.topology, input.out)
      const fleet = await run({ plan, deployment, settings, planner, book, entry, told }, { appFile, dataDir }, input)
      const code = stopped(fleet)
      try {
        await fleet.ready
      } catch (error) {
        if (fleet.stopping()) return await stayUntil(code) // stopped while it started
        await fleet.stop().catch(() => {})
        throw error
      }
      if (!fleet.stopping()) {
        const start = { build: book.present.build, rung: deployment.topology.rung, startedBy: 'rung up' } as const
        const recorded = withFleetDatabase(settings, cwd, (connection) => recordStart(connection, start))
        await recorded.catch((error) => input.out.note(`The start was not recorded as a deploy: ${messageOf(error)}`))
        const startMs = Math.round(systemClock.ticks() - began)
        door = await openConsoleDoor(settings.values.console, { dataDir, app: appFile, cwd }, (error) =>
          input.out.note(`The console cannot be opened: ${messageOf(error)}`),
        )
        present(
          await started({ plan, deployment, settings, appFile, dataDir, startMs, door, states: fleet.states() }, input),
          input,
        )
      }
      return await stayUntil(code)
    } finally {
      await door?.close()
      entry.socket?.close()
      await claimed.release()
    }
  },
}
export default up

interface Fleet extends Pick<Supervisor, 'ready' | 'stop'> {
  states(): PartState[]
  stopping(): boolean
}

interface First {
  plan: Plan
  deployment: Deployment
  settings: LoadedSettings
  planner: Planner
  book: ReleaseBook
  entry: Entry
  /** As they are without a climb. */
  told: LoadedSettings
}

/** Plans take the certificate from here. */
interface Entry {
  certificate: Certificate | undefined
  /** The public port, if the parts that take it share it. */
  socket?: EntrySocket
}

/** Supervises the parts, keeps the file that `rung ps` reads, and lets other commands change the fleet. */
async function run(
  { plan, deployment: { topology }, settings, planner, book, entry, told }: First,
  { appFile, dataDir }: { appFile: string; dataDir: string },
  input: Input,
): Promise<Fleet> {
  const { json, out } = input
  const startedAt = systemClock.now()
  const { cpu: cores } = topology.placement
  const quota = openCpuQuota(wordOf(dataDir), cores)
  if (quota.problem) out.note(noQuota(quota.problem))
  const notePart = (name: string, text: string) => json || out.note(partLine(name, text))
  const failover = openFailover({
    dataDir,
    members: () =>
      new Map(supervisor.parts.flatMap(({ server }) => (server?.member ? [[server.member.name, server.member]] : []))),
    note: (text) => notePart('failover', text),
  })
  const { start, slowestStopMs, routingOf } = partStarter(notePart, failover.mayReturn, () => now.groups, quota)
  const stopTimeoutMs = () => new Set(supervisor.parts.map(({ part }) => part.stopWave)).size * slowestStopMs()
  const writer = stateWriter(dataDir, () => ({
    rung: now.rung,
    app: appFile,
    mode: settings.values.process.mode,
    url: plan.url,
    startedAt,
    stopTimeoutMs: stopTimeoutMs(),
    scaling: scaling.status(),
    nodes: nodesOf(now.groups),
    ...(certificate && { certificate: { ...certificate.now.facts, problem: certificate.problem } }),
    ...(cores !== undefined && { cpuQuota: { cores, ...(quota.problem && { problem: quota.problem }) } }),
    parts: supervisor.parts.map(({ part, state }) => {
      const { address, log, zone } = part
      return { ...state, address, log, zone, build: buildIn(part) }
    }),
  }))
  let now = topology
  const supervisor = supervise({
    parts: plan.parts,
    start,
    unresponsiveAfterMs: (part) => hangsAfterMs(part, now),
    onChange(state) {
      // A first change may be reported before `supervise` has returned.
      queueMicrotask(() => {
        writer.changed()
        const part = supervisor.parts.find((one) => one.state === state)?.part
        if (part && state.state === 'restarting') noteRestart(part, state)
      })
      if (!json || state.state === 'restarting') tell(state, out.note)
    },
  })
  /** Plans the fleet with other numbers, or at another rung. */
  async function planAt(
    rung: RungName,
    { topology: before, plan: held }: Planned,
    {
      counts,
      fronts,
      nodes = nodesOf(before.groups),
    }: { counts?: Counts; fronts?: Topology; nodes?: Nodes | 'as set' },
  ): Promise<Planned> {
    // A process for both has no numbers.
    const { web: _web, worker: _worker, ...one } = counts ?? {}
    const numbers = before.processes.both > 0 ? one : (counts ?? {})
    const options = Object.fromEntries(Object.entries(numbers).map(([name, count]) => [name, String(count)]))
    const read = await settingsOf({ ...input, values: { ...input.values, ...options } }, { app: appFile, rung })
    const grouped = nodes === 'as set' ? read : { ...read, values: { ...read.values, nodes } }
    const counted = counts ? withGroupCounts(grouped, counts) : grouped
    const changed = fronts ? withFronts(counted, fronts) : counted
    const next = deploymentOf(changed, engines)
    const data = { ...next.topology.data, connectionsMax: databaseConnections(before) }
    const deployment = { ...next, topology: { ...next.topology, data } }
    return { plan: await planner(deployment, changed, held), topology: deployment.topology }
  }
  const live = liveFleet({
    supervisor,
    first: { plan, topology },
    replan: (counts, held, nodes) => planAt(held.topology.rung, held, { counts, ...(nodes && { nodes }) }),
    deploy: deployEffects({
      ...{ appFile, dataDir, settings, book, rung: () => now.rung, cwd: input.cwd },
      env: () => supervisor.parts.flatMap(({ part }) => (part.kind === 'app' ? [part.env] : []))[0]!,
    }),
    climb: {
      plan: (rung, held, { present, fronts } = {}) =>
        planAt(rung, held, { ...(present && { counts: countsOf(held.topology) }), ...(fronts && { fronts }) }),
      settings: told.values.rung,
      isScaled: () => scaling.status().web !== undefined,
      climbed: () => readClimbed(dataDir),
      remember: (climbed) => writeClimbed(dataDir, climbed),
      missing: async (rung) => missingEngines(deploymentOf(await settingsOf(input, { app: appFile, rung }), engines)),
      begin: (from, to, note) =>
        beginClimb({ build: book.present.build, from, to }, { settings, cwd: input.cwd, note }),
      probe: ({ topology, plan: { url } }) => probe({ topology, url, dataDir, parts: supervisor.parts }),
    },
    onPlan(planned) {
      now = planned.topology
      writer.changed()
    },
    failover,
    slowestStopMs,
    routingOf,
    isProduction: settings.values.process.mode === 'production',
  })
  const scaling = autoscale({
    ...{
      supervisor,
      scaling: topology.scaling,
      topology: () => now,
      live,
      dir: fleetDir(dataDir),
      onLook: writer.changed,
    },
    cores: quota.problem === undefined ? Math.min(1, cores ?? 1) : 1,
    note: (text) => out.note(partLine('scaling', text)),
  })
  const files = certificateFiles(settings, input.cwd)
  const certificate =
    files &&
    keepCertificate(files, entry.certificate!, {
      async use(next) {
        const before = entry.certificate
        entry.certificate = next
        await live({ command: 'reload-certificate' }, () => {}).catch((error) => {
          entry.certificate = before
          throw error
        })
      },
      note: (text) => notePart('certificate', text),
    })
  async function handle(request: ControlRequest, note: (text: string) => void): Promise<unknown> {
    if (request.command !== 'reload-certificate') return scaling.handle(request, note)
    if (!certificate) throw new RungError('COMMAND_INVALID', 'This fleet has no certificate. Set RUNG_TLS_CERT.')
    await certificate.reload().finally(writer.changed)
    return certificate.now.facts
  }
  const closeControl = await openControl(dataDir, handle)
  const stopWatching = certificate?.watch(writer.changed)
  scaling.start()
  const stopShortening = keepLogsShort(() => supervisor.parts.map(({ part: { log } }) => log))
  let stopping = false
  return {
    ready: supervisor.ready,
    states: () => supervisor.parts.map(({ state }) => state),
    stopping: () => stopping,
    stop() {
      stopping = true
      stopShortening()
      const watched = stopWatching?.()
      const scaled = scaling.stop()
      return supervisor.stop().finally(async () => {
        await scaled
        await watched
        await failover.stop()
        await closeControl()
        await quota.close()
        await writer.remove()
      })
    },
  }
}

/** Needed between `10k` and `100k`, where old processes have connections of their own while new ones share them: 134, with the usual pools. */
const climbConnections = 150

/** Postgres cannot have more connections without a restart. */
function withRoomToClimb({ topology, ...rest }: Deployment): Deployment {
  const connectionsMax = Math.max(databaseConnections(topology), climbConnections)
  return { ...rest, topology: { ...topology, data: { ...topology.data, connectionsMax } } }
}

type Nodes = LoadedSettings['values']['nodes']

/** With other numbers of processes in groups of modules. */
function withGroupCounts(settings: LoadedSettings, counts: Counts): LoadedSettings {
  const nodes = nodesOf(withCounts(topologyOf(settings).groups, counts))
  return { ...settings, values: { ...settings.values, nodes } }
}

/** With what stands in front of the app in a topology. */
function withFronts(settings: LoadedSettings, { edge, balancer }: Topology): LoadedSettings {
  const onOff = (engine: string) => (engine === 'none' ? 'off' : 'on')
  const values = { ...settings.values, edge: onOff(edge.engine), balancer: onOff(balancer.engine) } as const
  return { ...settings, values }
}

/**
 * Whether a fleet goes on at the rung to which it has climbed: if no option and no variable names a rung, and the file still names that
 * from which it climbed.
 */
async function climbedBefore(
  dataDir: string,
  { values: { rung }, given }: LoadedSettings,
): Promise<{ goesOn?: Climbed; note?: string }> {
  const climbed = await readClimbed(dataDir)
  if (!climbed || climbed.rung === rung) return {}
  const from = given.get('rung')?.from ?? 'file'
  if (from !== 'file' || climbed.settings !== rung)
    return { note: `This fleet had climbed to ${climbed.rung}, and starts at ${rung}, as it is told.` }
  const note = `Goes on at rung ${climbed.rung}, to which "rung climb" has brought this fleet. To keep it so: rung: '${climbed.rung}' in rung.config.ts. To start at ${rung}: rung up ${rung}`
  return { goesOn: climbed, note }
}

function noteMany({ processes: { web, worker } }: Topology, out: Input['out']): void {
  const cores = availableParallelism()
  if (web + worker <= processesOfCoreMax * cores) return
  out.note(
    `This starts ${web} web and ${worker} worker processes on ${cores} cores. More than ${processesOfCoreMax} for each core take memory, and answer no more requests.`,
  )
}

/** A database that has replicas is replaced when it hangs, which is done sooner than a process is restarted that may only be busy. */
function hangsAfterMs(part: Part, { unresponsiveAfterMs, data }: Topology): number {
  const isMember = part.kind === 'engine' && part.engine.startsWith('postgres') && data.replicas > 0
  return isMember ? Math.min(memberHangsAfterMs, unresponsiveAfterMs) : unresponsiveAfterMs
}

const memberHangsAfterMs = 3_000

/** Keeps this process alive, which engines do not: all of them may run elsewhere. */
async function stayUntil(code: Promise<number>): Promise<number> {
  const over = new AbortController()
  const stay = async () => {
    for (;;) await sleep(86_400_000, over.signal)
  }
  stay().catch(() => {})
  return code.finally(() => over.abort())
}

/** In the order of `rung engines`. */
function missingEngines({ parts }: Deployment): { name: string; problem: string }[] {
  const missing = parts.flatMap(({ count, kind }) => {
    if (count === 0 || kind.type !== 'engine' || kind.engine.packages === undefined) return []
    const problem = kind.engine.look?.().problem ?? undefined
    return problem === undefined ? [] : [{ name: kind.engine.name, problem }]
  })
  return missing.reverse()
}

/** Reports missing programs before anything is started. @throws ENGINE_MISSING */
function checkEngines(deployment: Deployment): void {
  const missing = missingEngines(deployment)
  if (missing.length === 0) return
  const names = missing.map(({ name }) => name)
  const problems = missing.map(({ problem }) => problem).join(', and ')
  throw new RungError('ENGINE_MISSING', `${problems}. Run: rung engines install ${names.join(' ')}`, {
    facts: { missing: names },
  })
}

type Planner = (deployment: Deployment, settings: LoadedSettings, held?: Plan) => Promise<Plan>

/** Plans on this machine. Checks every value that a process of the app will read before anything is started. */
function planFor(appFile: string, { env, cwd }: Input, tls: Entry): Planner {
  const secrets = new Map<string, string>()
  let entry: number | undefined
  return async (deployment, settings, held) => {
    const dataDir = dataDirOf(settings, cwd)
    const { host, port: wanted } = deployment.topology.http
    entry ??= await publicPort(dataDir, host, wanted)
    if (sharesEntry(deployment)) tls.socket ??= await openEntrySocket(host, entry)
    const own = tls.socket === undefined ? 0 : 1 // the process that shares the public port has one of its own
    const taken = [entry, ...[...(held?.ports.values() ?? [])].flat()]
    const plan = placeDeployment(deployment, settings, {
      dataDir,
      tmpDir: tmpdir(),
      app: { program: process.execPath, args: [...process.execArgv, process.argv[1]!], file: appFile, cwd, env },
      entry: { host, port: entry, socketFd: tls.socket?.fd },
      ports: await freePorts(dataDir, portsNeeded(deployment) + own, taken),
      ...(held && { held }),
      pem: tls.certificate?.pem,
      rootSecret: settings.values.process.secret ?? (await storedRoot(dataDir)),
      secretOf(part) {
        if (!secrets.has(part)) secrets.set(part, secret())
        return secrets.get(part)!
      },
    })
    for (const part of plan.parts) if (part.kind === 'app') readBindings(part.env, cwd)
    return plan
  }
}

function certificateFiles({ values: { tls } }: LoadedSettings, cwd: string) {
  return tls.cert === undefined ? undefined : { cert: path.resolve(cwd, tls.cert), key: path.resolve(cwd, tls.key!) }
}

/** Writes into the log of the part why it was restarted: a killed process could not. */
function noteRestart({ log }: Part, { trouble }: PartState): void {
  const text = `${new Date(systemClock.now()).toISOString()} rung up: ${trouble}; restarting it\n`
  appendFile(log, text).catch(() => {}) // the disk may be full
}

const partLine = (name: string, text: string) => `  ${name.padEnd(10)}  ${text}`

function tell({ name, state, trouble, restarts, pid }: PartState, note: (text: string) => void): void {
  if (state === 'running') note(partLine(name, `${restarts > 0 ? 'runs again' : 'runs'}, process ${pid}`))
  if (state === 'restarting') note(partLine(name, `${trouble?.slice(0, 200) ?? 'ended'}; restarting it`))
  if (state === 'stopped') note(partLine(name, 'stopped'))
}

interface Started {
  plan: Plan
  deployment: Deployment
  settings: LoadedSettings
  appFile: string
  dataDir: string
  startMs: number
  door: ConsoleDoor | undefined
  states: readonly PartState[]
}

async function started(facts: Started, { cwd, out }: Input): Promise<Result> {
  const { plan, deployment, settings, appFile, dataDir, startMs, door, states } = facts
  const { rung, archived } = deployment.topology
  const backupDir = archived ? backupDirOf(settings, cwd) : undefined
  const copied = settings.values.backup.url !== undefined
  const onOneDisk = backupDir !== undefined && !copied && (await onSameDisk(dataDir, backupDir).catch(() => false))
  const parts = await Promise.all(
    plan.parts.map(async ({ name, kind, address }, index) => ({
      name,
      pid: states[index]!.pid,
      address,
      trouble: kind === 'app' ? await unusableEngine(address) : undefined,
    })),
  )
  const console = door?.url ?? null
  const view = { app: appFile, rung, url: plan.url, console, data: dataDir, pid: process.pid, parts, startMs }
  return result(view, () => {
    const line = (name: string, text: string) => out.line(partLine(name, text))
    out.line(`${path.relative(cwd, appFile)} runs at rung ${rung}, ready in ${formatMs(startMs)}`)
    line('app', plan.url)
    if (door) line('console', consoleText(door))
    for (const part of plan.parts) if (part.kind !== 'engine') line(part.name, pagesOf(part))
    line('data', path.relative(cwd, dataDir) || '.')
    const { mail, process: own } = settings.values
    if (mail.url === undefined && own.mode === 'production')
      line('mail', 'is written to the data directory and not sent: set RUNG_SMTP_URL')
    if (backupDir !== undefined) line('backups', `${backupDir}${copied ? ', copied to a bucket' : ''}`)
    for (const { name, runs, count } of deployment.parts) if (count === 0) line(name, `${runs}, which runs elsewhere`)
    for (const { name, trouble } of parts) if (trouble) line(name, `${trouble}: rung logs`)
    line('look', 'rung ps, rung logs -f')
    line('stop', 'Ctrl-C, or: rung stop')
    if (onOneDisk) out.note(sameDiskWarning(backupDir))
  })
}

function pagesOf({ kind, address, ...part }: Part): string {
  const answers = kind === 'app' && 'role' in part && part.role !== 'worker'
  return `http://${address}/metrics${answers ? ', /reference' : ''}`
}
