/**
 * What the data primitive asks of an adapter: connections to a database, by target. Everything else (scopes, positions,
 * transactions, retries, deadlines) is policy above it, in `data.ts`.
 *
 * What must hold on every adapter:
 * - a connection for `read` refuses to write, also where it leads to the primary (`DATA_READ_ONLY`);
 * - statements of one connection run in the order they were sent, and may be sent without waiting (one round trip);
 * - `connect` waits at most until `deadlineAt` and then throws `DATA_POOL_TIMEOUT`, or `DATA_UNAVAILABLE` when the
 *   database cannot be reached;
 * - a failed statement leaves a `RungError` with a `DATA_*` code and the driver's error as its cause.
 */
export interface Database {
  /** The name under which positions are kept. */
  readonly name: string
  connect(target: Target, deadlineAt: number): Promise<Connection>
  counts(target: Target): PoolCounts
  close(): Promise<void>
}

/** `write` is the primary; `read` is any server that is new enough for the scope. */
export type Target = 'read' | 'write'

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
  /** Gives the connection back; `broken` throws it away. Once. */
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
}

export interface PoolCounts {
  max: number
  total: number
  idle: number
  waiting: number
}
