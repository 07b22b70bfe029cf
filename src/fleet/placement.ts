import { createHash } from 'node:crypto'
import path from 'node:path'
import type { Engine, EngineEvents, Listen, PlacedEngine, RunningPart, Tls } from '../engines/process/engine.ts'
import { underFakeClock } from '../engines/process/fake-clock.ts'
import { logFileOf } from '../engines/process/server-process.ts'
import { environmentOf, pathsOf, type Settings, withoutSettings } from '../topology/read-settings.ts'
import { noConfig } from '../topology/settings.ts'
import type { Role, Topology } from '../topology/topology.ts'
import { type Deployment, type LogicalPart, wavesOf } from './deployment.ts'
import { zonesOf } from './zones.ts'

/** The processes of this machine: their ports, sockets, folders, command lines and environments. */
export interface Plan {
  /** Where clients connect. */
  readonly url: string
  /** Whether another part may take the public port while this one answers there. */
  readonly sharesEntry: boolean
  /** From the clients inwards. */
  readonly parts: readonly Part[]
  /** The private ports of each part, which it keeps when the plan is changed. */
  readonly ports: Ports
  /** The zones of parts, which they keep too. */
  readonly zones: ReadonlyMap<string, string>
}

type Ports = ReadonlyMap<string, readonly number[]>

export type Part = EnginePart | CommandPart

interface Common {
  readonly name: string
  /** Parts of a lower wave answer before this one is started. */
  readonly startWave: number
  /** Parts of a higher wave have ended before this one is stopped. */
  readonly stopWave: number
  readonly zone?: string | undefined
  /** Where it listens, without passwords. */
  readonly address: string
  /** Its own folder. */
  readonly dir: string
  readonly log: string
}

export interface EnginePart extends Common {
  readonly kind: 'engine'
  readonly engine: string
  /** Whether requests reach the app through it. */
  readonly isFront: boolean
  /** What it is started with; may contain secrets. */
  readonly options: object
  start(events: EngineEvents): Promise<RunningPart>
  /** Removes what it leaves behind, once it has been stopped and is no longer wanted. */
  remove?(): Promise<void>
}

/** One of Rung's own commands. */
export interface CommandPart extends Common {
  readonly kind: 'app' | 'archiver'
  readonly role: Role | undefined
  /** The group of modules that it runs. */
  readonly group?: string | undefined
  readonly program: string
  readonly args: readonly string[]
  readonly cwd: string
  /** Its whole environment. */
  readonly env: Env
  readonly healthUrl: string
  /** The public port, which it answers besides its own. */
  readonly socketFd?: number | undefined
  /** It must answer within this time from its start, in ms; without it a start may take as long as migrations. */
  readonly startWithinMs?: number
}

export type Env = Readonly<Record<string, string | undefined>>

/** The facts of this machine that neither the topology nor a setting decides. */
export interface Site {
  /** Absolute. */
  readonly dataDir: string
  readonly tmpDir: string
  /** `program …args start file --role web` is a process of the app. */
  readonly app: { program: string; args: readonly string[]; file: string; cwd: string; env: Env }
  /** Where clients connect; its port is not 0. */
  readonly entry: Listen
  /** Free ports, as many as `portsNeeded` for a new plan. */
  readonly ports: readonly number[]
  /** What the parts that run already have. */
  readonly held?: Pick<Plan, 'ports' | 'zones'>
  /** The certificate and its key, if clients connect by https. */
  readonly pem?: string | undefined
  /** The root of all keys. */
  readonly rootSecret: string
  /** Returns a random secret for a part. */
  secretOf(part: string): string
}

const local = '127.0.0.1'
/** Where a process finds a socket that it is started with, see server-process.ts. */
const passedFd = 3
const ofTls = pathsOf(['tls'])
const ofArchiver = pathsOf(['backup', 'log', 'process.mode'])

/** Returns the number of ports needed besides the one for clients, if no process shares that one. */
export function portsNeeded({ topology, parts }: Deployment): number {
  const listening = parts.map(({ kind, count }) => {
    if (kind.type !== 'engine') return count
    return count * ((kind.engine.side === 'front' ? 1 : 0) + portsOf(kind.engine, topology))
  })
  return listening.reduce((sum, count) => sum + count, 0) - 1
}

function portsOf({ ports = 0 }: Engine, topology: Topology): number {
  return typeof ports === 'number' ? ports : ports(topology)
}

/** Whether the part that clients connect to accepts from a socket that others share. TLS ends there, so it is then the same at each rung. */
export function sharesEntry({ topology, parts }: Deployment): boolean {
  const front = parts.find(({ count, kind }) => count > 0 && kind.type === 'engine' && kind.engine.side === 'front')
  return !topology.tls && (front?.kind.type !== 'engine' || front.kind.engine.sharesEntry === true)
}

