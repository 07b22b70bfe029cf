import { advance, type Place, parsePlace, placeSql } from '../../kernel/position.ts'
import type { Scope } from '../../kernel/scope.ts'
import type { Database, Result, Statement } from './contract.ts'

/** Asks the primary for its place in the log. Behind a commit on the same connection it covers that commit. */
export const askPlace: Statement = {
  text: `select ${placeSql('pg_current_wal_lsn()')} as place`,
  values: [],
  name: 'rung_place',
}

/** Returns what `askPlace` was answered with; `undefined` where it could not be asked. */
export function placeIn(result: Result | undefined): Place | undefined {
  return parsePlace(String(result?.rows[0]?.place))
}

/** Notes that the scope has seen the database up to a place. */
export function noteSeen(scope: Scope | undefined, database: Database, place: Place | undefined): void {
  if (scope && place !== undefined) scope.position = advance(scope.position, database.name, place)
}
