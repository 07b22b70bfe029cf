import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { formatLsn, type Lsn, nowhere, type Position, parseLsn } from '../../kernel/position.ts'
import { frozen, type SharedEntry } from './entry.ts'

/**
 * An entry as bytes, little-endian:
 *
 *     0  u8   form (1)
 *     1  u8   flags: 1 the value is compressed, 2 there is no value
 *     2  f64  number of the last invalidation when its load began
 *     10 f64  refreshAt, 18 freshUntil, 26 staleUntil: ms since the epoch
 *     34 u16  bytes of what follows as text: the tags, then `database=lsn` …, each ended by \n, with an empty line between
 *     36 …    that text, then the value's JSON
 */
const form = 1
const headBytes = 36
const compressed = 1
const absent = 2
/** Below, compressing costs more than it saves. */
const compressFrom = 2_048

export function encode(entry: SharedEntry, number: number): Buffer {
  const { names, position, json, refreshAt, freshUntil, staleUntil } = entry
  const about = Buffer.from(
    [...names, '', ...Array.from(position, ([name, lsn]) => `${name}=${formatLsn(lsn)}`)].join('\n'),
  )
  const plain = Buffer.from(json ?? '')
  const packed = plain.length >= compressFrom ? zstdCompressSync(plain) : plain
  const smaller = packed.length < plain.length
  const head = Buffer.allocUnsafe(headBytes)
  head.writeUInt8(form, 0)
  head.writeUInt8((smaller ? compressed : 0) | (json === undefined ? absent : 0), 1)
  for (const [index, value] of [number, refreshAt, freshUntil, staleUntil].entries())
    head.writeDoubleLE(value, 2 + 8 * index)
  head.writeUInt16LE(about.length, 34)
  return Buffer.concat([head, about, smaller ? packed : plain])
}

/** `undefined` for bytes that are no entry: of another version, or damaged. */
export function decode(bytes: Buffer): { number: number; entry: SharedEntry } | undefined {
  try {
    if (bytes.length < headBytes || bytes.readUInt8(0) !== form) return undefined
    const flags = bytes.readUInt8(1)
    const end = headBytes + bytes.readUInt16LE(34)
    const lines = bytes.toString('utf8', headBytes, end).split('\n')
    const gap = lines.indexOf('')
    const body = bytes.subarray(end)
    const json = flags & absent ? undefined : (flags & compressed ? zstdDecompressSync(body) : body).toString('utf8')
    const entry: SharedEntry = {
      value: json === undefined ? undefined : frozen(JSON.parse(json)),
      json,
      bytes: 2 * (json?.length ?? 0),
      names: lines.slice(0, gap),
      position: positionIn(lines.slice(gap + 1)),
      refreshAt: bytes.readDoubleLE(10),
      freshUntil: bytes.readDoubleLE(18),
      staleUntil: bytes.readDoubleLE(26),
    }
    return { number: bytes.readDoubleLE(2), entry }
  } catch {
    return undefined
  }
}

function positionIn(lines: readonly string[]): Position {
  if (lines.length === 0) return nowhere
  const position = new Map<string, Lsn>()
  for (const line of lines) {
    const at = line.lastIndexOf('=')
    position.set(line.slice(0, at), parseLsn(line.slice(at + 1))!)
  }
  return position
}
