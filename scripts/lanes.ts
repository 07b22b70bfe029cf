import { globSync } from 'node:fs'
import path from 'node:path'

/** Which tests belong together: `npm test -- --lane fleet`. A file is in the first lane that names it; `quick` has all others. */
const named: Record<string, readonly string[]> = {
  browser: ['test/rungs/conduit-extended.test.ts'],
  backup: ['test/backup/**', 'test/runtime/backup.test.ts', 'test/fleet/archive.test.ts'],
  doctor: ['test/doctor/**'],
  fleet: ['test/fleet/{hang,supervisor,up}.test.ts', 'test/cli/ps-stop.test.ts', 'test/rungs/conduit-10k.test.ts'],
  process: [
    'test/runtime/**',
    'test/cli/**',
    'test/engines/**',
    'test/rungs/conduit-{kill,local-time,seeded}.test.ts',
    'test/primitives/**/{kills,lost,faults}.test.ts',
    'test/docs/**',
    'test/testing/rung-test.test.ts',
  ],
}

export const laneNames = ['quick', ...Object.keys(named)]

/** Returns the test files of a lane, or of all of them. */
export function testFiles(root: string, lane?: string): string[] {
  const all = globSync('{test,examples}/**/*.test.ts', { cwd: root }).sort()
  if (lane === undefined) return all
  return all.filter((file) => laneOf(file) === lane)
}

function laneOf(file: string): string {
  const found = Object.entries(named).find(([, globs]) => globs.some((glob) => path.matchesGlob(file, glob)))
  return found?.[0] ?? 'quick'
}
