import type { Place } from '../../kernel/position.ts'

/**
 * What the data primitive asks of an adapter: connections to a database, by what they are for. Everything else (scopes,
 * positions, transactions, retries, deadlines) is policy above it, in `data.ts`.
 *
 * What must hold on every adapter:
 * - a connection for `read` or `reports` refuses to write, also where it leads to the primary (`DATA_READ_ONLY`);
 * - statements of one connection run in the order they were sent, and may be sent without waiting (one round trip);
 * - `connect` waits at most until `deadlineAt` and then throws `DATA_POOL_TIMEOUT`, or `DATA_UNAVAILABLE` when the
 *   database cannot be reached;
 * - what a connection for `read` shows is never older than `atLeast`, and `seen` of its results covers all that they show;
 * - where that cannot be kept, `connect` throws `DATA_BEHIND`, or returns what is no older than `staleMsMax`;
 * - connections for one target never take the place of those for another;
 * - a failed statement leaves a `RungError` with a `DATA_*` code and the driver's error as its cause.
 */
export interface Database {
  /** The name under which positions are kept. */
  readonly name: string
  /** Reads may be answered by servers that lag: a session's position must be known before it reads. */
  readonly lags: boolean
  connect(need: Need): Promise<Connection>
  /**
   * Resolves when the primary shows everything up to a place that was seen somewhere: a replica may show a commit while the primary
   * still waits for a standby to confirm it. `all`: everything that any server shows now. Returns `undefined` if it is known already.
   * @throws DATA_BEHIND if that takes longer than until `deadlineAt`
   */
  primaryShows(place: Place | 'all', deadlineAt: number): Promise<void> | undefined
  counts(target: Target): PoolCounts
  /** Its servers as this process knows them; none where there is only one. */
  servers(): readonly ServerState[]
  close(): Promise<void>
}

export interface ServerState {
  readonly name: string
  readonly role: 'primary' | 'replica' | 'away'
  /** Whether it takes reads, if it is a replica. */
  readonly inRotation: boolean
  /** How old what a replica shows may be; `Infinity` if that is unknown. */
  readonly lagMs: number
  /** Why it is not in rotation. */
  readonly trouble: string | undefined
}

/**
 * - `write`: the primary.
 * - `read`: any server that is new enough.
 * - `reports`: any server, for long reads that may be some seconds old. Few connections, with long limits.
 * - `own`: the primary, for Rung's own look-ups and upkeep. They have a small pool, so that they never wait behind the app's
 *   transactions.
 * - `session`: the primary, in a session that no pooler shares, for session locks and settings. Few, and not for requests.
 */
export type Target = 'read' | 'write' | 'own' | 'session' | 'reports'

export interface Need {
  readonly target: Target
  /** For `read`: what the reader has seen already. `all`: everything that was committed before, for a reader of unknown position. */
  readonly atLeast?: Place | 'all' | undefined
  /** For `read`: if nobody who covers `atLeast` has time, the reader accepts what was true this many ms ago. */
  readonly staleMsMax?: number | undefined
  /** A check of health, which does not count as use of the database. */
  readonly isCheck?: boolean
  /** On the monotonic clock, ms. */
  readonly deadlineAt: number
}

export interface Connection {
  run(statement: Statement): Promise<Result>
  /**
   * Sends statements as one message, which costs less than one for each. When one fails, those behind it do not run, and
   * fail with its error. Where no transaction is open they are one. Throws, and sends nothing, when a value cannot be sent.
   */
  runTogether(statements: readonly Statement[]): Promise<Result>[]
  /** A transaction was open when the last statement was answered. */
  readonly inTransaction: boolean
  /** Asks the server to stop what this connection runs; the statement in hand then fails with `DATA_TIMEOUT`. */
  cancel(): Promise<void>
  /** Returns the connection to its pool, or closes it if it is `broken`. Called once. */
  release(broken?: boolean): void
}

export interface Statement {
  readonly text: string
  readonly values: readonly unknown[]
  /** Set for a statement worth preparing; equal names mean equal texts. */
  readonly name: string | undefined
  /** Equal for equal places in the code; the text stands for it where there is none. */
  readonly site?: readonly string[] | undefined
  /** Options of the driver that pass through untouched (`rowMode`, `types`), for libraries mounted on `data.pool`. */
  readonly driver?: Readonly<Record<string, unknown>> | undefined
}

export interface Result<Row = Record<string, unknown>> {
  readonly rows: Row[]
  /** Rows returned or touched. */
  readonly rowCount: number
  /** What the server did: `SELECT`, `UPDATE`, `COMMIT`, `ROLLBACK` … */
  readonly command: string
  /** A place in the log that covers what was read; absent where all servers of the database show the same. */
  readonly seen?: Place | undefined
}

export interface PoolCounts {
  max: number
  total: number
  idle: number
  waiting: number
}
