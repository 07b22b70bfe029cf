/**
 * A position says how far a session has seen: for each database, a place in its write-ahead log. Positions only grow;
 * the larger of two covers both.
 *
 * A log sequence number is kept as a bigint of bytes (Postgres prints it as `HIGH/LOW`, both hexadecimal).
 */
export type Lsn = bigint
export type Position = ReadonlyMap<string, Lsn>

export const nowhere: Position = new Map()

/** Reads Postgres' `16/B374D848`; anything else is `undefined`, never a guess. */
export function parseLsn(text: string): Lsn | undefined {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text)
  if (!match) return undefined
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)
}

export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`
}

/** `position`, moved forward to `lsn` on `database`; the same object when it already covers it. */
export function advance(position: Position, database: string, lsn: Lsn): Position {
  const known = position.get(database)
  if (known !== undefined && known >= lsn) return position
  return new Map(position).set(database, lsn)
}

/** True when whoever has seen `position` misses nothing that `needed` has seen. */
export function covers(position: Position, needed: Position): boolean {
  for (const [database, lsn] of needed) {
    const known = position.get(database)
    if (known === undefined || known < lsn) return false
  }
  return true
}

/** The least position that covers both. */
export function furthest(a: Position, b: Position): Position {
  if (a === b || b.size === 0) return a
  if (a.size === 0) return b
  const result = new Map(a)
  for (const [database, lsn] of b) if (lsn > (result.get(database) ?? -1n)) result.set(database, lsn)
  return result
}
