/**
 * How much of the databases a session has seen: for each database, a place in its write-ahead log. It only moves forward.
 */
export type Position = ReadonlyMap<string, Place>

/** A log sequence number in bytes, as Postgres prints it in the form `HIGH/LOW`, both hexadecimal. */
export type Lsn = bigint

/**
 * A place in the log of one database: `timeline * 2^64 + lsn`. A promoted or restored server begins a new timeline. The later of two places
 * is the larger one: what an earlier timeline had beyond the beginning of the next one is lost, and nobody may wait for it. Whether a place
 * covers another one is another question: see `reaches`.
 */
export type Place = bigint

/** Before all places. */
export const startOfLog: Place = 0n

const lsnMask = 0xffff_ffff_ffff_ffffn

export const nowhere: Position = new Map()

/** Parses Postgres' `16/B374D848`; returns `undefined` for anything else. */
export function parseLsn(text: string): Lsn | undefined {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text)
  if (!match) return undefined
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)
}

export function formatLsn(lsn: Lsn): string {
  return `${hex(lsn >> 32n)}/${hex(lsn & 0xffffffffn)}`
}

/**
 * Returns an SQL expression for the place of an LSN such as `pg_current_wal_lsn()`, as text: `00000001/16/B374D848`. A segment's name
 * begins with the timeline, and is right from a promotion on. Only a primary knows it.
 */
export function placeSql(lsn: string): string {
  return `left(pg_walfile_name(${lsn}), 8) || '/' || ${lsn}`
}

/** Parses `TIMELINE/HIGH/LOW`, all hexadecimal; returns `undefined` for anything else. */
export function parsePlace(text: string): Place | undefined {
  const match = /^([0-9A-Fa-f]{1,8})\/(.*)$/.exec(text)
  const lsn = match && parseLsn(match[2]!)
  return lsn == null ? undefined : placeAt(Number.parseInt(match![1]!, 16), lsn)
}

export function placeAt(timeline: number, lsn: Lsn): Place {
  return (BigInt(timeline) << 64n) | lsn
}

export function timelineOf(place: Place): number {
  return Number(place >> 64n)
}

export function formatPlace(place: Place): string {
  return `${hex(place >> 64n)}/${formatLsn(place & lsnMask)}`
}

/**
 * Returns whether a reader at `place` has seen everything that a reader at `needed` has seen.
 *
 * Neither the timeline nor the LSN may be lower. A replica does not report the timeline it has replayed, so just after a failover a place may name
 * an earlier timeline than its LSN belongs to; the LSN grows across timelines.
 */
export function reaches(place: Place, needed: Place): boolean {
  return place >= needed && (place & lsnMask) >= (needed & lsnMask)
}

/** A position as plain JSON: places by database, in the form of `formatPlace`. */
export type PositionJson = Readonly<Record<string, string>>

export function positionToJson(position: Position): PositionJson {
  return Object.fromEntries(Array.from(position, ([database, place]) => [database, formatPlace(place)]))
}

/** Returns the position, without values that are not places. */
export function positionFromJson(json: PositionJson): Position {
  const places = Object.entries(json).flatMap(([database, text]): [string, Place][] => {
    const place = parsePlace(text)
    return place === undefined ? [] : [[database, place]]
  })
  return new Map(places)
}

/** Returns `position` moved forward to `place` on `database`, or the same object if it is at a later one. */
export function advance(position: Position, database: string, place: Place): Position {
  const known = position.get(database)
  if (known !== undefined && known >= place) return position
  return new Map(position).set(database, place)
}

/** Returns whether a session at `position` misses nothing of what a session at `needed` has seen. */
export function covers(position: Position, needed: Position): boolean {
  for (const [database, place] of needed) {
    if (!reaches(position.get(database) ?? startOfLog, place)) return false
  }
  return true
}

/** Returns the later of both, for each database. */
export function furthest(a: Position, b: Position): Position {
  if (a === b || covers(a, b)) return a
  if (a.size === 0) return b
  const result = new Map(a)
  for (const [database, place] of b) if (place > (result.get(database) ?? startOfLog)) result.set(database, place)
  return result
}

function hex(value: bigint): string {
  return value.toString(16).toUpperCase()
}
