import { statfsSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import path from 'node:path'
import { formatBytes } from '../kernel/units.ts'
import { type Fault, noEffect } from './fault.ts'

/** Faults of the disk. */

/** A disk that somebody has put aside for this. Nobody's own disk is filled. */
const diskBytesMax = 4 * 1024 ** 3

const diskFull: Fault = {
  name: 'disk-full',
  does: 'fills the disk of the data directory, which must be a small one of its own',
  shows: 'Writes answer 507 DATA_DISK_FULL, reads go on; nothing that was acknowledged is lost.',
  on: ['primary'],
  lasts: true,
  problem(dataDir) {
    const { bsize, blocks } = statfsSync(dataDir)
    if (bsize * blocks <= diskBytesMax) return undefined
    const [size, most] = [bsize * blocks, diskBytesMax].map(formatBytes)
    return `The disk of the data directory has ${size}; at most ${most} are filled. Put it on one of its own: mount -t tmpfs -o size=1g none .rung`
  },
  async inject({ dataDir }, undoBy) {
    const file = path.join(dataDir, 'chaos', `ballast-${process.pid}`)
    await undoBy({ how: 'remove', file })
    const handle = await open(file, 'wx', 0o600)
    try {
      let bytes = 0
      for (const size of [1024 ** 2, 4_096]) bytes += await fill(handle, size)
      if (bytes === 0) throw noEffect('The disk was full already.')
      return { did: `wrote ${formatBytes(bytes)}, until the disk was full` }
    } finally {
      await handle.close()
    }
  },
}

export const diskFaults: readonly Fault[] = [diskFull]

/** Writes pieces of this size until there is no room for another one. @returns how many bytes were written */
async function fill(handle: FileHandle, size: number): Promise<number> {
  const piece = Buffer.alloc(size)
  for (let bytes = 0; ; ) {
    try {
      bytes += (await handle.write(piece)).bytesWritten
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return bytes
      throw error
    }
  }
}
