import { rungs } from './catalog.ts'
import type { Settings } from './read-settings.ts'
import { parseScheduleEntry } from './schedule.ts'
import { rangeIn } from './setting-types.ts'
import { noCdn } from './settings.ts'
import { groupConnections, type Topology } from './topology.ts'
import { redisUrlsIn } from './urls.ts'

/** Returns the rung's topology with the changes of the settings. */
export function topologyOf({ values }: Pick<Settings, 'values'>): Topology {
  const { data, cache, cdn, http } = values
  const preset = rungs[values.rung]
  return {
    ...preset,
    data: {
      ...preset.data,
      engine: data.url === undefined ? 'embedded' : 'external',
      replicas: data.url === undefined ? data.replicas : data.readUrls.length,
      pooler: data.pooler === 'on' ? 'pgbouncer' : 'none',
      lagMsMax: data.lagMsMax,
      readConnectionsMax: data.readConnectionsMax,
      writeConnectionsMax: data.writeConnectionsMax,
    },
    cache: {
      engine: cache.url === undefined ? preset.cache.engine : 'external',
      nodes: cache.nodes ?? (cache.url === undefined ? preset.cache.nodes : redisUrlsIn(cache.url).length),
      memoryBytesMax: cache.memoryMib * 1024 ** 2,
    },
    events: eventsOf(preset, values.events),
    edge: { engine: values.edge === 'on' ? 'nginx' : 'none' },
    balancer: { engine: values.balancer === 'on' ? 'haproxy' : 'none' },
    cdn: cdn.name === undefined || cdn.name === noCdn ? undefined : { name: cdn.name, id: cdn.id! },
    files: { engine: values.files.url === undefined ? 'disk' : 's3' },
    mail: { engine: values.mail.url === undefined ? 'eml' : 'smtp' },
    archived: data.url === undefined && (values.backup.dir ?? values.backup.url) !== undefined,
    http: { host: http.host, port: http.port },
    tls: values.tls.cert !== undefined,
    processes: processesOf(preset, values.processes),
    scaling: scalingOf(values.processes),
    groups: Object.entries(values.nodes).map(
      ([name, { modules, web = 0, worker = 0, connections = groupConnections }]) => ({
        name,
        modules,
        web,
        worker,
        connections,
      }),
    ),
    placement: { cpu: values.processes.cpu, zones: values.processes.zones },
    unresponsiveAfterMs: values.unresponsiveAfterMs,
  }
}

/** A URL alone says that there is a broker. */
function eventsOf({ events }: Topology, { engine, url, nodes }: Settings['values']['events']): Topology['events'] {
  const given = engine ?? (url === undefined ? events.engine : 'jetstream')
  return { engine: given === 'jetstream' && url !== undefined ? 'external' : given, nodes }
}

type Given = Settings['values']['processes']

/** A given number splits a process that has both roles. */
function processesOf({ processes }: Topology, { web, worker }: Given): Topology['processes'] {
  if (web === undefined && worker === undefined) return processes
  const least = (given: number | string | undefined, otherwise: number) =>
    typeof given === 'string' ? rangeIn(given)!.least : (given ?? Math.max(1, otherwise))
  return { both: 0, web: least(web, processes.web), worker: least(worker, processes.worker) }
}

function scalingOf({ web, worker, schedule }: Given): Topology['scaling'] {
  const ranges = { web: rangeIn(web), worker: rangeIn(worker) }
  return {
    ...(ranges.web && { web: ranges.web }),
    ...(ranges.worker && { worker: ranges.worker }),
    schedule: schedule.map((one) => parseScheduleEntry(one)!),
  }
}
