import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { type Lsn, nowhere, type Position } from '../../kernel/position.ts'
import { frozen, type SharedEntry } from './entry.ts'

/**
 * An entry as bytes, little-endian:
 *
 *     0  u8   form (2)
 *     1  u8   1 where the text is compressed
 *     2  f64  number of the last invalidation when its load began
 *     10 f64  refreshAt, 18 freshUntil, 26 staleUntil: ms since the epoch
 *     34 …    JSON: [tags, [database, place as hexadecimal text, …], value], the value left out where there is none. Behind an empty
 *             text the places continue with what was seen.
 *
 * All text is one document: each hit reads it, and taking lines apart first would cost more.
 */
const form = 2
const headBytes = 34
const compressed = 1
/** Below, compressing costs more than it saves. */
const compressFrom = 2_048

export function encode(entry: SharedEntry, number: number): Buffer {
  const { names, position, seen, value, json = JSON.stringify(value), refreshAt, freshUntil, staleUntil } = entry
  const places = seen === undefined ? placesOf(position) : [...placesOf(position), '', ...placesOf(seen)]
  const about = `${JSON.stringify(names)},${JSON.stringify(places)}`
  const plain = Buffer.from(json === undefined ? `[${about}]` : `[${about},${json}]`)
  const packed = plain.length >= compressFrom ? zstdCompressSync(plain) : plain
  const smaller = packed.length < plain.length
  const head = Buffer.allocUnsafe(headBytes)
  head.writeUInt8(form, 0)
  head.writeUInt8(smaller ? compressed : 0, 1)
  for (const [index, time] of [number, refreshAt, freshUntil, staleUntil].entries())
    head.writeDoubleLE(time, 2 + 8 * index)
  return Buffer.concat([head, smaller ? packed : plain])
}

/** `undefined` for bytes that are no entry: of another version, or damaged. */
export function decode(bytes: Buffer): { number: number; entry: SharedEntry } | undefined {
  try {
    if (bytes.length < headBytes || bytes[0] !== form) return undefined
    const text =
      bytes[1] === compressed
        ? zstdDecompressSync(bytes.subarray(headBytes)).toString()
        : bytes.toString('utf8', headBytes)
    const [names, places, value] = JSON.parse(text) as [string[], string[], unknown]
    const end = places.indexOf('')
    const entry: SharedEntry = {
      value: frozen(value),
      bytes: 2 * text.length,
      names,
      position: positionIn(end === -1 ? places : places.slice(0, end)),
      seen: end === -1 ? undefined : positionIn(places.slice(end + 1)),
      refreshAt: bytes.readDoubleLE(10),
      freshUntil: bytes.readDoubleLE(18),
      staleUntil: bytes.readDoubleLE(26),
    }
    return { number: bytes.readDoubleLE(2), entry }
  } catch {
    return undefined
  }
}

function placesOf(position: Position): string[] {
  return Array.from(position, ([name, place]) => [name, place.toString(16)]).flat()
}

function positionIn(places: readonly string[]): Position {
  if (places.length === 0) return nowhere
  const position = new Map<string, Lsn>()
  for (let at = 0; at < places.length; at += 2) position.set(places[at]!, BigInt(`0x${places[at + 1]}`))
  return position
}