/** Places a deployment on this machine. Pure. */
export function placeDeployment(deployment: Deployment, { given, values }: Settings, site: Site): Plan {
  const { topology, parts } = deployment
  const { app, dataDir } = site
  const isShared = site.entry.socketFd !== undefined && sharesEntry(deployment)
  const entry: Listen = isShared ? site.entry : { host: site.entry.host, port: site.entry.port }
  const free = [...site.ports]
  const taken = new Map<string, number[]>()
  function take(name: string, count: number): number[] {
    const before = taken.get(name) ?? []
    const held = site.held?.ports.get(name)?.slice(before.length, before.length + count) ?? []
    const ports = [...held, ...free.splice(0, count - held.length)]
    taken.set(name, [...before, ...ports])
    return ports
  }
  const waves = wavesOf(deployment)
  const inherited = withoutSettings(app.env)

  const running = parts.filter(({ count }) => count > 0)
  const engineInstances = running.flatMap(({ kind }) =>
    kind.type === 'engine' ? kind.instances.map((name) => ({ name, engine: kind.engine })) : [],
  )
  const fronts = engineInstances.filter(({ engine }) => engine.side === 'front')
  const behind = engineInstances.filter(({ engine }) => engine.side === 'behind')
  const isBehind = fronts.length > 0

  // Private ports in the order in which people read the parts.
  const extraPorts = (ones: typeof engineInstances) =>
    ones.map(({ name, engine }): [string, number[]] => [name, take(name, portsOf(engine, topology))])
  const ofFronts = extraPorts(fronts)
  const listens = new Map(
    fronts.map(({ name }, index): [string, Listen] => [
      name,
      index === 0 ? entry : { host: local, port: take(name, 1)[0]! },
    ]),
  )
  const instances = running.flatMap(({ name, count, kind }) =>
    kind.type !== 'app'
      ? []
      : Array.from({ length: count }, (_, index) => {
          const isEntry = !isBehind && kind.role !== 'worker'
          const own = `${name}-${index + 1}`
          const at = isEntry && !isShared ? entry : { host: local, port: take(own, 1)[0]! }
          return {
            part: name,
            name: own,
            role: kind.role,
            group: kind.group,
            socketFd: isEntry ? entry.socketFd : undefined,
            ...at,
          }
        }),
  )
  const answering = instances
    .filter(({ role }) => role !== 'worker')
    .map((one) => ({ name: one.name, address: addressOf(one), ...(one.group && { group: one.group }) }))
  const ports = new Map([...ofFronts, ...extraPorts(behind)])

  const zones = zonesOf(
    topology.placement.zones,
    [
      ...engineInstances.filter(({ engine }) => engine.isSpread).map(({ name }) => ({ name, kind: 'postgres' })),
      ...instances.map(({ name, part }) => ({ name, kind: part })),
    ].toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    site.held?.zones ?? new Map(),
  )

  const placed = new Map<string, { engine: Engine; where: PlacedEngine }>()
  const wave = ({ engine }: { engine: Engine }) => waves.get(engine.part)!.start
  for (const { name, engine } of engineInstances.toSorted((a, b) => wave(a) - wave(b))) {
    const next = fronts[fronts.findIndex((front) => front.name === name) + 1]
    const where = engine.place?.({
      name,
      topology,
      settings: values,
      dataDir,
      tmpDir: site.tmpDir,
      dirFor: (socket) => dirFor(site, name, socket),
      ports: ports.get(name)!,
      listen: listens.get(name) ?? entry,
      tls: name === fronts[0]?.name ? tlsOf(values, site) : undefined,
      upstreams:
        engine.side === 'front' && next
          ? [{ name: next.name, address: addressOf(listens.get(next.name)!) }]
          : answering,
      placed: (part) => [...placed.values()].filter((one) => one.engine.part === part).map((one) => one.where),
      secret: site.secretOf(name),
    })
    if (where) placed.set(name, { engine, where })
  }

  const shared: Env = {
    ...inherited,
    ...environmentOf(given, (one) => !ofTls.has(one)), // they do not speak TLS themselves
    ...joined([...placed.values()].map(({ where }) => where.environment)),
    // The archiver alone archives, and has the keys for it.
    ...(topology.archived && { RUNG_BACKUP_DIR: undefined, RUNG_BACKUP_S3_URL: undefined, RUNG_BACKUP_KEY: undefined }),
    RUNG_CONFIG: noConfig,
    RUNG_TOPOLOGY: topology.rung,
    RUNG_DATA: dataDir,
    RUNG_SECRET: site.rootSecret,
    ...(values.tls.acmeDir !== undefined && { RUNG_ACME_DIR: path.resolve(app.cwd, values.tls.acmeDir) }),
    ...(topology.groups.length > 0 && { RUNG_NODES: toldNodes(topology) }),
    RUNG_FILES_SHARED: 'on', // all processes of this machine have its data directory
  }

  function command(name: string, part: string, at: { host: string; port: number }) {
    const address = addressOf(at)
    const dir = partDir(dataDir, name)
    return {
      name,
      ...inWaves(part),
      zone: zones.get(name),
      address,
      dir,
      log: logFileOf(dir),
      program: app.program,
      cwd: app.cwd,
      healthUrl: `http://${address}/healthz`,
    }
  }
  function inWaves(part: string) {
    const { start, stop } = waves.get(part)!
    return { startWave: start, stopWave: stop }
  }

  function partsOf({ name, kind }: LogicalPart): Part[] {
    if (kind.type === 'engine') {
      return kind.instances.map((instance) => {
        const { environment: _, ...where } = placed.get(instance)!.where
        return {
          kind: 'engine',
          engine: kind.engine.name,
          isFront: kind.engine.side === 'front',
          name: instance,
          ...inWaves(name),
          zone: zones.get(instance),
          ...where,
        }
      })
    }
    if (kind.type === 'archiver') {
      const port = take(name, 1)[0]!
      return [
        {
          kind: 'archiver',
          role: undefined,
          ...command(name, name, { host: local, port }),
          args: [...app.args, 'backup', '--stream', '--port', String(port)],
          // The archiver gets neither the app's keys nor its engines.
          env: {
            ...inherited,
            ...environmentOf(given, (one) => ofArchiver.has(one)),
            RUNG_CONFIG: noConfig,
            RUNG_DATA: dataDir,
          },
        },
      ]
    }
    return instances
      .filter(({ part }) => part === name)
      .map(({ role, group, host, port, socketFd, ...instance }) => ({
        kind: 'app',
        role,
        group,
        ...command(instance.name, name, { host, port }),
        socketFd,
        args: [...app.args, 'start', app.file, '--role', role],
        env: {
          ...shared,
          ...underFakeClock(inherited, partDir(dataDir, instance.name)),
          HOST: host,
          PORT: String(port),
          ...(socketFd !== undefined && { RUNG_ENTRY_FD: String(passedFd) }),
          RUNG_ROLE: role,
          ...(group !== undefined && ofGroup(topology.groups.find(({ name }) => name === group)!)),
          ...(zones.has(instance.name) && { RUNG_ZONE: zones.get(instance.name) }),
          // The edge runs on this machine, and forwards the address of the client.
          ...(isBehind && role !== 'worker' && { RUNG_TRUST_PROXY: withLocal(shared.RUNG_TRUST_PROXY) }),
        },
      }))
  }
  return {
    url: `${topology.tls ? 'https' : 'http'}://${addressOf(entry)}`,
    sharesEntry: isShared,
    parts: running.flatMap(partsOf),
    ports: taken,
    zones,
  }
}

