import { createReadStream, existsSync } from 'node:fs'
import { open, readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { codeOf } from '../engines/disk/atomic.ts'
import { readCatalogue, type Segment, systemsIn } from './catalogue.ts'
import { decompressed } from './content.ts'
import { basesFolder, type SegmentManifest, segmentFile, systemFolder, walFolder } from './layout.ts'
import type { Place } from './place.ts'
import { unseal } from './sealed.ts'

/** Backups in a folder, as the drawing of `layout.ts` has it. */
export function folderPlace(backupDir: string): Place {
  const walOf = (system: string) => walFolder(systemFolder(backupDir, system))
  const fileOf = (segment: Segment) => path.join(systemFolder(backupDir, segment.system), segmentFile(segment))

  return {
    name: backupDir,
    systems: () => systemsIn(backupDir),
    catalogue: (system) => readCatalogue(backupDir, system),
    readFile: ({ system, id }, { name, bytes }) =>
      contentOf(path.join(basesFolder(systemFolder(backupDir, system)), id, name), bytes),
    readSegment: (segment) => contentOf(fileOf(segment), segment.bytes),
    async *readBehind(segment) {
      if (segment.growing) yield* createReadStream(fileOf(segment), { start: segment.bytes }) as AsyncIterable<Buffer>
    },
    async renewed(segment) {
      const complete = { ...segment, growing: false }
      const manifest = fileOf(complete).replace(/zst$/, 'json')
      if (!segment.growing || existsSync(fileOf(segment)) || !existsSync(manifest)) return segment
      const { bytes, sha256 } = unseal<SegmentManifest>(await readFile(manifest, 'utf8')) ?? segment
      return { ...complete, bytes, sha256 }
    },
    async histories(system) {
      const names = (await readdir(walOf(system)).catch(() => [])).filter((name) => name.endsWith('.history'))
      const texts = names.map(async (name) => [name, await readFile(path.join(walOf(system), name), 'utf8')] as const)
      return new Map(await Promise.all(texts))
    },
    async reserve(system, name, text) {
      const handle = await open(path.join(walOf(system), name), 'wx', 0o600).catch((error) => codeOf(error))
      if (handle === 'EEXIST') return false
      if (handle === 'EROFS' || handle === 'EACCES') return true // nobody archives there
      if (typeof handle !== 'object') throw new Error(`${name} cannot be written (${handle})`)
      await handle.writeFile(text)
      await handle.sync()
      await handle.close()
      return true
    },
  }
}

/** Yields the first `bytes` of a file; a `.zst` file is decompressed. */
async function* contentOf(file: string, bytes: number): AsyncGenerator<Buffer> {
  if (bytes === 0) return
  if (file.endsWith('.zst')) yield* decompressed(createReadStream(file) as AsyncIterable<Buffer>)
  else yield* createReadStream(file, { end: bytes - 1 }) as AsyncIterable<Buffer>
}
