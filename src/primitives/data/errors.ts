import { type ErrorCode, messageOf, RungError } from '../../kernel/errors.ts'
import type { Target } from './contract.ts'

/**
 * SQLSTATE (PostgreSQL documentation, appendix A) to a stable code and the sentence that goes with it. The longest prefix
 * wins. What the server said stays in the cause and is not shown to clients: it may hold values.
 */
const states: [prefix: string, code: ErrorCode, message: string][] = [
  ['08', 'DATA_UNAVAILABLE', 'The connection to the database was lost. Try again.'],
  ['57P', 'DATA_UNAVAILABLE', 'The database is restarting or shutting down. Try again shortly.'],
  ['53300', 'DATA_UNAVAILABLE', 'The database has no free connection. Lower the pool sizes or raise max_connections.'],
  ['28', 'DATA_UNAVAILABLE', 'The database refuses the user or the password.'],
  ['3D000', 'DATA_UNAVAILABLE', 'The database server has no database of this name.'],
  ['53100', 'DATA_DISK_FULL', 'The disk of the database is full. Reads go on; free space to write again.'],
  ['57014', 'DATA_TIMEOUT', 'The statement ran into its time limit. Look for a missing index with rung doctor.'],
  ['25P03', 'DATA_TIMEOUT', 'The transaction was idle for too long and was ended. Do slow work outside it.'],
  ['55P03', 'DATA_LOCK_TIMEOUT', 'Another transaction holds a lock for too long. Try again.'],
  ['25006', 'DATA_READ_ONLY', 'A statement inside data.read tried to write. Use data.write.'],
  ['23505', 'DATA_UNIQUE', 'A value that must be unique is taken.'],
  ['23503', 'DATA_REFERENCE', 'A row that is referred to does not exist, or is still in use.'],
  ['23', 'DATA_CHECK', 'A value breaks a rule of the table.'],
  ['22', 'DATA_VALUE', 'A value cannot be stored as it is: it has the wrong form or range.'],
  ['40', 'DATA_RETRIES_EXHAUSTED', 'The transaction collided with others. Try again.'],
  ['58030', 'DATA_DISK_FULL', 'The database cannot write to its disk. Reads go on; look at the disk.'],
  ['', 'DATA_STATEMENT', 'The database refused a statement.'],
]
const ordered = [...states].sort((a, b) => b[0].length - a[0].length)

interface PgError extends Error {
  code?: string
  constraint?: string
  column?: string
  schema?: string
  table?: string
}

/** SQLSTATE of an error, as given by the server or kept as a cause. */
export function sqlState(error: unknown): string | undefined {
  const found = error instanceof RungError ? error.cause : error
  const code = (found as PgError | undefined)?.code
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
  const { code } = error as { code?: string }
  if (code !== undefined && socketErrors.has(code)) return true
  return (
    sqlState(error) === undefined && /connection|terminated|not queryable|Client was closed/i.test(messageOf(error))
  )
}

/** The connection was lost while a commit was on its way. */
export function outcomeUnknown(error: unknown): RungError {
  return new RungError(
    'DATA_OUTCOME_UNKNOWN',
    'The connection was lost during the commit: the transaction may or may not have happened. Look at what is there before it is done again, or repeat it with an Idempotency-Key.',
    { cause: error instanceof RungError ? error.cause : error },
  )
}

/** Any failure of the driver as a `RungError`; one that is one already passes through. */
export function toDataError(error: unknown, target: Target = 'read'): RungError {
  if (error instanceof RungError) return error
  const state = sqlState(error)
  // A server whose disk is nearly full refuses to write, Rung's own and those of most providers, before worse happens.
  if (state === '25006' && target === 'write') {
    const message = 'The database takes no writes: its disk is full. Reads go on; free space to write again.'
    return new RungError('DATA_DISK_FULL', message, { cause: error })
  }
  if (state === undefined && isConnectionError(error)) {
    return new RungError('DATA_UNAVAILABLE', 'The database cannot be reached. Try again shortly.', { cause: error })
  }
  if (state === undefined) return new RungError('DATA_STATEMENT', messageOf(error), { cause: error })
  // Postgres reports a full disk while extending a file as 53100, while writing the log as PANIC; some file systems as EIO.
  const [, code, message] = ordered.find(([prefix]) => state.startsWith(prefix))!
  const { constraint, schema, table } = error as PgError
  const facts =
    constraint === undefined ? {} : { constraint, table: schema === undefined ? table : `${schema}.${table}` }
  const text = code === 'DATA_STATEMENT' ? `${message} ${messageOf(error)} (SQLSTATE ${state}).` : message
  return new RungError(code, text, { cause: error, facts })
}
