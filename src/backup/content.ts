import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createZstdDecompress } from 'node:zlib'
import { RungError } from '../kernel/errors.ts'
import type { StoredFile } from './layout.ts'

export async function* decompressed(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const plain = createZstdDecompress()
  const fed = pipeline(Readable.from(source), plain)
  fed.catch(() => {}) // the reader of `plain` gets the error
  yield* plain as AsyncIterable<Buffer>
  await fed
}

/** Yields the content of a stored file. @throws DamagedFile at the latest after its end, if it is not what was stored */
export async function* checked(
  content: AsyncIterable<Buffer>,
  { name, bytes, sha256 }: StoredFile,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256')
  let seen = 0
  try {
    for await (const chunk of content) {
      hash.update(chunk)
      seen += chunk.length
      yield chunk
    }
  } catch (error) {
    if (error instanceof DamagedFile || error instanceof RungError) throw error
    throw new DamagedFile(name, wordsFor(error as NodeJS.ErrnoException))
  }
  if (seen < bytes) throw new DamagedFile(name, `is truncated: ${seen} of ${bytes} bytes`)
  if (hash.digest('hex') !== sha256) throw new DamagedFile(name, 'was changed: its SHA-256 differs')
}

/** A damaged file of a backup; `what` completes the sentence that begins with its name. */
export class DamagedFile extends Error {
  readonly what: string
  constructor(name: string, what: string) {
    super(`${name} ${what}`)
    this.what = what
  }
}

function wordsFor({ code, message }: NodeJS.ErrnoException): string {
  if (code === 'ENOENT') return 'is missing'
  if (code === 'Z_BUF_ERROR') return 'is truncated'
  if (code?.startsWith('ZSTD_') || code?.startsWith('Z_')) return 'was changed: it cannot be decompressed'
  return `cannot be read (${message})`
}
