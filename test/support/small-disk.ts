import { spawnSync } from 'node:child_process'
import type { TestContext } from 'node:test'
import { withTempDir } from './postgres.ts'

/** A disk of so many MiB, in memory. Only root may make one. */
export async function withSmallDisk(
  t: TestContext,
  mebibytes: number,
  body: (disk: string) => Promise<void>,
): Promise<void> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    return t.skip('only root on Linux can mount a small disk')
  await withTempDir(async (disk) => {
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'none', disk], { encoding: 'utf8' })
    if (mounted.status !== 0) return t.skip(`a small disk cannot be mounted here: ${mounted.stderr.trim()}`)
    try {
      await body(disk)
    } finally {
      if (spawnSync('umount', [disk]).status !== 0) spawnSync('umount', ['--lazy', disk])
    }
  })
}
