import { types } from 'node:util'

/**
 * Codes of all errors that Rung raises on purpose. They are stable, so clients and alerts may match on them. `status` is the HTTP status of
 * an error that leaves a route. `docs/errors.md` describes each.
 */
export const errorCodes = {
  // configuration and start
  CONFIG_INVALID: { status: 500, title: 'The configuration is wrong' },
  COMMAND_INVALID: { status: 500, title: 'The command cannot be done as it was given' },
  APP_INVALID: { status: 500, title: 'The app description is wrong' },
  APP_ERROR_STRAY: { status: 500, title: 'The app did not handle an error' },
  APP_NOT_FOUND: { status: 500, title: 'The app file cannot be loaded' },
  ENGINE_MISSING: { status: 500, title: 'A program that this topology needs is not installed' },
  ENGINE_START_FAILED: { status: 500, title: 'An engine did not start' },
  CERTIFICATE_INVALID: { status: 500, title: 'The certificate cannot be used' },
  PORT_IN_USE: { status: 500, title: 'The port is in use' },
  DATA_DIR_IN_USE: { status: 500, title: 'Another process runs on this data directory' },
  DATA_DIR_UNWRITABLE: { status: 500, title: 'The data directory is not writable' },
  DATA_DIR_FOREIGN: { status: 500, title: 'The directory contains something that is not Rung data' },
  DATA_DIR_PRIMARY: { status: 500, title: 'The directory of a replica contains a primary' },
  DATA_DIR_VERSION: { status: 500, title: 'The data directory belongs to another version' },
  // a running fleet
  FLEET_NOT_RUNNING: { status: 500, title: 'No fleet runs here' },
  PROFILE_UNAVAILABLE: { status: 500, title: 'The process cannot be profiled now' },
  TRACE_NOT_FOUND: { status: 404, title: 'No process has this trace' },
  CLIMB_REFUSED: { status: 500, title: 'The fleet does not climb' },
  EXTRACT_REFUSED: { status: 500, title: 'The modules get no nodes of their own' },
  FLEET_BUSY: { status: 409, title: 'The fleet is being changed' },
  // faults on purpose
  CHAOS_REFUSED: { status: 500, title: 'A fault is not injected here' },
  CHAOS_NO_EFFECT: { status: 500, title: 'A fault did not take effect' },
  CHAOS_NOT_UNDONE: { status: 500, title: 'A fault was not undone' },
  // migrations
  MIGRATION_INVALID: { status: 500, title: 'A migration file is wrong' },
  MIGRATION_CHANGED: { status: 500, title: 'An applied migration was changed' },
  MIGRATION_UNSAFE: { status: 500, title: 'A migration was refused' },
  MIGRATION_FAILED: { status: 500, title: 'A migration failed' },
  MIGRATION_BACKFILL: { status: 503, title: 'A backfill is not complete' },
  MIGRATION_LOCKED: { status: 503, title: 'A migration could not get its lock' },
  // data
  DATA_UNAVAILABLE: { status: 503, title: 'The database cannot be reached' },
  DATA_OUTCOME_UNKNOWN: { status: 503, title: 'It is not known whether a write was committed' },
  DATA_POOL_TIMEOUT: { status: 503, title: 'No database connection became free in time' },
  DATA_BEHIND: { status: 503, title: 'No server shows what the session has seen' },
  DATA_READ_ONLY: { status: 500, title: 'A read tried to write' },
  DATA_OUTSIDE_TRANSACTION: { status: 500, title: 'A statement bypassed the open transaction' },
  DATA_TRANSACTION_ENDED: { status: 500, title: 'A statement came after its transaction had ended' },
  DATA_STATEMENT_UNUSED: { status: 500, title: 'A statement was written but never run' },
  DATA_RETRIES_EXHAUSTED: { status: 503, title: 'The transaction kept colliding with others' },
  DATA_TIMEOUT: { status: 503, title: 'A statement ran into its time limit' },
  DATA_LOCK_TIMEOUT: { status: 503, title: 'A lock was not granted in time' },
  DATA_DISK_FULL: { status: 507, title: 'The database has no disk space left' },
  DATA_UNIQUE: { status: 409, title: 'A value that must be unique is taken' },
  DATA_REFERENCE: { status: 409, title: 'A row that is referred to does not exist, or is still in use' },
  DATA_CHECK: { status: 422, title: 'A value breaks a rule of the table' },
  DATA_VALUE: { status: 422, title: 'A value cannot be stored' },
  DATA_STATEMENT: { status: 500, title: 'A statement is wrong' },
  DATA_BOUNDARY: { status: 500, title: "A statement touches another module's tables" },
  // Redis
  REDIS_UNAVAILABLE: { status: 503, title: 'Redis is unavailable' },
  REDIS_REFUSED: { status: 500, title: 'Redis refused a command' },
  // NATS
  NATS_UNAVAILABLE: { status: 503, title: 'NATS is unavailable' },
  NATS_REFUSED: { status: 507, title: 'NATS refused a message' },
  // the page cache
  PAGE_CACHE_UNAVAILABLE: { status: 503, title: 'The page cache is unavailable' },
  CDN_PURGE_FAILED: { status: 502, title: 'The CDN was not purged' },
  // backups
  BACKUP_UNSUPPORTED: { status: 500, title: 'This database cannot be backed up by Rung' },
  BACKUP_FAILED: { status: 500, title: 'A backup was not made' },
  BACKUP_RUNNING: { status: 500, title: 'Another process archives this database already' },
  BACKUP_FOREIGN: { status: 500, title: 'The backup directory belongs to another copy of the database' },
  BACKUP_NOT_FOUND: { status: 500, title: 'There is no backup to restore' },
  BACKUP_OUT_OF_RANGE: { status: 500, title: 'The backups do not reach that time' },
  BACKUP_KEY_WRONG: { status: 500, title: 'A backup is encrypted with another key' },
  BACKUP_UNREACHABLE: { status: 500, title: 'The bucket of the backups cannot be reached' },
  BACKUP_DAMAGED: { status: 500, title: 'A file of the backup is damaged' },
  RESTORE_NOT_EMPTY: { status: 500, title: 'The folder to restore into is not empty' },
  STAGING_INVALID: { status: 500, title: 'Personal data cannot be masked' },
  RESTORE_FAILED: { status: 500, title: 'A restore was not finished' },
  // calls between modules
  CALL_INVALID: { status: 500, title: 'A call between modules does not match its schema' },
  CALL_INCOMPATIBLE: { status: 500, title: 'Two builds could not call each other' },
  CALL_IN_TRANSACTION: { status: 500, title: 'Another module was called inside a transaction' },
  // jobs and events
  JOB_INVALID: { status: 500, title: 'The input of a job does not match its schema' },
  JOB_TIMEOUT: { status: 503, title: 'A run took longer than its time limit' },
  JOB_CANCELLED: { status: 409, title: 'A job was cancelled' },
  JOB_LEASE_LOST: { status: 409, title: 'A job was handed on while it ran' },
  JOB_HANDED_BACK: { status: 503, title: 'A run was ended because its process stops' },
  EVENT_INVALID: { status: 500, title: 'An event does not match its schema' },
  // cache
  CACHE_INVALID: { status: 500, title: 'A key, a tag or an option of the cache is invalid' },
  CACHE_LOAD_TIMEOUT: { status: 503, title: 'A value for the cache was not loaded in time' },
  // search
  SEARCH_INVALID: { status: 500, title: 'A document or a query does not fit its index' },
  SEARCH_BEHIND: { status: 503, title: 'The search database has not caught up' },
  SEARCH_LOST: { status: 503, title: 'The search database has lost documents' },
  SEARCH_REBUILDING: { status: 409, title: 'The index is being rebuilt' },
  // files
  FILES_KEY_INVALID: { status: 422, title: 'A key of a file has the wrong form' },
  FILES_OPTION_INVALID: { status: 500, title: 'An option of a file has the wrong form' },
  FILES_NOT_FOUND: { status: 404, title: 'There is no such file' },
  FILES_EXISTS: { status: 409, title: 'The file exists already' },
  FILES_TOO_LARGE: { status: 413, title: 'The file is too large' },
  FILES_TYPE: { status: 415, title: 'The type of the file is not allowed' },
  FILES_CHECKSUM: { status: 422, title: 'The content does not match its checksum' },
  FILES_INCOMPLETE: { status: 400, title: 'The source of the file failed before its end' },
  FILES_ABORTED: { status: 503, title: 'The upload was aborted' },
  FILES_RANGE: { status: 416, title: 'The range is outside the file' },
  FILES_URL_INVALID: { status: 403, title: 'The URL is not signed, has expired, or is for another method' },
  FILES_DISK_FULL: { status: 507, title: 'The disk of the files is full' },
  FILES_DAMAGED: { status: 500, title: 'A file is damaged' },
  FILES_UNAVAILABLE: { status: 503, title: 'The files cannot be reached' },
  // mail
  MAIL_INVALID: { status: 422, title: 'A mail has the wrong form' },
  MAIL_TOO_LARGE: { status: 422, title: 'A mail is too large' },
  MAIL_IN_TRANSACTION: { status: 500, title: 'A mail was sent inside a transaction' },
  MAIL_UNAVAILABLE: { status: 503, title: 'The mail cannot be sent now' },
  MAIL_REFUSED: { status: 502, title: 'The mail server refuses the mail' },
  // requests that are repeated
  IDEMPOTENCY_KEY_MISSING: { status: 400, title: 'The request needs an Idempotency-Key' },
  IDEMPOTENCY_KEY_INVALID: { status: 400, title: 'The Idempotency-Key is malformed' },
  IDEMPOTENCY_PAYLOAD: { status: 422, title: 'The Idempotency-Key belongs to another request' },
  IDEMPOTENCY_IN_FLIGHT: { status: 409, title: 'The first request with this Idempotency-Key is still running' },
  IDEMPOTENCY_STREAM: { status: 500, title: 'A route with idempotency streams its answer' },
  IDEMPOTENCY_VALUE: { status: 500, title: 'The value of a write cannot be stored' },
  IDEMPOTENCY_DIVERGED: { status: 500, title: 'A repeated request made other writes than the first one' },
  IDEMPOTENCY_STEP_NAME: { status: 500, title: 'Two writes of a request cannot be told apart' },
  // calls to others
  OUTGOING_FAILED: { status: 502, title: 'Another service cannot be reached' },
  OUTGOING_TIMEOUT: { status: 504, title: 'Another service did not answer in time' },
  OUTGOING_OPEN: { status: 503, title: 'Another service fails and gets no calls' },
  OUTGOING_FULL: { status: 503, title: 'Too many calls to another service are in progress' },
  // computations
  THREAD_TIMEOUT: { status: 503, title: 'A computation ran out of time' },
  THREAD_BUSY: { status: 503, title: 'Too many computations wait' },
  // http
  HTTP_BAD_REQUEST: { status: 400, title: 'The request is malformed' },
  HTTP_VALIDATION: { status: 422, title: 'The request does not match the schema' },
  HTTP_UNAUTHORIZED: { status: 401, title: 'Authentication is needed' },
  HTTP_FORBIDDEN: { status: 403, title: 'This is not allowed' },
  HTTP_NOT_FOUND: { status: 404, title: 'Nothing was found at this address' },
  HTTP_METHOD_NOT_ALLOWED: { status: 405, title: 'The method is not allowed here' },
  HTTP_CONFLICT: { status: 409, title: 'The request conflicts with the current state' },
  HTTP_TOO_LARGE: { status: 413, title: 'The request body is too large' },
  HTTP_MEDIA_TYPE: { status: 415, title: 'The media type is not supported' },
  HTTP_TIMEOUT: { status: 503, title: 'The request ran out of time' },
  HTTP_TOO_MANY_REQUESTS: { status: 429, title: 'Too many requests' },
  HTTP_CROSS_ORIGIN: { status: 403, title: 'The request comes from a page of another site' },
  HTTP_REFUSED: { status: 400, title: 'The request was refused' },
  HTTP_CLIENT_GONE: { status: 499, title: 'The client closed the request' },
  HTTP_OUTCOME_UNKNOWN: { status: 502, title: 'It is not known whether this was done' },
  HTTP_OVERLOADED: { status: 503, title: 'The server is overloaded' },
  HTTP_SAVED_IN_PART: { status: 500, title: 'The request failed after a part of it was saved' },
  HTTP_ANSWER_INVALID: { status: 500, title: 'An answer does not fit its schema' },
  HTTP_INTERNAL: { status: 500, title: 'An unexpected error' },
  // load
  LOAD_INVALID: { status: 500, title: 'The description of a load is wrong' },
  LOAD_BOTTLENECK: { status: 500, title: 'The load generator measured itself' },
  // plans
  PLAN_CONTRADICTION: { status: 500, title: 'Figures of a plan contradict each other' },
  PRICE_MISSING: { status: 500, title: 'A price is missing' },
  // histories and proofs
  PROOF_INVALID: { status: 500, title: 'The description of a proof is wrong' },
  PROOF_FAILED: { status: 500, title: 'A proof could not be made' },
  HISTORY_INVALID: { status: 500, title: 'A history cannot be checked' },
  // the test kit
  TEST_DATABASE: { status: 500, title: 'A test cannot make its database' },
  TEST_JOB_FAILED: { status: 500, title: 'A job or a delivery failed in a test' },
  TEST_STATUS: { status: 500, title: 'A request of a test has another status than it expects' },
  TEST_WORK_ENDLESS: { status: 500, title: 'The work of a test does not end' },
} as const satisfies Record<string, { status: number; title: string }>

