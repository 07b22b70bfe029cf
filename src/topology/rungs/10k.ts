import type { Topology } from '../topology.ts'
import { rung1k } from './1k.ts'

/** + Redis as second layer of the cache. */
export const rung10k: Topology = {
  ...rung1k,
  rung: '10k',
  cache: { ...rung1k.cache, engine: 'redis' },
}
