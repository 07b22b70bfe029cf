import { type Engine, stateOf } from '../process/engine.ts'
import { logFileOf } from '../process/server-process.ts'
import { nginxPackages } from './recipe.ts'
import { installedNginx, nginxProblem, startPageCache } from './server.ts'

/** nginx as the page cache in front of the web processes. */
export const nginx: Engine = {
  name: 'nginx',
  product: 'nginx',
  part: 'edge',
  side: 'front',
  sharesEntry: true,
  packages: nginxPackages,
  ports: 1,
  look() {
    const found = installedNginx()
    return stateOf(found?.product ?? 'nginx', found, nginxProblem(found))
  },
  use: ({ edge }) => (edge.engine === 'nginx' ? 'managed' : 'none'),
  describe: (_, entry) => `nginx, the page cache, at ${entry}`,
  place({ dirFor, listen, ports, secret, tls, upstreams, topology, settings: { http } }) {
    const dir = dirFor('gate.sock')
    const adminPort = ports[0]!
    const options = {
      dir,
      listen,
      adminPort,
      secret,
      upstreams: upstreams.map(({ address }) => address),
      servers: upstreams,
      /** Otherwise it has one upstream, the balancer. */
      spreads: topology.balancer.engine === 'none',
      tagsShown: topology.cdn !== undefined,
      trustedProxies: http.trustProxy,
      ...(tls && { tls }),
    }
    return {
      address: `${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${listen.port}`,
      dir,
      log: logFileOf(dir),
      options,
      environment: { RUNG_EDGE_URL: `http://127.0.0.1:${adminPort}`, RUNG_EDGE_SECRET: secret },
      async start({ requestTimeoutMs, trustedProxies }) {
        const all = [...options.trustedProxies, ...trustedProxies]
        const server = await startPageCache({ ...options, requestTimeoutMs, trustedProxies: all })
        const { balancing: balancingOf, sendTo, ...rest } = server
        let { spreads } = options
        let balancing = spreads ? balancingOf(upstreams) : undefined
        return {
          ...rest,
          answers: server.isHealthy,
          ...(listen.socketFd !== undefined && { retire: server.retire }),
          async update(changed) {
            const next = changed as typeof options
            if (tls) await server.useCertificate(next.tls!.pem)
            if (next.spreads === spreads) return // whoever changes the processes admits and drains them
            await sendTo(next.upstreams)
            spreads = next.spreads
            balancing = spreads ? balancingOf(next.servers) : undefined
          },
          get balancing() {
            return balancing
          },
        }
      },
    }
  },
}
