/** What the doctor can find. The names are stable: scripts and alerts may match on them. */
export const findingKinds = {
  'missing-index': 'An index would make a statement much cheaper; tried, not guessed',
  'missing-foreign-key-index': 'Deleting a row reads all of another table, for lack of an index',
  'invalid-index': 'Every write keeps an index up to date that no statement may use',
  'duplicate-index': 'Two indexes are the same',
  'redundant-index': 'The columns of an index are the first columns of another one',
  'unused-index': 'No statement has used an index for a long time',
  'dead-rows': 'Autovacuum does not keep up with a table',
  'autovacuum-off': 'Autovacuum is switched off for a table',
  'statistics-missing': 'The planner knows nothing, or nothing recent, about a table',
  wraparound: 'Transaction ids are running out',
  'slow-statement': 'A statement takes long, or most of the time',
  'n-plus-one': 'A request runs one statement for each row of another',
  connections: 'The connections are nearly used up',
  'idle-in-transaction': 'A session holds a transaction open and does nothing',
  'long-transaction': 'A transaction has been running for a long time',
  'lock-wait': 'A session waits for the lock of another one',
  setting: 'A setting of the server puts data at risk',
  'blind-spot': 'Something could not be examined',
} as const

export type FindingKind = keyof typeof findingKinds

/** `act`: do it now. `look`: needs a person's judgement. `note`: good to know. */
export type Severity = 'act' | 'look' | 'note'

export interface Finding {
  kind: FindingKind
  severity: Severity
  /** One sentence. */
  what: string
  /** Numbers by name; the unit ends the name: `meanMs`, `sizeBytes`, `timeShare` (0 to 1), `idleSeconds`. */
  evidence: Record<string, number | string>
  /** What is better afterwards, or what stays bad otherwise. */
  gain: string
  /** Exactly what to run; an index can go into a migration as it is. A comment where there is nothing to run. */
  sql: string
  /** Exactly how to take that back. */
  undo: string
  /** With its schema, as SQL. */
  table?: string
  statement?: string
  /** The migration file that an index belongs in, where the app is known. */
  migration?: string
}

export const nothingToUndo = '-- nothing to undo'

/** Quotes a value for SQL. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** Quotes a name for SQL. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

export function inOneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim()
}

const significant = (digits: number) => new Intl.NumberFormat('en', { maximumSignificantDigits: digits })
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

/** `6204.4` → `6,204`, `8.37` → `8.4`, for people. */
export function formatNumber(value: number): string {
  return (Math.abs(value) >= 100 ? whole : significant(2)).format(value)
}

/** `0.613` → `61.3 %`, for people. */
export function formatShare(share: number): string {
  return `${significant(share >= 0.1 ? 3 : 2).format(share * 100)} %`
}

/** `7200` → `2.0 h`, for people. */
export function formatSeconds(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${(seconds / 3600).toFixed(1)} h`
  return `${(seconds / 86_400).toFixed(1)} days`
}
