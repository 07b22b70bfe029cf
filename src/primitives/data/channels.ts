import diagnostics from 'node:diagnostics_channel'
import type { RungError } from '../../kernel/errors.ts'
import type { Scope } from '../../kernel/scope.ts'
import type { Database, Statement, Target } from './contract.ts'

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

export const statementWritten = diagnostics.channel('rung:statement:written')
export const statementDone = diagnostics.channel('rung:statement:done')
export const transactionDone = diagnostics.channel('rung:transaction:done')
