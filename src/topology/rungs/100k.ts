import type { Topology } from '../topology.ts'
import { rung10k } from './10k.ts'

/** Adds a balancer over several web processes, replicas of the database, and a pooler of its connections. */
export const rung100k: Topology = {
  ...rung10k,
  rung: '100k',
  data: { ...rung10k.data, replicas: 2, pooler: 'pgbouncer' },
  balancer: { engine: 'haproxy' },
  processes: { both: 0, web: 3, worker: 1 },
}
