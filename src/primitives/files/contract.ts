import type { Readable } from 'node:stream'

/**
 * What the files primitive asks of an adapter: whole contents under keys. Limits, content types, digests, namespaces and
 * signed URLs are policy above it, in `files.ts`.
 *
 * What must hold on every adapter:
 * - `put` is all or nothing. When the content throws, the disk is full or the process dies, the key is what it was before,
 *   and nothing is left that costs space after the next start. Once `put` has returned, a crash does not lose it;
 * - content and its facts change together: whoever reads sees those of one and the same `put`;
 * - memory is bounded: chunks are taken as fast as they can be stored, and none is kept beyond the next (who collects them,
 *   for a part of S3, copies them);
 * - the digest is known after the last chunk only. A store that wants its facts first (S3) uploads the parts under a key of
 *   its own and copies them to the final one with their facts (`CopyObject`), or holds back what fits one part;
 * - with `ifAbsent`, of two writers one gets `FILES_EXISTS` (S3: `If-None-Match: *`);
 * - keys differ when their bytes differ, also where the file system ignores case;
 * - `list` is ordered by the bytes of the key's UTF-8 and finds what was there all the time (S3: `ListObjectsV2`, `StartAfter`);
 * - a failure is a `RungError` with a `FILES_*` code and the driver's error as its cause: `FILES_DISK_FULL`, `FILES_UNAVAILABLE`.
 */
export interface FileStore {
  put(key: string, content: Content, ifAbsent: boolean): Promise<FileInfo>
  /** The body must be read to its end or destroyed. `undefined` when there is no such key. */
  get(key: string, range?: Range): Promise<StoredFile | undefined>
  stat(key: string): Promise<FileInfo | undefined>
  /** No error when there is no such key. */
  delete(key: string): Promise<void>
  /** Keys that begin with `prefix` and come after `after`, at most `limit` of them. */
  list(prefix: string, after: string | undefined, limit: number): Promise<{ files: FileEntry[]; more: boolean }>
}

/** May be iterated once. When it throws, nothing is to be stored. */
export interface Content extends AsyncIterable<Uint8Array> {
  readonly contentType: string
  /** Together at most 1 KiB as JSON: S3 keeps 2 KB of headers. */
  readonly metadata: Readonly<Record<string, string>>
  /** Hexadecimal; after the last chunk. */
  sha256(): string
}

/** Both ends included, as in HTTP and `fs.createReadStream`; a negative start counts from the end. */
export interface Range {
  start: number
  end?: number
}

export interface FileEntry {
  readonly key: string
  /** Bytes. */
  readonly size: number
  /** To the second at least. */
  readonly modifiedAt: Date
}

export interface FileInfo extends FileEntry {
  /** Found in the first bytes; what a client claims does not count. */
  readonly contentType: string
  readonly sha256: string
  readonly metadata: Readonly<Record<string, string>>
}

export interface StoredFile extends FileInfo {
  readonly body: Readable
  /** Which bytes the body has; an empty one of the whole has `end` -1. */
  readonly range: { readonly start: number; readonly end: number }
}
