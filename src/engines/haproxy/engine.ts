import { type Engine, stateOf, type Tls } from '../process/engine.ts'
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
  ports: 1,
  use: ({ balancer }) => (balancer.engine === 'haproxy' ? 'managed' : 'none'),
  describe: ({ edge }, entry) => `HAProxy, the balancer, ${edge === 'on' ? 'behind the edge' : `at ${entry}`}`,
  place({ dirFor, listen, tls, upstreams, topology, ports, settings: { http } }) {
    const dir = dirFor(adminSocketLongest)
    const isEntry = topology.edge.engine === 'none'
    const trustedProxies = isEntry ? http.trustProxy : []
    const calls = { host: '127.0.0.1', port: ports[0]! }
    const options = { dir, listen, isEntry, servers: upstreams, trustedProxies, calls, ...(tls && { tls }) }
    return {
      address: `${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${listen.port}`,
      dir,
      log: logFileOf(dir),
      options,
      environment: { RUNG_CALLS_URL: `http://${calls.host}:${calls.port}` },
      async start({ requestTimeoutMs, trustedProxies, routing }) {
        const all = [...options.trustedProxies, ...trustedProxies]
        const server = await startBalancer({ ...options, routing, requestTimeoutMs, trustedProxies: all })
        return {
          ...server,
          answers: server.isHealthy,
          ...(tls && { update: (changed: { tls?: Tls }) => server.useCertificate(changed.tls!.pem) }),
        }
      },
    }
  },
}
