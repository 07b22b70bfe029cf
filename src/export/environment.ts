import { allSettings, environmentOf, pathsOf, type Settings } from '../topology/read-settings.ts'
import { noConfig } from '../topology/settings.ts'
import type { EventsTopology } from '../topology/topology.ts'
import type { Exported } from './files.ts'

/** Where a process of the app listens in its container. */
export const appPort = 3000

/** What only `rung up` does. */
const onlyFleet = pathsOf([
  ...(['backup', 'http.host', 'http.port', 'tls', 'processes.zones'] as const),
  ...(['processes.schedule', 'nodes', 'process.build', 'unresponsiveAfterMs'] as const),
])

/** What the export itself decides. */
const decided = pathsOf([
  ...([
    'rung',
    'edge',
    'balancer',
    'processes.cpu',
    'http.trustProxy',
    'cache.url',
    'cache.nodes',
    'files.shared',
    'process',
  ] as const),
  ...(['data.url', 'data.readUrls', 'data.replicas', 'data.pooler', 'events.url', 'events.nodes'] as const),
])

const isPassedOn = (path: string) => !onlyFleet.has(path) && !decided.has(path)

/** Returns the given settings that are no secrets, as environment variables of the app. */
export function plainSettings({ given }: Settings): Record<string, string> {
  return environmentOf(given, (path) => isPassedOn(path) && !allSettings.get(path)!.secret)
}

/** Returns the variables of the given settings that are secrets. Their values are written nowhere. */
export function secretNames({ given }: Settings): string[] {
  return [...given.keys()].flatMap((path) => {
    const row = allSettings.get(path)!
    return row.secret && isPassedOn(path) ? [row.variable] : []
  })
}

/** Returns the names of given settings that have no effect there, as their author wrote them. */
export function leftOut({ given }: Settings): string[] {
  const isLeftOut = (path: string) => onlyFleet.has(path) || (path === 'cache.nodes' && !given.has('cache.url'))
  return [...given].flatMap(([path, { called }]) => (isLeftOut(path) ? [called] : []))
}

/** Returns the networks of proxies that somebody has named, by a setting or in the app. */
export function namedProxies({ settings, app }: Exported): readonly string[] {
  return [...settings.values.http.trustProxy, ...app.trustedProxies]
}

/** An export has one Redis. A cluster is somebody else's. */
function redisNodes({ values: { cache } }: Settings): Record<string, string> {
  return cache.url === undefined || cache.nodes === undefined ? {} : { RUNG_REDIS_NODES: String(cache.nodes) }
}

/** Returns what each process of the app is told, wherever it runs. */
export function commonSettings(settings: Settings, proxies: readonly string[]): Record<string, string> {
  return {
    RUNG_TOPOLOGY: settings.values.rung,
    RUNG_CONFIG: noConfig,
    RUNG_TRUST_PROXY: [...new Set([...settings.values.http.trustProxy, ...proxies])].join(','),
    ...plainSettings(settings),
    ...redisNodes(settings),
  }
}

/** Returns what processes are told of the broker. `url` is that of one which the export runs, with so many nodes. */
export function eventSettings({ engine, nodes }: EventsTopology, url: string, ownNodes = nodes): [string, string][] {
  if (engine === 'table') return []
  if (engine === 'external') return [['RUNG_NATS_NODES', String(nodes)]]
  return [
    ['RUNG_NATS_NODES', String(ownNodes)],
    ['RUNG_NATS_URL', url],
  ]
}
