import type { RungError } from '../../kernel/errors.ts'
import type { Place } from '../../kernel/position.ts'
import { currentScope, type Scope } from '../../kernel/scope.ts'
import type { Database } from './contract.ts'
import type { Sql, SqlTag } from './sql.ts'

/**
 * What rides a commit: statements of other primitives that go out with it, in the same round trip, after everything that
 * the author's function did. They happen when it commits and only then; when one of them fails, nothing is committed.
 */
export interface Ride {
  readonly statement: Sql
  /** The error that the author gets instead of the database's. */
  failed?(error: RungError): Error
  /** It wants to know where in the log the commit was, also where no scope keeps that. */
  readonly positioned?: boolean
  /**
   * Called with the statement's rows, once the commit is certain, with a place in the log that covers it (`undefined` where
   * that could not be asked any more). The write returns when the promise has resolved, which must not reject.
   */
  committed?(rows: readonly Record<string, unknown>[], at: Place | undefined): void | Promise<void>
}

/** What a primitive sees of an open transaction whose commit it may ride. */
export interface Riding {
  readonly module: string | undefined
  /** Asked once, at the commit, for what goes out with it. */
  ride(make: () => readonly Ride[]): void
}

/** What the transaction handle gets besides `sql`: `publish`, `enqueue` … Called for every transaction. */
export type ExtendTx<Tx extends SqlTag> = (riding: Riding) => Omit<Tx, keyof SqlTag>

/**
 * Rules for the writes of one scope: a job's run is fenced, a repeated request does not write twice. Writes that nest in
 * another are part of it and are not asked about.
 */
export interface ScopeRule {
  /** Called once for each write, as it is called for and so in the order of the calls. Returns the rule of that write. */
  begin(write: BeginningWrite): Promise<WriteRule>
}

export interface WriteRule {
  /** Asked before a write begins. A value stands for it: nothing runs. */
  recall?(): { value: unknown } | undefined
  /** Asked at its commit, with what the author's function returned. */
  ride(value: unknown): Ride | undefined
}

export interface BeginningWrite {
  readonly database: Database
  readonly module: string | undefined
  /** The name that its author gave it. */
  readonly step: string | undefined
}

/** From now on the rule holds for every write in this scope. */
export function ruleWrites(scope: Scope, rule: ScopeRule): void {
  scope.writeRule = rule
}

export function currentWriteRule(): ScopeRule | undefined {
  return currentScope()?.writeRule as ScopeRule | undefined
}

/** What `rung.expect` raises: a row that the commit depends on is no longer what it was. */
export const expectationFailed = 'RG001'
