import { elementOf, elementsOf, S3Client, S3Failure } from '../../engines/s3/client.ts'
import { dateOf, decodedKey, listObjects, orAbsent, ownFolder, sha256Of } from '../../engines/s3/objects.ts'
import { probe } from '../../engines/s3/probe.ts'
import { systemClock } from '../../kernel/clock.ts'
import { isRungError, RungError } from '../../kernel/errors.ts'
import { secret } from '../../kernel/random.ts'
import type { S3Address } from '../../topology/urls.ts'
import {
  type Content,
  type FileEntry,
  type FileInfo,
  type FileStore,
  type Range,
  resolveRange,
  uploadsFolder,
} from './contract.ts'

/** What one upload holds in memory. R2 wants parts of equal size, AWS at least 5 MiB. */
const partBytes = 8 * 1024 ** 2
/** A copy inside the store that ends within the deadline of a call. */
const copyBytes = 128 * 1024 ** 2
/** For every store. */
const partsMax = 10_000
/** What is left of uploads whose process died is removed after a day. */
const abandonedMs = 86_400_000
const draftsFolder = `${ownFolder}drafts/`

/** Facts that S3 does not have, as its metadata: at most 2 KB of ASCII. `put` tells writers apart. */
const shaHeader = 'x-amz-meta-rung-sha256'
const putHeader = 'x-amz-meta-rung-put'
const metadataHeader = 'x-amz-meta-rung-metadata'

/**
 * Stores files in a bucket. What fits into one part is a single `PUT`, whose digest is signed. More goes in parts to a draft, and is copied from
 * there inside the store, because the digest is known only at the end.
 * @param away called if the store cannot be reached now; files fail with FILES_UNAVAILABLE until it can
 * @throws CONFIG_INVALID if the bucket, the keys, the region or the clock is wrong, or the store does not verify digests
 */
