import type { Topology } from '../../topology/topology.ts'
import { placesOf } from '../../topology/urls.ts'
import { type Engine, stateOf } from '../process/engine.ts'
import { logFileOf } from '../process/server-process.ts'
import { natsPackages, natsUrl, storeBytesOf } from './recipe.ts'
import { installedNats, natsProblem, startNats } from './server.ts'

const local = '127.0.0.1'

interface NatsOptions {
  name: string
  dir: string
  listen: { port: number }
  /** Where the other nodes reach it. */
  routePort: number
  password: string
  storeBytesMax: number
}

function instancesOf({ events: { nodes } }: Topology): string[] {
  return nodes === 1 ? ['nats'] : Array.from({ length: nodes }, (_, index) => `nats-${index + 1}`)
}

/** NATS, whose JetStream takes events to the databases of their groups. */
export const nats: Engine = {
  name: 'nats',
  product: 'NATS',
  check: 'nats',
  part: 'nats',
  side: 'behind',
  packages: natsPackages,
  instances: instancesOf,
  /** One for clients, one for the other nodes. */
  ports: 2,
  look() {
    const found = installedNats()
    return stateOf('NATS', found, natsProblem(found))
  },
  use({ events }) {
    if (events.engine === 'table') return 'none'
    return events.engine === 'jetstream' ? 'managed' : 'external'
  },
  describe: ({ events: { url } }) =>
    url === undefined ? 'NATS JetStream, which carries events' : `NATS at ${placesOf(url)}`,
  place({ name, settings, dirFor, ports, placed, secret }) {
    const dir = dirFor()
    const [port, routePort] = ports as [number, number]
    const all = () => placed('nats').map((one) => one.options as NatsOptions)
    const options: NatsOptions = {
      ...{ name, dir, listen: { port }, routePort },
      password: all()[0]?.password ?? secret, // one for all nodes
      storeBytesMax: storeBytesOf(settings.events),
    }
    return {
      address: `${local}:${port}`,
      dir,
      log: logFileOf(dir),
      options,
      environment: { RUNG_NATS_URL: natsUrl(`${local}:${port}`, options.password) },
      async start() {
        const routes = all().map((one) => `${local}:${one.routePort}`)
        const server = await startNats({
          ...options,
          ...(routes.length > 1 && { cluster: { port: routePort, routes } }),
        })
        return { ...server, answers: server.isHealthy }
      },
    }
  },
}
