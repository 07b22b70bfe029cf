/** The part of the tar format (POSIX ustar) that Postgres writes: files, folders and links, names below 100 bytes. */
export interface TarEntry {
  name: string
  kind: 'file' | 'folder' | 'link'
  bytes: number
}

const blockBytes = 512

/**
 * Yields each entry, followed by the pieces of its content.
 * @throws when the bytes are not a tar archive, or end too early
 */
export async function* readTar(source: AsyncIterable<Buffer>): AsyncGenerator<TarEntry | Buffer> {
  let rest: Buffer = Buffer.alloc(0)
  let contentLeft = 0
  let paddingLeft = 0
  for await (const chunk of source) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    for (;;) {
      if (contentLeft > 0) {
        const piece = rest.subarray(0, contentLeft)
        if (piece.length === 0) break
        contentLeft -= piece.length
        rest = rest.subarray(piece.length)
        yield piece
      } else if (paddingLeft > 0) {
        const skipped = Math.min(paddingLeft, rest.length)
        if (skipped === 0) break
        paddingLeft -= skipped
        rest = rest.subarray(skipped)
      } else {
        if (rest.length < blockBytes) break
        const entry = readHeader(rest.subarray(0, blockBytes))
        rest = rest.subarray(blockBytes)
        if (!entry) continue // zeros at the end
        contentLeft = entry.bytes
        paddingLeft = (blockBytes - (entry.bytes % blockBytes)) % blockBytes
        yield entry
      }
    }
  }
  if (contentLeft > 0 || paddingLeft > 0 || rest.length > 0) throw new Error('the archive ends too early')
}

function readHeader(block: Buffer): TarEntry | undefined {
  if (block.every((byte) => byte === 0)) return undefined
  let sum = 0
  for (const [index, byte] of block.entries()) sum += index >= 148 && index < 156 ? 0x20 : byte
  if (sum !== Number.parseInt(text(block, 148, 8), 8)) throw new Error('a header of the archive is damaged')
  const type = String.fromCharCode(block[156]!)
  return {
    name: text(block, 0, 100),
    kind: type === '5' ? 'folder' : type === '2' ? 'link' : 'file',
    bytes: type === '0' || type === '\0' ? size(block) : 0,
  }
}

function text(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length)
  const end = field.indexOf(0)
  return field.toString('utf8', 0, end === -1 ? length : end).trim()
}

/** Octal; from 8 GiB on a binary number, marked by the first bit. */
function size(block: Buffer): number {
  return block[124]! & 0x80 ? Number(block.readBigUInt64BE(128)) : Number.parseInt(text(block, 124, 12), 8)
}
