import { RungError } from '../../kernel/errors.ts'
import { connectionsNeeded, pooledTargets, poolerConnections, type Topology } from '../../topology/topology.ts'
import { placeOf } from '../../topology/urls.ts'
import { connectOnce } from '../postgres/client.ts'
import { serverNames } from '../postgres/recipe.ts'
import { type Engine, type EngineSite, stateOf } from '../process/engine.ts'
import { logFileOf } from '../process/server-process.ts'
import { pgbouncerPackages, poolerSocket, poolerUrl, poolsOf, serverOf } from './recipe.ts'
import { installedPgbouncer, pgbouncerProblem, startPgbouncer } from './server.ts'

/** PgBouncer, through which the processes share their connections to all servers of the database. */
export const pgbouncer: Engine = {
  name: 'pgbouncer',
  product: 'PgBouncer',
  part: 'pooler',
  side: 'behind',
  needs: ['postgres', 'replica'],
  packages: pgbouncerPackages,
  look() {
    const found = installedPgbouncer()
    return stateOf('PgBouncer', found, pgbouncerProblem(found))
  },
  use: ({ data }) => (data.pooler === 'pgbouncer' ? 'managed' : 'none'),
  describe: () => 'PgBouncer, which shares the connections of all processes',
  place(site) {
    const { topology } = site
    const dir = site.dirFor(poolerSocket)
    const urls = urlsOf(site)
    const names = serverNames(urls.length)
    const servers = urls.map((url, index) => ({ name: names[index]!, server: serverOf(url) }))
    const options = {
      dir,
      pools: [undefined, ...topology.groups].flatMap((group) =>
        poolsOf(servers, poolerConnections(topology, group), topology.data, group?.name),
      ),
      clientsMax: clientsMax(topology, servers.length),
    }
    return {
      address: dir,
      dir,
      log: logFileOf(dir),
      options,
      environment: { RUNG_POOLER_URL: poolerUrl(dir) },
      async start() {
        if (topology.data.engine === 'external') for (const url of urls) await checkRoom(url, topology)
        const server = await startPgbouncer(options)
        let present = options
        return {
          ...server,
          answers: server.isHealthy,
          async update(changed) {
            const next = changed as typeof options
            // A RELOAD may break connections that are just being made. Room for fewer clients is not worth one.
            const samePools = JSON.stringify(next.pools) === JSON.stringify(present.pools)
            if (samePools && next.clientsMax <= present.clientsMax) return
            await server.reload(next)
            present = next
          },
        }
      },
    }
  },
}

/** Of all servers, that of DATABASE_URL first. */
function urlsOf({ placed, settings: { data } }: Pick<EngineSite, 'placed' | 'settings'>): string[] {
  if (data.url !== undefined) return [data.url, ...data.readUrls]
  const own = [...placed('postgres'), ...placed('replica')].map(({ environment }) => environment)
  return own.map((variables) => (variables.DATABASE_URL ?? variables.DATABASE_READ_URL)!)
}

/** Every process may use each of its connections on each server. */
export function clientsMax({ data, processes, groups }: Topology, servers: number): number {
  const count = processes.both + processes.web + processes.worker
  const ofEach = data.readConnectionsMax + data.writeConnectionsMax
  const inGroups = groups.reduce((sum, { web, worker, connections }) => sum + (web + worker) * 2 * connections, 0)
  return 100 + (count * ofEach + inGroups) * servers * pooledTargets.length
}

/** @throws CONFIG_INVALID if a running Postgres allows fewer connections than may be needed */
async function checkRoom(url: string, topology: Topology): Promise<void> {
  const client = await connectOnce({ url }).catch(() => undefined) // the processes of the app report it
  if (!client) return
  const { rows } = await client
    .query({
      text: `select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as room`,
    })
    .finally(() => client.end())
  const { room } = rows[0] as { room: number }
  const needed = connectionsNeeded(topology)
  if (room >= needed) return
  throw new RungError(
    'CONFIG_INVALID',
    `Postgres at ${placeOf(url)} allows ${room} connections, and this topology may need ${needed}. Lower RUNG_POOL_READ and RUNG_POOL_WRITE, or raise max_connections.`,
  )
}
