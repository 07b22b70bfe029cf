import { RungError } from '../../kernel/errors.ts'
import type { Range } from './contract.ts'

/**
 * What of `size` bytes is meant.
 * @throws FILES_RANGE when it begins behind the end
 */
export function resolveRange(range: Range | undefined, size: number): { start: number; end: number } {
  if (!range) return { start: 0, end: size - 1 }
  const start = range.start < 0 ? Math.max(0, size + range.start) : range.start
  const end = Math.min(range.end ?? size - 1, size - 1)
  if (!Number.isInteger(start) || !Number.isInteger(end) || start > end) {
    throw new RungError('FILES_RANGE', `The file has ${size} bytes; the range lies outside.`, { facts: { size } })
  }
  return { start, end }
}

/** RFC 9110, 14.1.2. One range of bytes; any other header is as good as none, as the RFC allows. */
export function parseRange(header: string | undefined): Range | undefined {
  const match = /^bytes=(?:(\d{1,15})-(\d{0,15})|-(\d{1,15}))$/.exec(header ?? '')
  if (!match) return undefined
  const [, first, last, suffix] = match
  if (suffix !== undefined)
    return Number(suffix) === 0 ? { start: Number.MAX_SAFE_INTEGER } : { start: -Number(suffix) }
  if (last === '') return { start: Number(first) }
  return Number(last) < Number(first) ? undefined : { start: Number(first), end: Number(last) }
}
