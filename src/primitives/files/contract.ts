import type { Readable } from 'node:stream'
import { RungError } from '../../kernel/errors.ts'

/**
 * What the files primitive asks of an adapter: whole contents under keys. Limits, content types, digests, namespaces and signed URLs are
 * policy above it, in `files.ts`.
 *
 * What must hold on every adapter:
 * - `put` is all or nothing. If the content throws, the disk is full or the process dies, the key keeps its old content, and nothing
 *   remains that takes space after the next start. Once `put` has returned, a crash does not lose the file;
 * - content and facts change together: a reader sees those of a single `put`;
 * - memory is bounded: chunks are read as fast as they can be stored, and a chunk is not valid after the next one was read (an adapter
 *   that collects chunks, for a part of S3, copies them);
 * - the digest is known only after the last chunk. A store that needs it first (S3) uploads to another key and copies from there
 *   (`CopyObject`), or holds back what fits into one part;
 * - with `ifAbsent`, one of two writers gets `FILES_EXISTS` (S3: `If-None-Match: *`);
 * - keys are different if their bytes are, also where the file system ignores case;
 * - `list` is ordered by the bytes of the key's UTF-8, and finds every file that exists the whole time (S3: `ListObjectsV2`, `StartAfter`);
 * - a failure is a `RungError` with a `FILES_*` code and the driver's error as its cause: `FILES_DISK_FULL`, `FILES_UNAVAILABLE`.
 */
export interface FileStore {
  put(key: string, content: Content, ifAbsent: boolean): Promise<FileInfo>
  /** Returns `undefined` if there is no such key. The body must be read to its end or destroyed. */
  get(key: string, range?: Range): Promise<StoredFile | undefined>
  stat(key: string): Promise<FileInfo | undefined>
  /** A missing key is not an error. */
  delete(key: string): Promise<void>
  /** Returns files whose keys begin with `prefix` and come after `after`, at most `limit` of them. */
  list(prefix: string, after: string | undefined, limit: number): Promise<{ files: FileEntry[]; more: boolean }>
  /**
   * For a store that clients can reach: returns a URL to which anybody may `PUT` exactly `size` bytes within `expiresS` seconds. Only for keys
   * in `uploadsFolder`, whose content nobody has checked: its facts lack the digest.
   */
  uploadUrl?(key: string, size: number, expiresS: number): string
}

/** Contents that clients uploaded, before they are checked. No module has this name. */
export const uploadsFolder = '.uploads/'

/**
 * Returns the bytes of a file that a range means.
 * @throws FILES_RANGE if it begins behind the end
 */
export function resolveRange(range: Range | undefined, size: number): { start: number; end: number } {
  if (!range) return { start: 0, end: size - 1 }
  const start = range.start < 0 ? Math.max(0, size + range.start) : range.start
  const end = Math.min(range.end ?? size - 1, size - 1)
  if (!Number.isInteger(start) || !Number.isInteger(end) || start > end) {
    throw new RungError('FILES_RANGE', `The file has ${size} bytes, and the range is outside of them.`, {
      facts: { size },
    })
  }
  return { start, end }
}

/** Can be iterated once. If it throws, nothing may be stored. */
export interface Content extends AsyncIterable<Uint8Array> {
  readonly contentType: string
  /** At most 1 KiB as JSON; S3 allows 2 KB of headers. */
  readonly metadata: Readonly<Record<string, string>>
  /** Returns the digest in hexadecimal, once the last chunk was read. */
  sha256(): string
}

/** Byte positions, both included, as in HTTP and `fs.createReadStream`. A negative start counts from the end. */
export interface Range {
  start: number
  end?: number
}

export interface FileEntry {
  readonly key: string
  /** Bytes. */
  readonly size: number
  /** Exact to the second at least. */
  readonly modifiedAt: Date
}

export interface FileInfo extends FileEntry {
  /** Determined from the first bytes, whatever a client claims. */
  readonly contentType: string
  readonly sha256: string
  readonly metadata: Readonly<Record<string, string>>
}

export interface StoredFile extends FileInfo {
  readonly body: Readable
  /** The bytes in the body. For an empty file, `end` is -1. */
  readonly range: { readonly start: number; readonly end: number }
}
