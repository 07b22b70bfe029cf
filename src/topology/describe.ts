import type { Topology } from './topology.ts'

export interface Described {
  part: string
  /** 0: it runs elsewhere. */
  count: number
  runs: string
}

/** What runs where, in words: from the clients inwards. `backupDir`: where the environment says that backups go. */
export function describe({ data, cache, edge, cdn, http, processes }: Topology, backupDir?: string): Described[] {
  const { both, web, worker } = processes
  const behind = edge.engine === 'nginx'
  const entry = `${http.host}:${http.port}`
  const at = behind ? 'behind the edge' : `at ${entry}`
  const pools = `${data.readConnectionsMax} + ${data.writeConnectionsMax} connections each`
  const parts: (Described | undefined)[] = [
    cdn && {
      part: 'cdn',
      count: 0,
      runs: cdn.name === 'fastly' ? `Fastly, service ${cdn.id}` : `Cloudflare, zone ${cdn.id}`,
    },
    behind ? { part: 'edge', count: 1, runs: `nginx, the page cache, at ${entry}` } : undefined,
    both > 0 ? { part: 'app', count: both, runs: `answers and runs jobs, ${at}; ${pools}` } : undefined,
    web > 0 ? { part: 'web', count: web, runs: `answers requests, ${at}; ${pools}` } : undefined,
    worker > 0 ? { part: 'worker', count: worker, runs: `runs jobs, handles events; ${pools}` } : undefined,
    cache.engine === 'memory' ? undefined : redis(cache.url),
    data.engine === 'embedded'
      ? { part: 'postgres', count: 1, runs: 'Postgres 18, in the data directory' }
      : { part: 'postgres', count: 0, runs: `Postgres at ${placeOf(data.url!)}` },
    data.engine === 'embedded' && backupDir
      ? { part: 'archiver', count: 1, runs: `archives the log of Postgres to ${backupDir}` }
      : undefined,
  ]
  return parts.filter((part) => part !== undefined)
}

function redis(url: string | undefined): Described {
  const runs = 'the layer of the cache that all processes share'
  return url === undefined
    ? { part: 'redis', count: 1, runs: `Redis, ${runs}` }
    : { part: 'redis', count: 0, runs: `Redis at ${placeOf(url)}` }
}

/** Without a user or password. */
function placeOf(url: string): string {
  return URL.parse(url.replace('@/', '@folder/'))?.host.replace('folder', 'its socket') || 'its socket'
}