export type ErrorCode = keyof typeof errorCodes

/**
 * An error with a stable code, a message that says what happened and what to do, and its cause. `facts` are safe to show to clients: no
 * secrets, no statement values.
 */
export class RungError extends Error {
  readonly code: ErrorCode
  readonly facts: Readonly<Record<string, unknown>>
  /** The HTTP status: the code's, unless given. */
  readonly status: number

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; facts?: Record<string, unknown>; status?: number } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'RungError'
    this.code = code
    this.facts = options.facts ?? {}
    this.status = options.status ?? errorCodes[code].status
  }

  get title(): string {
    return errorCodes[this.code].title
  }
}

export function isRungError(error: unknown, code?: ErrorCode): error is RungError {
  return isError(error) && error instanceof RungError && (code === undefined || error.code === code)
}

/*
 * The functions below accept any value that foreign code may throw: undefined, a symbol, a Proxy whose traps throw, an error whose properties
 * are getters that throw, circular causes. None of them throws.
 */

const textMax = 64_000
const stackMax = 100_000
const causesMax = 8

/** Returns a property of any value, or `undefined` if it has none or reading it throws. */
export function partOf(value: unknown, name: string): unknown {
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return undefined
  try {
    return (value as Record<string, unknown>)[name]
  } catch {
    return undefined
  }
}

