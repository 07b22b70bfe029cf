import type { Engine } from '../engines/process/engine.ts'
import { RungError } from '../kernel/errors.ts'
import { type Settings, waysToSet } from '../topology/read-settings.ts'
import { type Group, type Role, roles, type Topology, webProcesses } from '../topology/topology.ts'
import { topologyOf } from '../topology/topology-of.ts'

/** What runs, and what needs what, on any machine: placement.ts places it on this one, an export writes it for another system. */
export interface Deployment {
  readonly topology: Topology
  /** From the clients inwards. */
  readonly parts: readonly LogicalPart[]
}

export interface LogicalPart {
  readonly name: string
  /** How many of it Rung runs; 0 if it runs elsewhere. */
  readonly count: number
  /** What it does, in words, for people. */
  readonly runs: string
  readonly kind: EnginePart | AppPart | ArchiverPart
  /** Parts that must answer before this one is started. */
  readonly needs: readonly string[]
  /** Parts that are stopped after this one, besides those that it needs. */
  readonly stopsBefore: readonly string[]
}

interface EnginePart {
  readonly type: 'engine'
  readonly engine: Engine
  /** The names of the instances that Rung runs. */
  readonly instances: readonly string[]
}
interface AppPart {
  readonly type: 'app'
  readonly role: Role
  /** The group of modules that it runs; `undefined`: all that no group has. */
  readonly group: string | undefined
}
interface ArchiverPart {
  readonly type: 'archiver'
}

const partOfRole: Readonly<Record<Role, string>> = { both: 'app', web: 'web', worker: 'worker' }

/**
 * Derives the deployment from the settings. Pure.
 * @throws CONFIG_INVALID for several web processes with nothing in front of them
 */
export function deploymentOf(settings: Pick<Settings, 'values'>, engines: readonly Engine[]): Deployment {
  const topology = topologyOf(settings)
  if (topology.edge.engine === 'none' && topology.balancer.engine === 'none' && webProcesses(topology) > 1) {
    throw new RungError(
      'CONFIG_INVALID',
      `Several web processes need the edge or a balancer in front of them. Set ${waysToSet('edge')} to on, or run one web process.`,
    )
  }
  if (topology.scaling.web && topology.balancer.engine === 'none') {
    throw new RungError(
      'CONFIG_INVALID',
      `The number of web processes changes only behind a balancer. Set ${waysToSet('balancer')} to on, or give one number.`,
    )
  }
  if (topology.tls && topology.edge.engine === 'none' && topology.balancer.engine === 'none') {
    throw new RungError(
      'CONFIG_INVALID',
      `TLS ends at the edge or at the balancer, and here is neither. Set ${waysToSet('edge')} to on, or ${waysToSet('balancer')}.`,
    )
  }
  if (topology.groups.length > 0 && topology.balancer.engine === 'none') {
    throw new RungError(
      'CONFIG_INVALID',
      `The balancer leads requests and calls to groups of modules. Set ${waysToSet('balancer')} to on, or leave ${waysToSet('nodes')} out.`,
    )
  }
  const { host, port } = topology.http
  const entry = `${topology.tls ? 'https://' : ''}${host}:${port}`
  const used = engines.filter((engine) => engine.use(topology) !== 'none')
  const isManaged = (engine: Engine) => engine.use(topology) === 'managed'
  const managed = (side: Engine['side']) => used.filter((engine) => engine.side === side && isManaged(engine))
  const apps = appsOf(topology).filter(({ count }) => count > 0)
  const answering = apps.filter(({ role }) => role !== 'worker').map(({ name }) => name)
  const working = apps.filter(({ role }) => role === 'worker').map(({ name }) => name)
  const behind = managed('behind').map(({ part }) => part)
  const fronts = managed('front')

  function enginePart(engine: Engine): LogicalPart {
    const instances = isManaged(engine) ? (engine.instances?.(topology) ?? [engine.part]) : []
    return {
      name: engine.part,
      count: instances.length,
      runs: engine.describe(settings.values, entry),
      kind: { type: 'engine', engine, instances },
      needs: [
        ...(engine.needs ?? []),
        ...(engine.side === 'front'
          ? [...fronts.slice(fronts.indexOf(engine) + 1).map(({ part }) => part), ...answering]
          : []),
      ],
      stopsBefore: [],
    }
  }
  const appPart = ({ name, count, role, group }: App): LogicalPart => ({
    name,
    count,
    runs: appInWords(
      { role, group },
      topology,
      fronts.length > 0 ? `behind the ${fronts.at(-1)!.part}` : `at ${entry}`,
    ),
    kind: { type: 'app', role, group: group?.name },
    needs: behind,
    // Web processes may enqueue work until they end; the archive outlives everything that writes.
    stopsBefore: [...(role === 'worker' ? [] : working), 'archiver'],
  })
  const archiver: LogicalPart = {
    name: 'archiver',
    count: 1,
    runs: archiverInWords(settings.values.backup),
    kind: { type: 'archiver' },
    needs: ['postgres'],
    stopsBefore: [],
  }
  return {
    topology,
    parts: [
      ...used.filter(({ side }) => side === 'front').map(enginePart),
      ...apps.map(appPart),
      ...used.filter(({ side }) => side === 'behind').map(enginePart),
      ...(topology.archived ? [archiver] : []),
    ],
  }
}

interface App {
  name: string
  count: number
  role: Role
  group: Group | undefined
}

/** Processes of the app: those that have no group first. */
function appsOf({ processes, groups }: Topology): App[] {
  return [
    ...roles.map((role) => ({ name: partOfRole[role], count: processes[role], role, group: undefined })),
    ...groups.flatMap((group) =>
      (['web', 'worker'] as const).map((role) => ({ name: `${group.name}-${role}`, count: group[role], role, group })),
    ),
  ]
}

function archiverInWords({ dir = 'its data directory', url }: Settings['values']['backup']): string {
  return `archives the log of Postgres to ${dir}${url === undefined ? '' : ', and copies it to a bucket'}`
}

function appInWords({ role, group }: Pick<App, 'role' | 'group'>, { data }: Topology, at: string): string {
  const pools = `${data.readConnectionsMax} + ${data.writeConnectionsMax} connections each`
  if (group)
    return `${role === 'worker' ? 'runs the work' : 'answers the requests'} of ${group.modules.join(', ')}; ${pools}`
  if (role === 'worker') return `runs jobs, handles events; ${pools}`
  return `${role === 'both' ? 'answers and runs jobs' : 'answers requests'} ${at}; ${pools}`
}

/** Returns the waves in which each part starts and stops, counted from the inside. A wave completes before the next one begins. */
export function wavesOf({ parts }: Deployment): ReadonlyMap<string, { start: number; stop: number }> {
  const depth = (name: string, links: (part: LogicalPart) => readonly string[]): number => {
    const part = parts.find((one) => one.name === name)
    if (!part || part.count === 0) return -1
    return 1 + Math.max(-1, ...links(part).map((other) => depth(other, links)))
  }
  return new Map(
    parts.map(({ name }) => [
      name,
      {
        start: depth(name, ({ needs }) => needs),
        stop: depth(name, ({ needs, stopsBefore }) => [...needs, ...stopsBefore]),
      },
    ]),
  )
}
