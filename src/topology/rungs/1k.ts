import type { Topology } from '../topology.ts'

/** One process, and a Postgres that Rung starts. */
export const rung1k: Topology = {
  rung: '1k',
  data: {
    engine: 'embedded',
    replicas: 0,
    pooler: 'none',
    readConnectionsMax: 10,
    writeConnectionsMax: 10,
    lagMsMax: 5_000,
    idleTimeoutMs: 60_000,
    statementTimeoutMs: 10_000,
    lockTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 15_000,
  },
  cache: { engine: 'memory', nodes: 1, memoryBytesMax: 32 * 1024 ** 2 },
  events: { engine: 'table', nodes: 1 },
  edge: { engine: 'none' },
  balancer: { engine: 'none' },
  cdn: undefined,
  files: { engine: 'disk' },
  mail: { engine: 'eml' },
  archived: false,
  http: { host: '127.0.0.1', port: 3000 },
  tls: false,
  processes: { both: 1, web: 0, worker: 0 },
  scaling: { schedule: [] },
  groups: [],
  placement: { cpu: undefined, zones: [] },
  unresponsiveAfterMs: 30_000,
}
