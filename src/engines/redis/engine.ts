import { placeOf, redisUrlsIn } from '../../topology/urls.ts'
import { type Engine, stateOf } from '../process/engine.ts'
import { logFileOf } from '../process/server-process.ts'
import { redisPackages, redisUrl } from './recipe.ts'
import { installedRedis, type RedisServerOptions, redisProblem, startRedis } from './server.ts'

/** Redis, which all processes share: cache, limits, copies of sessions, positions, signals. */
export const redis: Engine = {
  name: 'redis',
  product: 'Redis',
  check: 'redis',
  part: 'redis',
  instances: ({ cache: { nodes } }) =>
    nodes === 1 ? ['redis'] : Array.from({ length: nodes }, (_, index) => `redis-${index + 1}`),
  side: 'behind',
  packages: redisPackages,
  look() {
    const found = installedRedis()
    return stateOf(found?.product ?? 'Redis', found, redisProblem(found))
  },
  use({ cache }) {
    if (cache.engine === 'external') return 'external'
    return cache.engine === 'redis' ? 'managed' : 'none'
  },
  describe({ cache: { url } }) {
    if (url === undefined) return 'Redis, which all processes share'
    const [first, ...others] = redisUrlsIn(url)
    return `Redis at ${placeOf(first!)}${others.length > 0 ? ` and ${others.length} other nodes` : ''}`
  },
  ports: ({ cache: { nodes } }) => (nodes === 1 ? 0 : 2),
  /**
   * The app reaches each node through its socket. Only the nodes talk to each other over ports, which every user of the machine reaches: the
   * bus has no password.
   */
  place({ topology, name, dirFor, ports, placed, secret }) {
    const dir = dirFor('redis.sock')
    const listen = { socketPath: `${dir}/redis.sock` }
    const all = () => placed('redis').map((one) => one.options as RedisServerOptions)
    const { nodes } = topology.cache
    const [port, busPort] = ports
    const index = Number(name.replace('redis-', '')) - 1
    const cluster = nodes === 1 ? {} : { cluster: { port: port!, busPort: busPort!, index, nodes } }
    const options = { dir, listen, password: all()[0]?.password ?? secret, ...cluster } // one password for all nodes
    return {
      address: listen.socketPath,
      dir,
      log: logFileOf(dir),
      options,
      environment: { RUNG_REDIS_URL: redisUrl(options) },
      async start() {
        const others = all().flatMap((one) => (one.dir === dir ? [] : (one.cluster ?? [])))
        const server = await startRedis({ ...options, others })
        return { ...server, answers: server.isHealthy }
      },
    }
  },
}
