/** What the doctor can find. The names are stable: scripts and alerts may match on them. */
export const findingKinds = {
  'missing-index': 'An index would make a statement much cheaper; tried, not guessed',
  'missing-foreign-key-index': 'Deleting a row reads all of another table, for want of an index',
  'invalid-index': 'An index that every write keeps up to date and no statement may use',
  'duplicate-index': 'Two indexes are the same',
  'redundant-index': 'An index is the beginning of another one',
  'unused-index': 'No statement has used an index for long',
  'dead-rows': 'Autovacuum does not keep up with a table',
  'bloated-table': 'A table takes much more space than its rows need',
  'autovacuum-off': 'Nothing cleans a table up',
  'statistics-missing': 'The planner knows nothing, or nothing recent, of a table',
  wraparound: 'Transaction ids run out',
  'full-scans': 'A big table is read from end to end again and again',
  'slow-statement': 'A statement takes long, or most of the time',
  'n-plus-one': 'A request runs one statement again and again',
  connections: 'The connections are nearly used up',
  'idle-in-transaction': 'A session holds a transaction open and does nothing',
  'long-transaction': 'A transaction has been running for long',
  'lock-wait': 'A session waits for the lock of another',
  'cache-misses': 'Much of what is read comes from the disk',
  setting: 'A setting of the server does harm',
  'blind-spot': 'Something could not be looked at',
} as const

export type FindingKind = keyof typeof findingKinds

/** `act`: do it now. `look`: somebody has to judge. `note`: good to know. */
export type Severity = 'act' | 'look' | 'note'

export interface Finding {
  kind: FindingKind
  severity: Severity
  /** One sentence. */
  what: string
  /** Numbers by name; the unit is the end of the name: `meanMs`, `sizeBytes`, `timeShare` (0 to 1), `idleSeconds`. */
  evidence: Record<string, number | string>
  /** What is better afterwards, or what stays bad otherwise. */
  gain: string
  /** Exactly what to run; an index can go into a migration as it is. Where there is nothing to run, a comment. */
  sql: string
  /** Exactly how to take that back. */
  undo: string
  /** With its schema, as SQL. */
  table?: string
  statement?: string
}

export const nothingToUndo = '-- nothing to undo'

/** As a value in SQL. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

const round = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const fine = new Intl.NumberFormat('en', { maximumSignificantDigits: 2 })
const finer = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 })

/** `6204.4` → `6,204`, `8.37` → `8.4`, for people. */
export function formatNumber(value: number): string {
  return (Math.abs(value) >= 100 ? round : fine).format(value)
}

/** `0.613` → `61.3 %`, for people. */
export function formatShare(share: number): string {
  return `${(share >= 0.1 ? finer : fine).format(share * 100)} %`
}

/** `7200` → `2.0 h`, for people. */
export function formatSeconds(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${(seconds / 3600).toFixed(1)} h`
  return `${(seconds / 86_400).toFixed(1)} days`
}