/** Ends a text that another sentence follows. */
export function sentence(text: string): string {
  return /[.!?…:]$/.test(text) ? text : `${text}.`
}

/** Returns the message of any thrown value, at most 64,000 characters of it. */
export function messageOf(thrown: unknown): string {
  if (typeof thrown === 'string') return bounded(thrown, textMax) || 'an empty text was thrown instead of an error'
  const message = partOf(thrown, 'message')
  if (typeof message === 'string' && message !== '') return bounded(message, textMax)
  if (thrown === null || thrown === undefined) return `${thrown} was thrown instead of an error`
  if (typeof thrown === 'number' || typeof thrown === 'boolean') return String(thrown)
  const name = partOf(thrown, 'name')
  if (isError(thrown) && typeof name === 'string') return bounded(name, textMax)
  return `a value of type ${typeof thrown}, without a message, was thrown instead of an error`
}

/** Returns the thrown value if it is an error whose properties can be read safely, otherwise a new error that describes it. */
export function errorOf(thrown: unknown): Error {
  return isSound(thrown, 0) ? thrown : copyOf(thrown, 0)
}

/** Yields the error and its causes, the outermost first. */
export function* causesOf(thrown: unknown): Generator<Error> {
  let error: unknown = errorOf(thrown)
  for (let depth = 0; depth < causesMax && error !== undefined; depth += 1) {
    yield error as Error
    error = (error as Error).cause
    if (error !== undefined) error = errorOf(error)
  }
}

