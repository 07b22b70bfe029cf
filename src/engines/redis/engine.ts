import { placeOf } from '../../topology/urls.ts'
import { type Engine, stateOf } from '../process/engine.ts'
import { logFileOf } from '../process/server-process.ts'
import { redisPackages, redisUrl } from './recipe.ts'
import { installedRedis, redisProblem, startRedis } from './server.ts'

/** Redis, which all processes share: cache, limits, copies of sessions, positions, signals. */
export const redis: Engine = {
  name: 'redis',
  product: 'Redis',
  check: 'redis',
  part: 'redis',
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
  describe: ({ cache: { url } }) =>
    url === undefined ? 'Redis, which all processes share' : `Redis at ${placeOf(url)}`,
  place({ dirFor, secret: password }) {
    const dir = dirFor('redis.sock')
    const listen = { socketPath: `${dir}/redis.sock` }
    const options = { dir, listen, password }
    return {
      address: listen.socketPath,
      dir,
      log: logFileOf(dir),
      options,
      environment: { RUNG_REDIS_URL: redisUrl(options) },
      async start() {
        const server = await startRedis(options)
        return { ...server, answers: server.isHealthy }
      },
    }
  },
}
