import type { Segment } from './catalogue.ts'
import { type SegmentManifest, segmentIndex, timelineName } from './layout.ts'

/**
 * The log in a bucket. An object holds the bytes `from` to `to` of a segment, and its name says all that a manifest on disk says, so that a listing
 * is a catalogue. Objects are never changed: a segment grows by pieces, the last of which is replaced by a longer one until it is long enough.
 * When the segment is complete, one object replaces all of them.
 *
 *   wal/00000001/000000010000000000000004/<token>-0-16777216-<openedAt>-<at>-c-<before>-<sha256>
 *   wal/00000001/000000010000000000000005/<token>-0-262800-…
 *   wal/00000001/000000010000000000000005/<token>-262800-280112-…
 *
 * - `token` is that of the writer's claim (`000003-k3v9`): of two writers, the later one counts. A writer begins each segment at 0, so that pieces
 *   of two writers never mix.
 * - `before` are the first digits of the previous segment's SHA-256: what another writer made of another log does not follow. `0` is unknown, and
 *   follows only what is not there.
 * - `sha256` is that of the segment's bytes 0 to `to`.
 */
export interface Piece extends SegmentManifest {
  timeline: number
  token: string
  from: number
  before: string
}

export const beforeDigits = 16
export const unknownBefore = '0'

/** @returns its name in the folder of its database */
export function pieceName(piece: Piece): string {
  const { token, from, bytes, openedAt, at, continues, before, sha256 } = piece
  const facts = [token, from, bytes, openedAt, at, continues ? 'c' : 'b', before, sha256]
  return `${segmentFolder(piece)}${facts.join('-')}`
}

/** The prefix of all pieces of a segment. */
export function segmentFolder({ timeline, name }: { timeline: number; name: string }): string {
  return `wal/${timelineName(timeline)}/${name}/`
}

const form =
  /^wal\/([0-9A-F]{8})\/([0-9A-F]{24})\/(\d{6,12}-[0-9a-z]+)-(\d+)-(\d+)-(\d+)-(\d+)-([cb])-([0-9a-f]+)-([0-9a-f]{64})$/

export const isToken = (text: string) => /^\d{6,12}-[0-9a-z]+$/.test(text)

/** By the number of the claim: a seventh digit is no reason to be earlier. */
export function byClaim(a: string, b: string): number {
  return Number.parseInt(a, 10) - Number.parseInt(b, 10) || (a < b ? -1 : 1)
}

export function parsePiece(text: string): Piece | undefined {
  const match = form.exec(text)
  if (!match) return undefined
  const [timeline, name, token, from, bytes, openedAt, at, continues, before, sha256] = match.slice(1) as string[]
  return {
    timeline: Number.parseInt(timeline!, 16),
    name: name!,
    token: token!,
    from: Number(from),
    bytes: Number(bytes),
    openedAt: Number(openedAt),
    at: Number(at),
    continues: continues === 'c',
    before: before!,
    sha256: sha256!,
  }
}

/** Puts the segments of one timeline together, in order. A segment whose bytes are not all there ends early, or is missing. */
export function segmentsOf(system: string, pieces: readonly Piece[], segmentBytes: number): Segment[] {
  const segments: Segment[] = []
  const byName = Map.groupBy(pieces, ({ name }) => name)
  for (const name of [...byName.keys()].sort()) {
    const index = segmentIndex(name, segmentBytes)
    const last = segments.at(-1)
    const previous = last?.index === index - 1 && last.bytes === segmentBytes ? last.sha256 : undefined
    const chain = chainOf(byName.get(name)!, previous)
    const end = chain.at(-1)
    if (!end) continue
    const { timeline, bytes, sha256, openedAt, at, continues } = end
    segments.push({
      ...{ system, timeline, index, name, bytes, sha256, openedAt, at, continues },
      growing: bytes < segmentBytes,
      pieces: chain.map(pieceName),
    })
  }
  // One that is followed by others does not grow any more: the log in between was lost.
  return segments.map((one, n) => (n < segments.length - 1 ? { ...one, growing: false } : one))
}

/**
 * Returns the pieces of the latest writer that make up one segment, one after the other.
 * @param previous the SHA-256 of the segment before it, if that is complete
 */
export function chainOf(pieces: readonly Piece[], previous?: string): Piece[] {
  const follows = ({ before }: Piece) =>
    previous === undefined || (before !== unknownBefore && previous.startsWith(before))
  const byWriter = Map.groupBy(pieces.filter(follows), ({ token }) => token)
  for (const token of [...byWriter.keys()].sort(byClaim).reverse()) {
    const chain: Piece[] = []
    for (let end = 0; ; ) {
      const next = byWriter
        .get(token)!
        .filter(({ from }) => from === end)
        .reduce<Piece | undefined>((best, one) => (best && isLonger(best, one) ? best : one), undefined)
      if (next) chain.push(next)
      if (!next || next.bytes <= end) break
      end = next.bytes
    }
    if (chain.length > 0) return chain
  }
  return []
}

const isLonger = (a: Piece, b: Piece) => a.bytes > b.bytes || (a.bytes === b.bytes && a.at >= b.at)

/** Returns the pieces that a reader does not need any more, because others contain them. */
export function replaced(system: string, pieces: readonly Piece[], segmentBytes: number): Piece[] {
  const segments = new Map(segmentsOf(system, pieces, segmentBytes).map((segment) => [segment.name, segment]))
  return pieces.filter((piece) => {
    const segment = segments.get(piece.name)
    return segment !== undefined && !segment.pieces!.includes(pieceName(piece))
  })
}