/** Returns whether all properties are plain values, so that reading them again has the same result and does not throw. */
function isSound(error: unknown, depth: number): error is Error {
  if (depth >= causesMax || !isError(error)) return false
  const read = ['name', 'message', 'code', 'status', 'statusCode', 'facts', 'cause'].map((name) => valueAt(error, name))
  if (read.some((part) => part === unreadable)) return false
  const [name, message, code, status, statusCode, facts, cause] = read
  if (typeof name !== 'string' || typeof message !== 'string' || message.length > textMax) return false
  const stack = valueAt(error, 'stack')
  if (stack !== undefined && (typeof stack !== 'string' || stack.length > stackMax)) return false
  if (code !== undefined && code !== null && !isPlain(code)) return false
  if ([status, statusCode].some((one) => one !== undefined && !isStatus(one))) return false
  if (facts !== undefined && !isJson(facts)) return false
  return cause === undefined || isSound(cause, depth + 1)
}

const unreadable = Symbol('unreadable')
/** In some versions of V8 the stack of an error is a getter of V8's own. */
const ownStack = Object.getOwnPropertyDescriptor(new Error(), 'stack')?.get ?? unreadable

/** Reads a property without calling a getter, which could throw the next time. */
function valueAt(error: object, name: string): unknown {
  for (let at: object | null = error; at !== null; at = Object.getPrototypeOf(at)) {
    if (types.isProxy(at)) return unreadable
    const found = Object.getOwnPropertyDescriptor(at, name)
    if (found && found.get === ownStack) return partOf(error, name)
    if (found) return found.get || found.set ? unreadable : found.value
  }
  return undefined
}

