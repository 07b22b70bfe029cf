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
]