export async function s3Files(address: S3Address, away: (failure: S3Failure) => void): Promise<FileStore> {
  const client = new S3Client(address)
  const { prefix } = address
  const at = (key: string) => prefix + key

  /** Whether the store refuses to replace an object, for each kind of request; asked once. */
  const conditional: Record<'put' | 'complete', () => Promise<boolean>> = {
    put: askedOnce(async () => {
      const once = { method: 'PUT', key: at(`${ownFolder}condition`), headers: { 'if-none-match': '*' } } as const
      return (await refuses(() => client.ask(once))) || refuses(() => client.ask(once))
    }),
    complete: askedOnce(async () => {
      const key = at(`${ownFolder}condition`)
      await client.ask({ method: 'PUT', key })
      const upload = await begin(key, {})
      try {
        await upload.add(Buffer.from('x'))
        return await refuses(() => upload.complete(true))
      } finally {
        await upload.abort()
      }
    }),
  }

  async function needCondition(kind: 'put' | 'complete'): Promise<void> {
    if (await conditional[kind]()) return
    const what = kind === 'put' ? 'files' : `files of more than ${partBytes / 1024 ** 2} MiB`
    throw new RungError(
      'FILES_OPTION_INVALID',
      `The S3 store does not support "ifAbsent" for ${what}: it ignores If-None-Match. Use a new key for each file.`,
    )
  }

  /** Begins an upload in parts. */
  async function begin(key: string, headers: Readonly<Record<string, string>>) {
    const { text } = await client.ask({ method: 'POST', key, query: { uploads: '' }, headers })
    const query = { uploadId: elementOf(text, 'UploadId')! }
    const tags: string[] = []
    return {
      async add(bytes: Uint8Array): Promise<void> {
        if (tags.length === partsMax) {
          throw new RungError('FILES_TOO_LARGE', `The file has more than ${partsMax} parts of 8 MiB, which S3 refuses.`)
        }
        const body = { bytes, sha256: await sha256Of(bytes) }
        const part = { ...query, partNumber: String(tags.length + 1) }
        const { headers } = await client.ask({ method: 'PUT', key, query: part, body })
        tags.push(headers.etag!)
      },
      async copy(source: string, start: number, end: number): Promise<void> {
        const range = {
          'x-amz-copy-source': client.sourceOf(source),
          'x-amz-copy-source-range': `bytes=${start}-${end}`,
        }
        const part = { ...query, partNumber: String(tags.length + 1) }
        const { text } = await client.ask({ method: 'PUT', key, query: part, headers: range })
        tags.push(elementOf(text, 'ETag')!)
      },
      async complete(ifAbsent: boolean): Promise<Date> {
        const parts = tags.map((tag, n) => `<Part><PartNumber>${n + 1}</PartNumber><ETag>${tag}</ETag></Part>`)
        const bytes = Buffer.from(`<CompleteMultipartUpload>${parts.join('')}</CompleteMultipartUpload>`)
        const { headers } = await client.ask({
          method: 'POST',
          key,
          query,
          headers: conditionOf(ifAbsent),
          body: { bytes, sha256: await sha256Of(bytes) },
        })
        return dateOf(headers.date)
      },
      async abort(): Promise<void> {
        await client.ask({ method: 'DELETE', key, query }).catch(ignore)
      },
    }
  }
  type Upload = Awaited<ReturnType<typeof begin>>

  async function head(key: string) {
    return orAbsent(async () => (await client.ask({ method: 'HEAD', key: at(key) })).headers)
  }

  /** Stores what fits into one part. */
  async function putSmall(key: string, bytes: Uint8Array, headers: Record<string, string>, put: Put): Promise<Date> {
    const body = { bytes, sha256: put.sha256 }
    const answer = await client.ask({
      method: 'PUT',
      key: at(key),
      headers: { ...headers, ...conditionOf(put.ifAbsent) },
      body,
    })
    return dateOf(answer.headers.date)
  }

  /** Copies a complete draft to its key, with its facts. */
  async function copyDraft(
    draft: string,
    key: string,
    size: number,
    headers: Record<string, string>,
    put: Put,
  ): Promise<Date> {
    const stored = Number((await client.ask({ method: 'HEAD', key: draft })).headers['content-length'])
    if (stored !== size)
      throw new S3Failure(`A draft has ${stored} bytes instead of ${size}.`, { code: 'SIZE', status: 0 })
    const copy = await begin(at(key), headers)
    try {
      for (let start = 0; start < size; start += copyBytes) {
        await copy.copy(draft, start, Math.min(start + copyBytes, size) - 1)
      }
      return await copy.complete(put.ifAbsent)
    } catch (error) {
      await copy.abort()
      throw error
    }
  }

  /** Returns whether a refused or lost `put` is nevertheless the one that was stored: by an attempt whose answer was lost. */
  async function isStored(key: string, error: unknown, id: string): Promise<boolean> {
    if (!(error instanceof S3Failure) || error.attempts === 1 || ![404, 412].includes(error.status)) return false
    return (await head(key).catch(ignore))?.[putHeader] === id
  }

  const store: FileStore = {
    async put(key, content, ifAbsent) {
      const id = secret(12)
      const draft = `${at(draftsFolder)}${id}`
      let upload: Upload | undefined
      let complete = false
      try {
        if (ifAbsent) {
          await needCondition('put')
          // The request decides in the end. This check saves a long upload.
          if (await head(key)) throw exists(key)
        }
        let size = 0
        const last = await inParts(content, async (part) => {
          if (upload === undefined && ifAbsent) await needCondition('complete')
          upload ??= await begin(draft, {})
          await upload.add(part)
          size += part.length
        })
        size += last.length
        const { contentType, metadata } = content
        const sha256 = content.sha256()
        const headers = encodeFacts({ contentType, sha256, metadata }, id)
        const put = { sha256, ifAbsent }
        let modifiedAt: Date
        try {
          if (upload === undefined) modifiedAt = await putSmall(key, last, headers, put)
          else {
            await upload.add(last)
            await upload.complete(false)
            complete = true
            modifiedAt = await copyDraft(draft, key, size, headers, put)
          }
        } catch (error) {
          if (!(await isStored(key, error, id))) throw error
          modifiedAt = new Date(systemClock.now())
        }
        return { key, size, sha256, contentType, metadata, modifiedAt }
      } catch (error) {
        if (ifAbsent && error instanceof S3Failure && [409, 412].includes(error.status)) throw exists(key)
        throw coded(error)
      } finally {
        if (complete) await store.delete(`${draftsFolder}${id}`).catch(ignore)
        else await upload?.abort()
      }
    },

    async get(key, range) {
      const found = await orAbsent(() =>
        client.open({ method: 'GET', key: at(key), headers: range ? { range: rangeOf(range) } : {} }),
      ).catch(async (error) => {
        if (error instanceof S3Failure && error.status === 416) {
          const size = Number((await head(key).catch(ignore))?.['content-length'] ?? 0)
          resolveRange({ start: size }, size)
        }
        throw coded(error)
      })
      if (found === undefined) return undefined
      try {
        const info = infoOf(key, found.headers)
        const [, start, end] = /^bytes (\d+)-(\d+)\//.exec(found.headers['content-range'] ?? '') ?? []
        if (start !== undefined) return { ...info, body: found, range: { start: Number(start), end: Number(end) } }
        if (range) throw new S3Failure('The store ignored a range.', { code: 'RANGE', status: found.statusCode! })
        return { ...info, body: found, range: { start: 0, end: info.size - 1 } }
      } catch (error) {
        found.destroy()
        throw coded(error)
      }
    },

    async stat(key) {
      const headers = await head(key).catch((error) => {
        throw coded(error)
      })
      return headers && infoOf(key, headers)
    },

    async delete(key) {
      await orAbsent(() => client.ask({ method: 'DELETE', key: at(key) })).catch((error) => {
        throw coded(error)
      })
    },

    async list(keyPrefix, after, limit) {
      try {
        const from = after === undefined ? undefined : at(after)
        const { objects, more } = await listObjects(client, at(keyPrefix), { after: from, limit })
        return { files: objects.map((entry): FileEntry => ({ ...entry, key: entry.key.slice(prefix.length) })), more }
      } catch (error) {
        throw coded(error)
      }
    },

    uploadUrl(key, size, expiresS) {
      // The size is signed, so that nobody can fill the store. A digest is not: stores may ignore it.
      return client.presigned({ method: 'PUT', key: at(key), headers: { 'content-length': String(size) } }, expiresS)
    },
  }

  /** Removes what is left of uploads whose process died. */
  async function prune(): Promise<void> {
    const before = systemClock.now() - abandonedMs
    const drafts = await store.list(draftsFolder, undefined, 1000)
    for (const { key, modifiedAt } of drafts.files) if (modifiedAt.getTime() < before) await store.delete(key)
    const { text } = await client.ask({ method: 'GET', query: { uploads: '', 'encoding-type': 'url', prefix } })
    for (const upload of elementsOf(text, 'Upload')) {
      if (!(Date.parse(elementOf(upload, 'Initiated') ?? '') < before)) continue
      const query = { uploadId: elementOf(upload, 'UploadId')! }
      await client.ask({ method: 'DELETE', key: decodedKey(elementOf(upload, 'Key')!), query })
    }
  }

  const failure = await probe(client, address, 'RUNG_S3_URL')
  if (failure) away(failure)
  void prune().catch(ignore)
  return store
}

