import { isStale } from '../../engines/postgres/client.ts'
import { isReadOnly } from '../../engines/postgres/recipe.ts'
import { causesOf, type ErrorCode, isRungError, messageOf, partOf, RungError } from '../../kernel/errors.ts'
import type { Target } from './contract.ts'

/**
 * SQLSTATE (PostgreSQL documentation, appendix A) to a stable code and the sentence that goes with it. The longest prefix
 * wins. What the server said stays in the cause and is not shown to clients: it may hold values. Of `DATA_STATEMENT` it is
 * part of the message, since that is for the author.
 */
const states: [prefix: string, code: ErrorCode, message: string][] = [
  ['08', 'DATA_UNAVAILABLE', 'The connection to the database was lost. Try again.'],
  ['08P01', 'DATA_STATEMENT', 'A statement and its parameters do not fit each other.'],
  ['0A000', 'DATA_STATEMENT', 'The database does not support this statement.'],
  ['21', 'DATA_STATEMENT', 'A statement met more rows than it can use.'],
  ['22', 'DATA_VALUE', 'A value cannot be stored as it is: it has the wrong form or range.'],
  ['23', 'DATA_CHECK', 'A value breaks a rule of the table.'],
  ['23502', 'DATA_CHECK', 'A value that the table needs is missing.'],
  ['23503', 'DATA_REFERENCE', 'A row that is referred to does not exist, or is still in use.'],
  ['23001', 'DATA_REFERENCE', 'A row that is referred to does not exist, or is still in use.'],
  ['23505', 'DATA_UNIQUE', 'A value that must be unique is taken.'],
  ['23P01', 'DATA_UNIQUE', 'A row collides with one that is there already (an exclusion constraint).'],
  [
    '25001',
    'DATA_STATEMENT',
    'This statement cannot run in a transaction. Run it by itself on data.pool, or in a migration.',
  ],
  ['25006', 'DATA_READ_ONLY', 'A statement inside data.read tried to write. Use data.write.'],
  ['25P02', 'DATA_STATEMENT', 'An earlier statement of this transaction failed. Let its error leave the transaction.'],
  ['25P03', 'DATA_TIMEOUT', 'The transaction was idle for too long and was ended. Do slow work outside it.'],
  ['25P04', 'DATA_TIMEOUT', 'The transaction took too long and was ended. Do less in one transaction.'],
  ['28', 'DATA_UNAVAILABLE', 'The database refuses the user or the password.'],
  ['3D000', 'DATA_UNAVAILABLE', 'The database server has no database of this name.'],
  ['40', 'DATA_RETRIES_EXHAUSTED', 'The transaction collided with others. Try again.'],
  [
    '40003',
    'DATA_OUTCOME_UNKNOWN',
    'The database does not know whether the transaction happened. Look at what is there.',
  ],
  [
    '08007',
    'DATA_OUTCOME_UNKNOWN',
    'The database does not know whether the transaction happened. Look at what is there.',
  ],
  ['42501', 'DATA_STATEMENT', "The database's role may not do this. Grant it the right, or use another role."],
  ['44000', 'DATA_CHECK', 'A row would not be part of the view that it is written to.'],
  ['53100', 'DATA_DISK_FULL', 'The disk of the database is full. Reads go on; free space to write again.'],
  [
    '53',
    'DATA_UNAVAILABLE',
    'The database has run out of a resource, such as memory. Try again; if it stays, give it more.',
  ],
  ['53300', 'DATA_UNAVAILABLE', 'The database has no free connection. Lower the pool sizes or raise max_connections.'],
  ['53400', 'DATA_STATEMENT', 'The statement exceeds a limit that the database is configured with.'],
  ['54', 'DATA_STATEMENT', 'The statement is too large or too complex for the database. Split it.'],
  ['54000', 'DATA_VALUE', 'A value is too large for its place, such as an index or a search document.'],
  ['55P03', 'DATA_LOCK_TIMEOUT', 'Another transaction holds a lock for too long. Try again.'],
  ['55006', 'DATA_LOCK_TIMEOUT', 'Others use what the statement would change. Try again.'],
  [
    '57014',
    'DATA_TIMEOUT',
    'The statement ran into its time limit, or was cancelled. Look for a missing index with rung doctor.',
  ],
  ['57P', 'DATA_UNAVAILABLE', 'The database is restarting or shutting down. Try again shortly.'],
  ['57P04', 'DATA_UNAVAILABLE', 'The database was dropped.'],
  ['57P05', 'DATA_UNAVAILABLE', 'The database closed a connection that was idle. Try again.'],
  ['58030', 'DATA_DISK_FULL', 'The database cannot write to its disk. Reads go on; look at the disk.'],
  [
    '72',
    'DATA_RETRIES_EXHAUSTED',
    'The statement took so long that what it reads is gone. Try again, or read less at once.',
  ],
  ['P0001', 'DATA_STATEMENT', 'A function of the database raised an error.'],
  ['XX001', 'DATA_STATEMENT', 'The database reports damaged data. Look at its log, and compare with a backup.'],
  ['XX002', 'DATA_STATEMENT', 'The database reports a damaged index. Rebuild it with reindex.'],
  ['', 'DATA_STATEMENT', 'The database refused a statement.'],
]
const ordered = [...states].sort((a, b) => b[0].length - a[0].length)

interface PgError extends Error {
  code?: string
  hint?: string
  routine?: string
  constraint?: string
  column?: string
  schema?: string
  table?: string
}