function copyOf(thrown: unknown, depth: number): Error {
  const code = partOf(thrown, 'code')
  const facts = partOf(thrown, 'facts')
  const cause = depth + 1 < causesMax ? partOf(thrown, 'cause') : undefined
  const options = cause === undefined ? {} : { cause: isSound(cause, depth + 1) ? cause : copyOf(cause, depth + 1) }
  const copy =
    isError(thrown) && thrown instanceof RungError && typeof code === 'string' && Object.hasOwn(errorCodes, code)
      ? new RungError(code as ErrorCode, messageOf(thrown), {
          ...options,
          ...(isJson(facts) && { facts: facts as Record<string, unknown> }),
        })
      : Object.assign(new Error(messageOf(thrown), options), isPlain(code) && { code })
  for (const name of ['status', 'statusCode'] as const) {
    const value = partOf(thrown, name)
    if (isStatus(value)) Object.assign(copy, { [name]: value })
  }
  const [name, stack] = [partOf(thrown, 'name'), partOf(thrown, 'stack')]
  if (isError(thrown) && typeof name === 'string') copy.name = bounded(name, 100)
  if (typeof stack === 'string') copy.stack = bounded(stack, stackMax)
  return copy
}

function isError(value: unknown): value is Error {
  try {
    return !types.isProxy(value) && value instanceof Error
  } catch {
    return false // a prototype is a Proxy
  }
}

function isPlain(value: unknown): value is string | number {
  return typeof value === 'number' || (typeof value === 'string' && value.length <= 200)
}

/** Returns whether a value is the HTTP status of a failure. */
function isStatus(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 400 && (value as number) <= 599
}

function isJson(value: unknown): boolean {
  try {
    return (JSON.stringify(value)?.length ?? Number.POSITIVE_INFINITY) <= textMax
  } catch {
    return false
  }
}

function bounded(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max).toWellFormed()}…`
}