interface Put {
  sha256: string
  ifAbsent: boolean
}

/** Calls `full` with parts of `partBytes`, whose bytes are valid until it returns, and returns the last part. */
async function inParts(content: Content, full: (part: Uint8Array) => Promise<void>): Promise<Uint8Array> {
  let part = Buffer.alloc(0)
  let held = 0
  for await (const chunk of content) {
    for (let from = 0; from < chunk.length; ) {
      if (held === partBytes) {
        await full(part)
        held = 0
      }
      const count = Math.min(partBytes - held, chunk.length - from)
      if (held + count > part.length) {
        const larger = Buffer.allocUnsafeSlow(Math.min(partBytes, Math.max(64 * 1024, 2 * (held + count))))
        part.copy(larger, 0, 0, held)
        part = larger
      }
      part.set(chunk.subarray(from, from + count), held)
      held += count
      from += count
    }
  }
  return part.subarray(0, held)
}

function conditionOf(ifAbsent: boolean): Record<string, string> {
  return ifAbsent ? { 'if-none-match': '*' } : {}
}

function rangeOf({ start, end }: Range): string {
  return start < 0 ? `bytes=${start}` : `bytes=${start}-${end ?? ''}`
}

type Facts = Pick<FileInfo, 'contentType' | 'sha256' | 'metadata'>

function encodeFacts({ contentType, sha256, metadata }: Facts, id: string): Record<string, string> {
  const encoded = Buffer.from(JSON.stringify(metadata)).toString('base64url')
  return { 'content-type': contentType, [shaHeader]: sha256, [putHeader]: id, [metadataHeader]: encoded }
}

/** @throws FILES_DAMAGED if the object is not one that Rung has stored */
function infoOf(key: string, headers: Readonly<Record<string, string | string[] | undefined>>): FileInfo {
  const text = (name: string) => headers[name] as string | undefined
  const sha256 = text(shaHeader) ?? (key.startsWith(uploadsFolder) ? '' : undefined)
  if (sha256 === undefined) {
    throw new RungError(
      'FILES_DAMAGED',
      `The file ${JSON.stringify(key)} lacks its facts: something other than Rung stored it. Store it again with files.put.`,
    )
  }
  const metadata = Buffer.from(text(metadataHeader) ?? '', 'base64url').toString() || '{}'
  return {
    key,
    size: Number(/\/(\d+)$/.exec(text('content-range') ?? '')?.[1] ?? text('content-length')),
    modifiedAt: dateOf(text('last-modified')),
    contentType: text('content-type') ?? 'application/octet-stream',
    sha256,
    metadata: JSON.parse(metadata),
  }
}

async function refuses(ask: () => Promise<unknown>): Promise<boolean> {
  try {
    await ask()
    return false
  } catch (error) {
    if (error instanceof S3Failure && error.status === 412) return true
    if (error instanceof S3Failure && error.status === 501) return false
    throw error
  }
}

function askedOnce<T>(ask: () => Promise<T>): () => Promise<T> {
  let asked: Promise<T> | undefined
  return () => {
    asked ??= ask().catch((error) => {
      asked = undefined // the next one asks again
      throw error
    })
    return asked
  }
}

function exists(key: string): RungError {
  return new RungError('FILES_EXISTS', `The file ${JSON.stringify(key)} exists already.`)
}

const fullCodes = ['QuotaExceeded', 'XMinioStorageFull', 'XMinioAdminBucketQuotaExceeded', 'InsufficientStorage']

function coded(cause: unknown): RungError {
  if (isRungError(cause)) return cause
  if (cause instanceof S3Failure && (cause.status === 507 || fullCodes.includes(cause.code))) {
    return new RungError(
      'FILES_DISK_FULL',
      'The store of the files is full. Free space to store files again; they can still be read.',
      { cause },
    )
  }
  // Clients see the text of a 503, so only the log has the store's message.
  return new RungError('FILES_UNAVAILABLE', 'The files cannot be reached. The log has the reason.', { cause })
}

function ignore(): undefined {}
