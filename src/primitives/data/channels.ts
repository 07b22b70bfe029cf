import diagnostics from 'node:diagnostics_channel'
import type { RungError } from '../../kernel/errors.ts'
import type { Scope } from '../../kernel/scope.ts'
import type { Database, ServerState, Statement, Target } from './contract.ts'

/** What observers may listen to. Nothing is built where nobody listens. `database` tells two apps in one process apart. */
export interface StatementWritten {
  readonly database: Database
  /** As in `Statement.site`. Published while the author's frames are still on the stack; it may never run, or become a piece of another. */
  readonly site: readonly string[] | string
  readonly scope: Scope | undefined
  readonly module: string | undefined
}

export interface StatementDone {
  readonly statement: Statement
  readonly database: Database
  readonly target: Target
  readonly module: string | undefined
  readonly scope: Scope | undefined
  readonly inTransaction: boolean
  /** Wall clock at the start, ms. */
  readonly startedAt: number
  /** Waiting for a connection, ms; 0 where one was held. */
  readonly waitMs: number
  /** Sending to last row, ms. */
  readonly durationMs: number
  readonly rowCount: number
  readonly command: string
  readonly error: RungError | undefined
}

export interface TransactionDone {
  readonly database: Database
  readonly module: string | undefined
  readonly outcome: 'commit' | 'rollback' | 'retry'
  readonly durationMs: number
}

/** Which server a read was sent to, and why. */
export interface ReadRouted {
  readonly database: Database
  /** Empty if none took it. */
  readonly server: string
  /**
   * - `replica`, `primary`: it covers the reader's position.
   * - `stale`: it may not, and the reader accepts that.
   * - `refused`: no server could take it.
   * - `absurd`: the reader's position is ahead of the primary, and was ignored.
   */
  readonly why: 'replica' | 'primary' | 'stale' | 'refused' | 'absurd'
}

/** A server of a database has come into the rotation for reads, or has left it. */
export interface ServerChanged {
  readonly database: Database
  readonly server: ServerState
}

export const readRouted = diagnostics.channel('rung:read:routed')
export const serverChanged = diagnostics.channel('rung:server:changed')
export const statementWritten = diagnostics.channel('rung:statement:written')
export const statementDone = diagnostics.channel('rung:statement:done')
export const transactionDone = diagnostics.channel('rung:transaction:done')
