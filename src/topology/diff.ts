import { type Topology, webProcesses } from './topology.ts'

/** What another topology means for the data and for the app, in sentences. */
export interface Difference {
  /** What is kept elsewhere than before. */
  readonly moves: readonly string[]
  readonly app: readonly string[]
}

/** Pure. */
export function differenceOf(now: Topology, next: Topology): Difference {
  const shares = (topology: Topology) => topology.cache.engine !== 'memory'
  const has = (topology: Topology) => ({
    edge: topology.edge.engine !== 'none',
    balancer: topology.balancer.engine !== 'none',
    pooler: topology.data.pooler !== 'none',
    replicas: topology.data.replicas > 0,
    several: webProcesses(topology) > 1,
    workers: topology.processes.worker > 0,
  })
  const [a, b] = [has(now), has(next)]
  const moves: string[] = []
  const app: string[] = []
  if (!shares(now) && shares(next)) {
    moves.push(
      'Cache, limits, positions and copies of sessions are in Redis. Sessions stay in Postgres: nobody is signed out.',
    )
    moves.push('Counts of limits begin anew: within one window a client may make up to twice as many requests.')
  }
  if (shares(now) && !shares(next)) {
    moves.push(
      'Cache, limits and positions are in the memory of the one process. Sessions stay in Postgres: nobody is signed out.',
    )
    moves.push('Counts of limits begin anew: within one window a client may make up to twice as many requests.')
  }
  if (now.events.engine === 'table' && next.events.engine !== 'table')
    moves.push(
      'Events go over NATS to the databases of their groups. What was published before is in the queues already.',
    )
  if (now.events.engine !== 'table' && next.events.engine === 'table')
    moves.push(
      'Events are added to the queues of their groups by whoever publishes them. Those on their way are taken from the database within seconds.',
    )
  if (shares(now) && shares(next) && now.cache.nodes !== next.cache.nodes) {
    const nodes = next.cache.nodes === 1 ? 'one node' : `${next.cache.nodes} nodes`
    moves.push(`Keys of Redis are on ${nodes}: what was cached is loaded anew. Nobody is signed out.`)
    moves.push('Counts of limits begin anew: within one window a client may make up to twice as many requests.')
  }
  if (!a.edge && b.edge) app.push('Pages that allow it are answered by the page cache, and purged with the commit.')
  if (a.edge && !b.edge) app.push('There is no page cache any more: every request reaches the app.')
  if (!a.workers && b.workers) app.push('Jobs and events run in a process of their own.')
  if (a.workers && !b.workers) app.push('Jobs and events run in the process that answers requests.')
  if (!a.several && b.several)
    app.push(`${webProcesses(next)} processes answer requests: what one keeps in its memory, the others do not see.`)
  if (a.several && !b.several) app.push('One process answers requests.')
  if (!a.pooler && b.pooler)
    app.push('Connections are shared for a transaction each: what a statement sets for its session is lost after it.')
  if (a.pooler && !b.pooler) app.push('Each process has connections of its own to Postgres.')
  if (!a.replicas && b.replicas)
    app.push('Reads leave the primary. A session sees what it has written; other sessions may see it a little later.')
  if (a.replicas && !b.replicas) app.push('All reads are answered by the primary.')
  if (!a.balancer && b.balancer)
    app.push('A process that dies is left out by the balancer, and processes can be added with rung scale.')
  if (a.balancer && !b.balancer) app.push('The number of web processes changes at a start only.')
  return { moves, app }
}
