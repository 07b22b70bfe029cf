import type { Topology } from '../topology.ts'
import { rung1k } from './1k.ts'

/** Adds Redis as the second layer of the cache, nginx as page cache, and a separate process for jobs. */
export const rung10k: Topology = {
  ...rung1k,
  rung: '10k',
  cache: { ...rung1k.cache, engine: 'redis' },
  edge: { engine: 'nginx' },
  processes: { both: 0, web: 1, worker: 1 },
}
