import type { Plant } from './plant.ts'

/** All of them. `plants.test.ts` holds their texts to the sources, `npm run bench -- plants` proves that each is caught. */
export const plants: readonly Plant[] = [
  {
    name: 'cache-forgets-the-session',
    file: 'primitives/cache/reader.ts',
    find: '?? (scope && this.#parts.invalidator.ensure(scope))',
    replace: '',
    caughtBy: ['read-your-writes'],
    workload: 'cache',
  },
  {
    name: 'tags-are-looked-at-after-the-load',
    file: 'primitives/cache/loads.ts',
    find: 'memory.keep(key, kept, start.asOf)',
    replace: 'memory.keep(key, kept, memory.tags.now)',
    caughtBy: ['no-stale-set', 'read-your-writes'],
    workload: 'cache',
  },
  // Which server reads, and what a session has seen.
  {
    name: 'any-replica-will-do',
    file: 'primitives/data/freshness.ts',
    find: '&& (atLeast === undefined || place >= atLeast))',
    replace: ')',
    caughtBy: ['read-your-writes'],
    workload: 'replicas',
  },
  {
    name: 'a-replica-is-chosen-by-its-lag-in-time',
    file: 'primitives/data/freshness.ts',
    find: '.filter(({ inRotation, place }) => inRotation && place !== undefined && (atLeast === undefined || place >= atLeast))',
    replace: '.filter(({ inRotation, lagMs }) => inRotation && lagMs < 1_000)',
    caughtBy: ['read-your-writes'],
    workload: 'replicas',
  },
  {
    name: 'received-counts-as-replayed',
    file: 'primitives/data/watched.ts',
    find: 'then pg_last_wal_replay_lsn() else',
    replace: 'then pg_last_wal_receive_lsn() else',
    caughtBy: ['read-your-writes'],
    workload: 'replicas',
  },
  {
    name: 'a-read-does-not-advance-the-position',
    file: 'primitives/data/data.ts',
    find: "if (this.#target === 'read') noteSeen(scope, database, seen)",
    replace: 'void seen',
    caughtBy: ['monotonic-reads'],
    workload: 'replicas',
  },
  {
    name: 'a-write-does-not-advance-the-position',
    file: 'primitives/data/data.ts',
    find: 'noteSeen(scope, this.core.database, place)',
    replace: 'void noteSeen',
    caughtBy: ['read-your-writes'],
    workload: 'replicas',
  },
  {
    name: 'the-position-is-asked-before-the-commit',
    file: 'primitives/data/data.ts',
    find: `positioned ? [...riding, commit, askPlace] : [...riding, commit])
      settle = inDoubt(scope)
      const [committed, at] = sent.slice(riding.length)`,
    replace: `positioned ? [...riding, askPlace, commit] : [...riding, commit])
      settle = inDoubt(scope)
      const [committed, at] = sent.slice(riding.length).reverse()`,
    caughtBy: ['read-your-writes'],
    workload: 'replicas',
  },
  {
    name: 'a-replica-that-stands-still-is-read',
    file: 'primitives/data/cluster.ts',
    find: 'server.place !== undefined && server.lagMs <= limit',
    replace: 'server.place !== undefined',
    caughtBy: ['bounded-staleness'],
    workload: 'replicas',
  },
]