/** SQLSTATE of an error, as given by the server or kept as a cause. */
export function sqlState(error: unknown): string | undefined {
  const code = partOf(isRungError(error) ? partOf(error, 'cause') : error, 'code')
  // EPIPE and other errors of the operating system have five letters too.
  return typeof code === 'string' && /^(?!E[A-Z]{4}$)[0-9A-Z]{5}$/.test(code) ? code : undefined
}

const socketErrors = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENOTFOUND',
])

export function isConnectionError(error: unknown): boolean {
  const code = partOf(error, 'code')
  if (typeof code === 'string' && socketErrors.has(code)) return true
  return (
    sqlState(error) === undefined &&
    /connection|terminated|not queryable|Client was closed|^timeout expired$/i.test(messageOf(error))
  )
}

/**
 * Whether PgBouncer itself raised it: it has lost the server, or has no connection in time. It uses the state of a protocol violation for all of its
 * errors, without the place in the source that Postgres always names.
 */
export function isOfPooler(error: unknown): boolean {
  return sqlState(error) === '08P01' && partOf(error, 'routine') === undefined
}

/**
 * Whether PgBouncer had no server for a transaction, so that nothing of it has run. It refuses transactions in this way for a moment after it
 * has broken connections that it was just making, as it does when it is told of other pools.
 */
export function isNotBegun(error: unknown): boolean {
  const isOfServer = (cause: unknown) => /^server login has been failing/.test(messageOf(cause))
  return sqlState(error) === '08P01' && [...causesOf(error)].some(isOfServer)
}

/** Whether a statement failed only since its prepared form is out of date. */
export function isOutdated(error: unknown): boolean {
  return isRungError(error) && isStale(partOf(error, 'cause'))
}

/** Statements that were given to a connection which had ended before: the server never saw them. */
const unsent = new WeakSet<Error>()

export function wasSent(error: Error): boolean {
  return !unsent.has(error)
}

/** A failure without a word from the server. `said` is what it said earlier, when it ended the session. */
export function toLostError(error: unknown, said: Error | undefined, target: Target): RungError {
  const isUnsent = /not queryable|Client was closed/.test(messageOf(error))
  const lost = toDataError(isUnsent && said ? said : error, target)
  if (isUnsent) unsent.add(lost)
  return lost
}

/** The connection was lost while a commit was on its way. */
export function outcomeUnknown(error: unknown): RungError {
  return new RungError(
    'DATA_OUTCOME_UNKNOWN',
    'The connection was lost during the commit: the transaction may or may not have happened. Look at what is there before it is done again, or repeat it with an Idempotency-Key.',
    { cause: isRungError(error) ? error.cause : error },
  )
}

/** The reader has seen more than the replicas show, and the primary has no time for it. */
export function behind(): RungError {
  return new RungError(
    'DATA_BEHIND',
    'No server that shows what this session has seen has time for it. Try again shortly.',
  )
}

/** The server of a connection is no primary any more. An address may lead to such a server, until a balancer has noticed. */
export function otherPrimary(cause?: unknown): RungError {
  return new RungError('DATA_UNAVAILABLE', 'Another server has become the primary of the database. Try again.', {
    cause,
  })
}

/** Any failure of the driver as a `RungError`; one that is one already passes through. */
export function toDataError(error: unknown, target: Target = 'read'): RungError {
  if (isRungError(error)) return error
  const state = sqlState(error)
  // A server whose disk is nearly full refuses to write, Rung's own and those of most providers, before worse happens. So does a replica.
  if (state === '25006' && !isReadOnly(target)) {
    const message =
      'The database takes no writes: its disk is full, or it is a replica now. Reads go on; free space to write again.'
    return new RungError('DATA_DISK_FULL', message, { cause: error })
  }
  if ((state === undefined && isConnectionError(error)) || isOfPooler(error)) {
    return new RungError('DATA_UNAVAILABLE', 'The database cannot be reached. Try again shortly.', { cause: error })
  }
  if (state === undefined) return new RungError('DATA_STATEMENT', messageOf(error), { cause: error })
  if (isStale(error)) {
    const message = 'A table was changed while the transaction ran. Try again.'
    return new RungError('DATA_RETRIES_EXHAUSTED', message, { cause: error })
  }
  // Postgres reports a full disk while extending a file as 53100, while writing the log as PANIC; some file systems as EIO.
  const [, code, sentence] = ordered.find(([prefix]) => state.startsWith(prefix))!
  const { constraint, schema, table, hint } = error as PgError
  const message = state === '22P02' ? formMessage(error as PgError, sentence) : sentence
  const facts =
    constraint === undefined ? {} : { constraint, table: schema === undefined ? table : `${schema}.${table}` }
  const advice = hint === undefined ? '' : ` ${hint}`
  const text = code === 'DATA_STATEMENT' ? `${message} ${messageOf(error)} (SQLSTATE ${state}).${advice}` : message
  return new RungError(code, text, { cause: error, facts })
}

/** Names the expected form of a value, without the value. Messages of a server in another language than English are not read. */
function formMessage({ message, routine }: PgError, sentence: string): string {
  if (routine?.startsWith('json')) {
    return `A value cannot be stored as it is: it is not JSON. Write sql.json(value), or JSON.stringify(value) in a library's query.`
  }
  const [form] =
    /^(malformed \w+ literal|invalid input (syntax for type|value for enum) [\w ."]+?)(?=:)/.exec(message) ?? []
  return form ? `A value cannot be stored as it is: ${form}.` : sentence
}
