import { type Engine, stateOf } from '../process/engine.ts'
import { logFileOf } from '../process/server-process.ts'
import { adminSocketLongest, haproxyPackages } from './recipe.ts'
import { haproxyProblem, installedHaproxy, startBalancer } from './server.ts'

/** HAProxy, which spreads requests over the web processes, and alone sends a request again. */
export const haproxy: Engine = {
  name: 'haproxy',
  product: 'HAProxy',
  part: 'balancer',
  side: 'front',
  packages: haproxyPackages,
  look() {
    const found = installedHaproxy()
    return stateOf('HAProxy', found, haproxyProblem(found))
  },
  use: ({ balancer }) => (balancer.engine === 'haproxy' ? 'managed' : 'none'),
  describe: ({ edge }, entry) => `HAProxy, the balancer, ${edge === 'on' ? 'behind the edge' : `at ${entry}`}`,
  place({ dirFor, listen, upstreams, topology }) {
    const dir = dirFor(adminSocketLongest)
    const options = { dir, listen, isEntry: topology.edge.engine === 'none', servers: upstreams }
    return {
      address: `${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${listen.port}`,
      dir,
      log: logFileOf(dir),
      options,
      environment: {},
      async start({ requestTimeoutMs }) {
        const server = await startBalancer({ ...options, requestTimeoutMs })
        return { ...server, answers: server.isHealthy }
      },
    }
  },
}
