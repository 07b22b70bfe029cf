import { crc32 } from 'node:zlib'

/** Spreads keys evenly over so many places. Returns the number of a key's place, which is the same in all processes. */
export function placeOf(key: string, places: number): number {
  return places === 1 ? 0 : crc32(key) % places
}