function ofGroup({ name, connections }: Deployment['topology']['groups'][number]): Env {
  return { RUNG_GROUP: name, RUNG_POOL_READ: String(connections), RUNG_POOL_WRITE: String(connections) }
}

/** Processes know whether a group has processes of a role, and not how many: for another number none of them is restarted. */
function toldNodes({ groups }: Deployment['topology']): string {
  const present = (count: number) => Math.min(1, count)
  const entries = groups.map(({ name, modules, web, worker }) => [
    name,
    { modules, web: present(web), worker: present(worker) },
  ])
  return JSON.stringify(Object.fromEntries(entries))
}

function tlsOf({ tls }: Settings['values'], { pem }: Site): Tls | undefined {
  const { plainPort, hstsDays, acmeDir } = tls
  return pem === undefined ? undefined : { pem, plainPort, hstsDays, acme: acmeDir !== undefined }
}

/** Variables with a list, to which several engines contribute. */
const lists = new Set(['DATABASE_READ_URL', 'RUNG_REDIS_URL', 'RUNG_NATS_URL'])

/** Returns the variables of all engines, whatever their order. */
function joined(environments: readonly PlacedEngine['environment'][]): Record<string, string> {
  const all: Record<string, string> = {}
  for (const [name, value] of environments.flatMap(Object.entries)) {
    if (name in all && !lists.has(name)) throw new TypeError(`two engines set ${name}`)
    all[name] = name in all ? `${all[name]},${value}` : value
  }
  return all
}

function withLocal(proxies: string | undefined): string {
  return proxies === undefined ? local : `${proxies},${local}`
}

export function fleetDir(dataDir: string): string {
  return path.join(dataDir, 'fleet')
}

function partDir(dataDir: string, name: string): string {
  return path.join(fleetDir(dataDir), name)
}

/** A Unix socket's path is limited to 103 bytes on macOS: for a deep data directory it lies in a private folder elsewhere. */
export function dirFor({ dataDir, tmpDir }: Pick<Site, 'dataDir' | 'tmpDir'>, name: string, socket = ''): string {
  const dir = partDir(dataDir, name)
  if (socket === '' || Buffer.byteLength(`${dir}/${socket}`) <= 103) return dir
  return path.join(tmpDir, `rung-${wordOf(dir)}`)
}

/** Returns a word that stands for a folder where its path would be too long. */
export function wordOf(dir: string): string {
  return createHash('sha256').update(dir).digest('hex').slice(0, 12)
}

function addressOf({ host, port }: { host: string; port: number }): string {
  if (host === '0.0.0.0' || host === '::') return `localhost:${port}`
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}
