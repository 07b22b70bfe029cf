import { type FileHandle, open, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { Readable } from 'node:stream'
import { codeOf, removeAbandoned, syncFolder, writeAll, writeAtomically } from '../../engines/disk/atomic.ts'
import { isRungError, RungError } from '../../kernel/errors.ts'
import { type FileEntry, type FileInfo, type FileStore, resolveRange } from './contract.ts'
import { pathOf, prune, walk } from './disk-tree.ts'

export interface DiskOptions {
  folder: string
  /** Called before each write, to create the place of the folder. */
  prepare?: () => Promise<unknown>
}

/** Stores files in a folder. A file on the disk begins with the facts, followed by the content, so that a single rename changes both. */
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
        // The link decides in the end. This check saves a long upload.
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
          if (!facts) continue // deleted meanwhile
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

/** Four times Node's default halves the calls' share of the CPU. */
const readBytes = 256 * 1024

type StoredFacts = Pick<FileInfo, 'size' | 'sha256' | 'contentType' | 'metadata'>

/** One page, so the content behind it stays aligned. The facts take 1.5 KiB at most. */
const headerBytes = 4096
const magic = 'rung file 1\n'

/** A line that names the format, the facts as JSON, and blanks. */
function encodeHeader(facts: StoredFacts): Buffer {
  const header = Buffer.alloc(headerBytes, ' ')
  header.write(`${magic}${JSON.stringify(facts)}`)
  header.write('\n', headerBytes - 1)
  return header
}

function decodeHeader(header: Uint8Array): StoredFacts | undefined {
  const text = Buffer.from(header).toString()
  if (header.length !== headerBytes || !text.startsWith(magic)) return undefined
  try {
    return JSON.parse(text.slice(magic.length)) as StoredFacts
  } catch {
    return undefined
  }
}

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
    throw new RungError(
      'FILES_DAMAGED',
      `The file ${JSON.stringify(key)} is damaged on the disk. Restore it from a backup.`,
    )
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
  return new RungError('FILES_EXISTS', `The file ${JSON.stringify(key)} exists already.`)
}

function coded(cause: unknown): RungError {
  if (isRungError(cause)) return cause
  if (['ENOSPC', 'EDQUOT'].includes(codeOf(cause) ?? '')) {
    return new RungError(
      'FILES_DISK_FULL',
      'The disk of the files is full. Free space to store files again; they can still be read.',
      {
        cause,
      },
    )
  }
  // The system's message contains paths, and clients see the text of a 503, so only the log has the message.
  return new RungError('FILES_UNAVAILABLE', 'The files cannot be reached. The log has the reason.', { cause })
}
