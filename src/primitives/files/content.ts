import { createHash } from 'node:crypto'
import { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { isRungError, RungError } from '../../kernel/errors.ts'
import { formatBytes } from '../../kernel/units.ts'
import { contentTypeOf, isAllowed, sampleBytes } from './content-type.ts'
import type { Content } from './contract.ts'

/** A Node stream, a web stream, anything that yields bytes or text, or the bytes themselves. */
export type Source = AsyncIterable<Uint8Array | string> | Uint8Array | string

export interface ContentRules {
  sizeMaxBytes: number
  types: readonly string[] | undefined
  /** What the digest must be, hexadecimal. */
  sha256: string | undefined
  metadata: Readonly<Record<string, string>>
  signal: AbortSignal | undefined
}

/**
 * Takes the first bytes of a source to see what it is; the result yields them and the rest, measured and hashed on the
 * way, and throws as soon as a rule is broken. It holds one chunk at a time.
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
      throw new RungError(
        'FILES_TYPE',
        `The content is ${contentType}; allowed are ${rules.types.join(', ')}. Send one of these.`,
        { facts: { contentType } },
      )
    }
    const hash = createHash('sha256')
    let digest: string | undefined
    async function* chunks() {
      for (;;) {
        const chunk = first.shift() ?? (await reader.next()).value
        if (!chunk) break
        hash.update(chunk)
        yield chunk
        if (source instanceof IncomingMessage) giveBack(chunk)
      }
      digest = hash.digest('hex')
      if (rules.sha256 !== undefined && rules.sha256 !== digest) {
        throw new RungError('FILES_CHECKSUM', 'The content is not what its checksum says. Send it again.', {
          facts: { sha256: digest },
        })
      }
    }
    return await store({
      contentType,
      metadata: rules.metadata,
      sha256() {
        if (digest === undefined) throw new Error('the digest is known after the last chunk')
        return digest
      },
      [Symbol.asyncIterator]: chunks,
    })
  } catch (error) {
    if (source instanceof Readable && !(source instanceof IncomingMessage)) source.destroy()
    throw error
  } finally {
    // Not awaited: a generator that hangs would never return.
    void reader.return().then(() => {
      // The rest of a request is thrown away, so that its client gets the answer, and the next one its turn.
      if (source instanceof IncomingMessage) source.resume()
    }, ignore)
  }
}

function ignore(): void {}

/**
 * Frees the memory of a chunk that is stored. V8 would let 64 MiB of them lie before it collects, in each process that takes an
 * upload. The body of a request is nobody's but ours; a chunk that is the whole of its buffer shares it with no other.
 */
function giveBack(chunk: Uint8Array): void {
  const { buffer, byteLength } = chunk
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}

interface Reader {
  next(): Promise<IteratorResult<Uint8Array, undefined>>
  return(): Promise<unknown>
}

function read(source: Source, { sizeMaxBytes, signal }: ContentRules): Reader {
  const iterator = iterate(source)
  let giveUp = ignore
  const onAbort = () => giveUp()
  signal?.addEventListener('abort', onAbort, { once: true })
  let bytes = 0

  /** The next chunk or the abort. Racing with one promise for all of them would keep every chunk in memory. */
  function step(): Promise<IteratorResult<Uint8Array | string, unknown>> {
    return new Promise((resolve, reject) => {
      giveUp = () =>
        reject(new RungError('FILES_ABORTED', 'The file was given up before its end.', { cause: signal?.reason }))
      if (signal?.aborted) return giveUp()
      iterator.next().then(resolve, reject)
    })
  }
  return {
    async next() {
      const { done, value } = await step().catch((error) => {
        if (isRungError(error)) throw error
        throw new RungError('FILES_INCOMPLETE', 'The source of the file failed before its end. Send it again.', {
          cause: error,
        })
      })
      if (done) return { done: true, value: undefined }
      const chunk = typeof value === 'string' ? Buffer.from(value) : value
      bytes += chunk.length
      if (bytes > sizeMaxBytes) {
        throw new RungError('FILES_TOO_LARGE', `The file has more than the ${formatBytes(sizeMaxBytes)} allowed.`, {
          facts: { sizeMaxBytes },
        })
      }
      return { done: false, value: chunk }
    },
    async return() {
      signal?.removeEventListener('abort', onAbort)
      await iterator.return?.()
    },
  }
}

function iterate(source: Source): AsyncIterator<Uint8Array | string, unknown> {
  if (typeof source === 'string' || source instanceof Uint8Array) return one(source)
  if (source instanceof Readable) {
    // It would yield nothing, and an empty file would be stored.
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
