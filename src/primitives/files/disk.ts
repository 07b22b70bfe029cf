import { type FileHandle, open, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { Readable } from 'node:stream'
import { codeOf, removeAbandoned, syncFolder, writeAll, writeAtomically } from '../../engines/disk/atomic.ts'
import { isRungError, RungError } from '../../kernel/errors.ts'
import type { FileEntry, FileInfo, FileStore } from './contract.ts'
import { decodeHeader, encodeHeader, headerBytes } from './disk-header.ts'
import { pathOf, prune, walk } from './disk-tree.ts'
import { resolveRange } from './range.ts'

export interface DiskOptions {
  folder: string
  /** Before the first write: makes the place where the folder is. */
  prepare?: () => Promise<unknown>
}

/** Files in a folder. One file holds the content and, in front of it, its facts: a single rename changes both. */
export async function diskFiles({ folder, prepare }: DiskOptions): Promise<FileStore> {
  const drafts = path.join(folder, '.drafts')
  await removeAbandoned(drafts).catch((error) => {
    throw coded(error)
  })

  return {
    async put(key, content, ifAbsent) {
      const target = pathOf(folder, key)
      const { contentType, metadata } = content
      let info: FileInfo | undefined
      try {
        // The last word is with the link; this one comes before a long upload.
        if (ifAbsent && (await statOf(target))) throw exists(key)
        await prepare?.()
        await writeAtomically({ drafts, target, replace: !ifAbsent }, async (file) => {
          let size = 0
          for await (const chunk of content) {
            await writeAll(file, chunk, headerBytes + size)
            size += chunk.length
          }
          const facts = { size, sha256: content.sha256(), contentType, metadata }
          await writeAll(file, encodeHeader(facts), 0)
          info = { key, ...facts, modifiedAt: (await file.stat()).mtime }
        })
        return info!
      } catch (error) {
        await prune(path.dirname(target), folder)
        if (ifAbsent && codeOf(error) === 'EEXIST') throw exists(key)
        throw coded(error)
      }
    },

    async get(key, range) {
      const file = await openOf(pathOf(folder, key))
      if (!file) return undefined
      try {
        const info = await infoOf(file, key)
        const { start, end } = resolveRange(range, info.size)
        const whole = { ...info, range: { start, end } }
        if (end < start) {
          await file.close()
          return { ...whole, body: Readable.from([]) }
        }
        const place = { start: headerBytes + start, end: headerBytes + end, highWaterMark: readBytes }
        return { ...whole, body: file.createReadStream(place) }
      } catch (error) {
        await file.close()
        throw coded(error)
      }
    },

    async stat(key) {
      const file = await openOf(pathOf(folder, key))
      try {
        return file && (await infoOf(file, key))
      } catch (error) {
        throw coded(error)
      } finally {
        await file?.close()
      }
    },

    async delete(key) {
      const target = pathOf(folder, key)
      try {
        await rm(target)
        await syncFolder(path.dirname(target))
        await prune(path.dirname(target), folder)
      } catch (error) {
        if (!isAbsent(error)) throw coded(error)
      }
    },

    async list(prefix, after, limit) {
      try {
        const files: FileEntry[] = []
        for await (const found of walk(folder, prefix, after)) {
          const facts = await statOf(found.path)
          if (!facts) continue // gone meanwhile
          if (files.length === limit) return { files, more: true }
          files.push({ key: found.key, size: facts.size - headerBytes, modifiedAt: facts.mtime })
        }
        return { files, more: false }
      } catch (error) {
        throw coded(error)
      }
    },
  }
}

/** Of a whole content: 4 times Node's default halves the calls' share of the CPU. */
const readBytes = 256 * 1024

async function openOf(target: string): Promise<FileHandle | undefined> {
  return open(target, 'r').catch((error) => {
    if (isAbsent(error)) return undefined
    throw coded(error)
  })
}

async function infoOf(file: FileHandle, key: string): Promise<FileInfo> {
  const header = Buffer.alloc(headerBytes)
  const [{ bytesRead }, { size, mtime }] = await Promise.all([file.read(header, 0, headerBytes, 0), file.stat()])
  const facts = decodeHeader(header.subarray(0, bytesRead))
  if (facts?.size !== size - headerBytes) {
    throw new RungError('FILES_DAMAGED', `The file ${JSON.stringify(key)} is damaged on the disk. Restore it.`)
  }
  return { key, ...facts, modifiedAt: mtime }
}

async function statOf(target: string) {
  return stat(target).catch((error) => {
    if (isAbsent(error)) return undefined
    throw error
  })
}

function isAbsent(error: unknown): boolean {
  return codeOf(error) === 'ENOENT'
}

function exists(key: string): RungError {
  return new RungError('FILES_EXISTS', `There is a file ${JSON.stringify(key)} already.`)
}

function coded(cause: unknown): RungError {
  if (isRungError(cause)) return cause
  if (['ENOSPC', 'EDQUOT'].includes(codeOf(cause) ?? '')) {
    return new RungError('FILES_DISK_FULL', 'The disk of the files is full. Free space to store again; reads go on.', {
      cause,
    })
  }
  // What the system says has paths in it, and a 503 is shown to clients: it stays in the log.
  return new RungError('FILES_UNAVAILABLE', 'The files cannot be reached. The log says why.', { cause })
}
