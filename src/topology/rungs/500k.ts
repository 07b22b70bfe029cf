import type { Topology } from '../topology.ts'
import { rung100k } from './100k.ts'

/**
 * Adds a broker that carries events, and spreads the shared cache over several nodes. Which modules get nodes of their own, `nodes` of the
 * settings says: no app needs all of them apart.
 */
export const rung500k: Topology = {
  ...rung100k,
  rung: '500k',
  cache: { ...rung100k.cache, nodes: 3 },
  events: { engine: 'jetstream', nodes: 1 },
}
