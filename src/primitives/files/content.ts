import { createHash } from 'node:crypto'
import { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { isRungError, RungError } from '../../kernel/errors.ts'
import { formatBytes } from '../../kernel/units.ts'
import { contentTypeOf, isAllowed, sampleBytes } from './content-type.ts'
import type { Content } from './contract.ts'

/** A Node stream, a web stream, any async iterable of bytes or text, or the bytes themselves. */
export type Source = AsyncIterable<Uint8Array | string> | Uint8Array | string

export interface ContentRules {
  sizeMaxBytes: number
  types: readonly string[] | undefined
  /** The expected digest in hexadecimal. */
  sha256: string | undefined
  metadata: Readonly<Record<string, string>>
  signal: AbortSignal | undefined
}

/**
 * Calls `store` with the content of a source. Its type is determined from the first bytes; the content is measured and hashed while it
 * is read, and throws as soon as it breaks a rule. It holds one chunk at a time.
 * @throws FILES_TYPE, FILES_TOO_LARGE, FILES_CHECKSUM, FILES_INCOMPLETE, FILES_ABORTED
 */
export async function withContent<T>(
  source: Source,
  rules: ContentRules,
  store: (content: Content) => Promise<T>,
): Promise<T> {
  const reader = read(source, rules)
  try {
    const first: Uint8Array[] = []
    for (let bytes = 0; bytes < sampleBytes; ) {
      const { done, value } = await reader.next()
      if (done) break
      first.push(value)
      bytes += value.length
    }
    const contentType = await contentTypeOf(Buffer.concat(first).subarray(0, sampleBytes))
    if (rules.types && !isAllowed(contentType, rules.types)) {
      throw new RungError('FILES_TYPE', `The content is ${contentType}. Send one of: ${rules.types.join(', ')}.`, {
        facts: { contentType },
      })
    }
    const hash = createHash('sha256')
    let digest: string | undefined
    async function* chunks() {
      for (;;) {
        const chunk = first.shift() ?? (await reader.next()).value
        if (!chunk) break
        hash.update(chunk)
        yield chunk
        if (source instanceof IncomingMessage) free(chunk)
      }
      digest = hash.digest('hex')
      if (rules.sha256 !== undefined && rules.sha256 !== digest) {
        throw new RungError('FILES_CHECKSUM', 'The content does not match its checksum. Send it again.', {
          facts: { sha256: digest },
        })
      }
    }
    return await store({
      contentType,
      metadata: rules.metadata,
      sha256: () => digest!,
      [Symbol.asyncIterator]: chunks,
    })
  } catch (error) {
    if (source instanceof Readable && !(source instanceof IncomingMessage)) source.destroy()
    throw error
  } finally {
    void reader.return(undefined).catch(ignore)
  }
}

function ignore(): void {}

/**
 * Frees the memory of a stored chunk. V8 would keep 64 MiB of them before it collects, in each process with uploads. Nobody else uses the
 * body of a request, and a chunk that fills its buffer does not share it.
 */
function free(chunk: Uint8Array): void {
  const { buffer, byteLength } = chunk
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}

/** Yields the chunks of a source, up to its size limit, until the signal aborts. */
async function* read(source: Source, { sizeMaxBytes, signal }: ContentRules): AsyncGenerator<Uint8Array, undefined> {
  const iterator = iterate(source)
  let abort = ignore
  const onAbort = () => abort()
  signal?.addEventListener('abort', onAbort, { once: true })

  /** Returns the next chunk, or rejects on abort. `Promise.race` with one promise for the abort would keep every chunk in memory. */
  function step(): Promise<IteratorResult<Uint8Array | string, unknown>> {
    return new Promise((resolve, reject) => {
      abort = () =>
        reject(new RungError('FILES_ABORTED', 'The upload was aborted before its end.', { cause: signal?.reason }))
      if (signal?.aborted) return abort()
      iterator.next().then(resolve, reject)
    })
  }

  try {
    for (let bytes = 0; ; ) {
      const { done, value } = await step().catch((error) => {
        if (isRungError(error)) throw error
        throw new RungError('FILES_INCOMPLETE', 'The source of the file failed before its end. Send it again.', {
          cause: error,
        })
      })
      if (done) return undefined
      const chunk = typeof value === 'string' ? Buffer.from(value) : value
      bytes += chunk.length
      if (bytes > sizeMaxBytes) {
        throw new RungError('FILES_TOO_LARGE', `The file is larger than ${formatBytes(sizeMaxBytes)}.`, {
          facts: { sizeMaxBytes },
        })
      }
      yield chunk
    }
  } finally {
    signal?.removeEventListener('abort', onAbort)
    // Not awaited, because a source that hangs never returns.
    void (async () => iterator.return?.())().then(() => {
      // Discards the rest of a request, so that its client reads the answer and the connection can be used again.
      if (source instanceof IncomingMessage) source.resume()
    }, ignore)
  }
}

function iterate(source: Source): AsyncIterator<Uint8Array | string, unknown> {
  if (typeof source === 'string' || source instanceof Uint8Array) return one(source)
  if (source instanceof Readable) {
    // It would yield nothing, so an empty file would be stored.
    if (source.readableEnded || source.destroyed) return failing('the stream has ended already')
    return source.iterator({ destroyOnReturn: false }) as AsyncIterator<Uint8Array | string, unknown>
  }
  return source[Symbol.asyncIterator]()
}

async function* one<T>(value: T) {
  yield value
}

// biome-ignore lint/correctness/useYield: an iterator that fails at its first step
async function* failing(message: string): AsyncGenerator<never> {
  throw new Error(message)
}
