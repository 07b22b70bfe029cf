import { globSync } from 'node:fs'
import path from 'node:path'

const quick = 'quick'

/** Which tests belong together: `npm test -- --lane fleet`. A file is in the first lane that names it; `quick` has all others. */
const named: Record<string, readonly string[]> = {
  browser: [
    'test/rungs/conduit-{1k-browser,dom,extended}.test.ts',
    'test/observe/vitals.test.ts',
    'test/console/{console,mail}.test.ts',
  ],
  backup: ['test/backup/**', 'test/runtime/backup.test.ts', 'test/fleet/archive.test.ts'],
  doctor: ['test/doctor/**'],
  fleet: [
    'test/fleet/{autoscale,deploy,failover,failover-fleet,hang,live,notice,patroni,replicas,supervisor,up,zones}.test.ts',
    'test/cli/ps-stop.test.ts',
    'test/chaos/fleet.test.ts',
    'test/rungs/{conduit-10k,conduit-100k,conduit-faults,conduit-late,conduit-redis-cluster,shop-rungs,shop-kill}.test.ts',
  ],
  process: [
    'test/runtime/**',
    'test/cli/**',
    'test/engines/**',
    'test/contracts/{*-shared,files-s3}.test.ts',
    'test/primitives/files/s3.test.ts',
    'test/rungs/conduit-{kill,local-time,s3,seeded}.test.ts',
    'test/primitives/**/{kills,lost,faults}.test.ts',
    'test/primitives/events/{mesh,restored}.test.ts',
    'test/primitives/cache/{cdn,cluster,own-writes,routes,schedules,warming}.test.ts',
    'test/primitives/{files/disk,limits/limits,sessions/redis}.test.ts',
    'test/console/door.test.ts',
    'test/docs/**',
    'test/plants/**',
    'test/security/**',
    'test/testing/{lag,nodes,rung-test}.test.ts',
  ],
}

export const laneNames = [quick, ...Object.keys(named)]

/** These take longest, so they are started first: none of them shall run alone in the end. */
const first = [
  'test/rungs/conduit-100k.test.ts',
  'test/rungs/conduit-late.test.ts',
  'test/rungs/conduit-faults.test.ts',
  'test/fleet/climb.test.ts',
  'test/fleet/patroni.test.ts',
  'test/fleet/archive.test.ts',
  'test/fleet/deploy.test.ts',
  'test/runtime/backup.test.ts',
  'test/console/console.test.ts',
  'test/rungs/conduit-10k.test.ts',
  'test/rungs/conduit-seeded.test.ts',
  'test/runtime/packed.test.ts',
  'test/runtime/start-stop.test.ts',
  'test/runtime/crash.test.ts',
  'test/rungs/conduit-1k.test.ts',
  'test/contracts/cache-shared.test.ts',
  'test/contracts/search.test.ts',
]

/** Returns the test files of a lane, or of all of them, in the order in which they are started. */
export function testFiles(root: string, lane?: string): string[] {
  const all = globSync('{test,examples}/**/*.test.ts', { cwd: root }).sort()
  const wanted = lane === undefined ? all : all.filter((file) => laneOf(file) === lane)
  const [long, short] = [first.filter((file) => wanted.includes(file)), wanted.filter((file) => !first.includes(file))]
  // What is in no named lane is short.
  return [...long, ...short.filter((file) => laneOf(file) !== quick), ...short.filter((file) => laneOf(file) === quick)]
}

function laneOf(file: string): string {
  const found = Object.entries(named).find(([, globs]) => globs.some((glob) => path.matchesGlob(file, glob)))
  return found?.[0] ?? quick
}
