import type { Clock } from '../../kernel/clock.ts'
import { systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import type { Keys } from '../../kernel/keys.ts'
import { secret } from '../../kernel/random.ts'
import { currentScope } from '../../kernel/scope.ts'
import { type Duration, type Size, toBytes, toMs } from '../../kernel/units.ts'
import { type Source, withContent } from './content.ts'
import {
  type FileEntry,
  type FileInfo,
  type FileStore,
  type Range,
  type StoredFile,
  uploadsFolder,
} from './contract.ts'
import { checkedKey, checkedPrefix } from './keys.ts'
import { signedTicket, signedUrl, ticketInvalid, verifiedTicket } from './signed-url.ts'

/** Files of one module. Keys are paths such as `avatars/7.png`. A module does not see the files of others. */
export interface Files {
  /**
   * Stores the whole source or nothing, and replaces an existing file.
   * @example await files.put(`avatars/${id}.png`, request.body, { sizeMax: '1MiB', types: ['image/*'] })
   * @throws FILES_TOO_LARGE, FILES_TYPE, FILES_CHECKSUM, FILES_EXISTS, FILES_INCOMPLETE, FILES_ABORTED, FILES_DISK_FULL …
   */
  put(key: string, source: Source, options?: PutOptions): Promise<FileInfo>
  /** Returns a file whose body must be read to its end or destroyed. @throws FILES_NOT_FOUND, FILES_RANGE */
  get(key: string, range?: Range): Promise<StoredFile>
  /** Returns the facts of a file, or `undefined` if there is no such key. */
  stat(key: string): Promise<FileInfo | undefined>
  /** Deletes a file. A missing key is not an error. */
  delete(key: string): Promise<void>
  /** Returns a page of the files whose keys begin with `prefix`, ordered by the bytes of their keys. */
  list(prefix?: string, options?: ListOptions): Promise<FilePage>
  /** Returns a path of this app that anybody may use until it expires. For links outside of pages, put the app's address before it. */
  url(key: string, options: UrlOptions): string
  /**
   * Returns where a client may send large content straight to the store. The content becomes a file only when `accept` has checked it.
   * @example const { url, ticket } = files.upload(`films/${id}`, { size: 3_000_000_000, expires: '1h', types: ['video/*'] })
   */
  upload(key: string, options: UploadOptions): Upload
  /**
   * Reads what the client has sent, checks its size, type and digest, and stores it under the key of `upload`. Takes as long as reading and storing it.
   * @throws FILES_NOT_FOUND if nothing has arrived, or it was accepted already; FILES_URL_INVALID, FILES_INCOMPLETE, FILES_TYPE, FILES_CHECKSUM, FILES_EXISTS …
   */
  accept(ticket: string, options?: Pick<PutOptions, 'metadata' | 'signal'>): Promise<FileInfo>
}

export interface PutOptions {
  /** Maximum size. Default 100 MiB. */
  sizeMax?: Size
  /** Allowed content types, determined from the bytes: `['image/png', 'image/jpeg']`, `['image/*']`. Default: any. */
  types?: readonly string[]
  /** The expected digest in hexadecimal. */
  sha256?: string
  /** Whether an existing key is an error, `FILES_EXISTS`. */
  ifAbsent?: boolean
  /** Stored with the content. At most 1 KiB as JSON. */
  metadata?: Readonly<Record<string, string>>
  /** Ends the upload when it aborts. Default: the scope's signal, which aborts when the request ends. */
  signal?: AbortSignal
}

export interface ListOptions {
  /** The cursor of the previous page. */
  cursor?: string | undefined
  /** 1 to 1000, default 100. */
  limit?: number
}

export interface FilePage {
  readonly files: readonly FileEntry[]
  /** Cursor for the next page, if there is one. */
  readonly cursor?: string
}

/** `expires`: at most 7 days. A `PUT` has the defaults of `put`, and a `GET` with a `filename` is saved under that name. */
export type UrlOptions =
  | { expires: Duration; method?: 'GET'; filename?: string }
  | { expires: Duration; method: 'PUT'; sizeMax?: Size; types?: readonly string[] }

export interface UploadOptions extends Pick<PutOptions, 'types' | 'sha256' | 'ifAbsent'> {
  /** Exact size in bytes, which the client knows beforehand: `file.size`. A store takes nothing else. */
  size: number
  /** At most 24 hours. The ticket is valid for a day longer. */
  expires: Duration
}

export interface Upload {
  /** For one `PUT` of the bytes, which answers 2xx. With an S3 store it is the store's own; otherwise it is a path of this app. */
  readonly url: string
  /** The client sends it to a route that calls `accept`. */
  readonly ticket: string
}

export interface FilesRoot {
  forModule(module: string): Files
  /** Signs URLs. */
  readonly urlKeys: Keys
  readonly clock: Clock
}

const sizeMaxDefault = '100MiB'
const metadataBytesMax = 1024
const limitDefault = 100
const limitMax = 1000
const expiresMaxMs = toMs('7d')
const dayMs = toMs('1d')
/** For as long as any ticket is valid. */
const uploadKeptMs = 2 * dayMs + toMs('1h')

export function createFiles(store: FileStore, urlKeys: Keys, clock: Clock = systemClock): FilesRoot {
  let pruneAfter = 0

  /** Removes uploads that nobody has accepted; their names are in the order of time. At most once an hour in each process. */
  async function pruneUploads(): Promise<void> {
    if (clock.now() < pruneAfter) return
    pruneAfter = clock.now() + toMs('1h')
    const { files } = await store.list(uploadsFolder, undefined, limitMax)
    for (const { key, modifiedAt } of files) {
      if (modifiedAt.getTime() < clock.now() - uploadKeptMs) await store.delete(key)
    }
  }

  function forModule(module: string): Files {
    const space = `${module}/`
    const full = (key: string) => space + checkedKey(key)
    const own = <T extends FileEntry>(file: T): T => ({ ...file, key: file.key.slice(space.length) })

    return {
      async put(key, source, options = {}) {
        const rules = {
          sizeMaxBytes: toBytes(options.sizeMax ?? sizeMaxDefault),
          types: options.types,
          sha256: checkedDigest(options.sha256),
          metadata: checkedMetadata(options.metadata ?? {}),
          signal: options.signal ?? currentScope()?.signal,
        }
        const at = full(key)
        const ifAbsent = options.ifAbsent ?? false
        return own(await withContent(source, rules, (content) => store.put(at, content, ifAbsent)))
      },

      async get(key, range) {
        const found = await store.get(full(key), range)
        if (!found) throw new RungError('FILES_NOT_FOUND', `There is no file ${JSON.stringify(key)}.`)
        return own(found)
      },

      async stat(key) {
        const found = await store.stat(full(key))
        return found && own(found)
      },

      async delete(key) {
        await store.delete(full(key))
      },

      async list(prefix = '', { cursor, limit = limitDefault } = {}) {
        if (!Number.isInteger(limit) || limit < 1 || limit > limitMax) {
          throw wrongOption(`The limit of a list is ${limit}. Use a whole number from 1 to ${limitMax}.`)
        }
        const after = cursor === undefined ? undefined : full(cursor)
        const { files, more } = await store.list(space + checkedPrefix(prefix), after, limit)
        const page = files.map(own)
        return more && page.length > 0 ? { files: page, cursor: page.at(-1)!.key } : { files: page }
      },

      url(key, options) {
        const ms = toMs(options.expires)
        if (ms > expiresMaxMs) throw wrongOption('A signed URL can be valid for 7 days at most. Use a shorter time.')
        const expires = String(Math.ceil((clock.now() + ms) / 1000))
        if (options.method === 'PUT') {
          const sizeMax = String(toBytes(options.sizeMax ?? sizeMaxDefault))
          const types = options.types && { types: options.types.join(',') }
          return signedUrl({ key: full(key), method: 'PUT', expires, sizeMax, ...types }, urlKeys)
        }
        const filename = options.filename !== undefined && { filename: options.filename.toWellFormed() }
        return signedUrl({ key: full(key), method: 'GET', expires, ...filename }, urlKeys)
      },

      upload(key, { size, expires, types, sha256, ifAbsent = false }) {
        const ms = toMs(expires)
        if (ms > dayMs) throw wrongOption('An upload can be valid for 24 hours at most. Use a shorter time.')
        if (!Number.isSafeInteger(size) || size < 0)
          throw wrongOption(`The size of an upload is ${size}. Use its bytes.`)
        void pruneUploads().catch(ignore)
        const from = `${uploadsFolder}${clock.now().toString(36).padStart(10, '0')}-${secret(16)}`
        const url =
          store.uploadUrl?.(from, size, Math.ceil(ms / 1000)) ??
          signedUrl(
            { key: from, method: 'PUT', expires: String(Math.ceil((clock.now() + ms) / 1000)), sizeMax: String(size) },
            urlKeys,
          )
        const until = clock.now() + ms + dayMs
        const to = full(key)
        return {
          url,
          ticket: signedTicket({ from, to, size, until, types, sha256: checkedDigest(sha256), ifAbsent }, urlKeys),
        }
      },

      async accept(text, options = {}) {
        const { from, to, size, types, sha256, ifAbsent } = verifiedTicket(text, urlKeys, clock.now())
        if (!to.startsWith(space)) throw ticketInvalid()
        const sent = await store.get(from)
        if (!sent) {
          throw new RungError('FILES_NOT_FOUND', 'The upload has not arrived, or was accepted already. Send it first.')
        }
        try {
          if (sent.size !== size) {
            const message = `The upload has ${sent.size} bytes instead of ${size}. Send all of it.`
            throw new RungError('FILES_INCOMPLETE', message)
          }
          const rules = {
            sizeMaxBytes: size,
            types,
            sha256,
            metadata: checkedMetadata(options.metadata ?? {}),
            signal: options.signal ?? currentScope()?.signal,
          }
          // What is stored is what was read and checked here, even if the client sends something else meanwhile.
          const info = await withContent(sent.body, rules, (content) => store.put(to, content, ifAbsent))
          await store.delete(from).catch(ignore)
          return own(info)
        } finally {
          sent.body.destroy()
        }
      },
    }
  }
  return { forModule, urlKeys, clock }
}

function checkedDigest(sha256: string | undefined): string | undefined {
  if (sha256 === undefined || /^[0-9a-f]{64}$/i.test(sha256)) return sha256?.toLowerCase()
  throw wrongOption('The checksum is not a SHA-256. Write it as 64 hexadecimal digits.')
}

function checkedMetadata(metadata: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  if (Object.values(metadata).some((value) => typeof value !== 'string')) {
    throw wrongOption('A value in the metadata of a file is not a string. Use strings only.')
  }
  const bytes = Buffer.byteLength(JSON.stringify(metadata))
  if (bytes > metadataBytesMax) {
    throw wrongOption(`The metadata of a file has ${bytes} bytes, more than ${metadataBytesMax}. Store it in a table.`)
  }
  return { ...metadata }
}

function ignore(): void {}

function wrongOption(message: string): RungError {
  return new RungError('FILES_OPTION_INVALID', message)
}
