import type { Topology } from '../topology.ts'
import { rung1k } from './1k.ts'

/** + Redis as second layer of the cache; + nginx as page cache; work off the request path in a process of its own. */
export const rung10k: Topology = {
  ...rung1k,
  rung: '10k',
  cache: { ...rung1k.cache, engine: 'redis' },
  edge: { ...rung1k.edge, engine: 'nginx' },
  processes: { both: 0, web: 1, worker: 1 },
}
