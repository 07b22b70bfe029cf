import type { Pool } from '../../engines/postgres/client.ts'
import { systemClock } from '../../kernel/clock.ts'
import { isRungError, RungError } from '../../kernel/errors.ts'
import { currentScope, inDoubt, type Scope } from '../../kernel/scope.ts'
import type { Connection, Database, Result, Statement } from './contract.ts'
import { outcomeUnknown } from './errors.ts'
import { askPlace, noteSeen, placeIn } from './place.ts'

/** Where the pool sends its statements: into the open transaction, or to the primary. */
export interface PoolRoute {
  database: Database
  /** The open transaction, if there is one. */
  transaction(): { run(statement: Statement): Promise<Result> } | undefined
  /** Resolves when the primary shows all that the scope has seen. */
  ready(): Promise<void>
  statement(connection: Connection, statement: Statement, waitMs: number): Promise<Result>
  guard(text: string): Promise<void> | undefined
  written(site: string): void
}

export interface PoolQuery {
  text: string
  values?: readonly unknown[]
  name?: string
  [driverOption: string]: unknown
}

type Callback<T> = (error: Error | undefined, value?: T) => void

/**
 * Shaped like `pg.Pool`, so that Kysely, Drizzle and others mount on it and get routing, positions, limits and metrics.
 * Inside an open `data.write` everything goes into that transaction: no second connection by accident.
 */
class RoutedPool {
  readonly #route: PoolRoute
  readonly options: { max: number }

  constructor(route: PoolRoute) {
    this.#route = route
    this.options = { max: route.database.counts('write').max }
  }

  get totalCount(): number {
    return this.#route.database.counts('write').total
  }

  get idleCount(): number {
    return this.#route.database.counts('write').idle
  }

  get waitingCount(): number {
    return this.#route.database.counts('write').waiting
  }

  query(query: string | PoolQuery, values?: readonly unknown[]): Promise<Result> {
    this.#route.written(textOf(query))
    const transaction = this.#route.transaction()
    if (transaction) return inside(transaction, query, values)
    return this.connect().then((client) => client.query(query, values).finally(() => client.release()))
  }

  connect(): Promise<RoutedClient>
  connect(callback: (error: Error | undefined, client?: RoutedClient, release?: () => void) => void): void
  connect(callback?: (error: Error | undefined, client?: RoutedClient, release?: () => void) => void) {
    const client = this.#connect()
    if (!callback) return client
    client.then(
      (value) => callback(undefined, value, () => value.release()),
      (error) => callback(error),
    )
  }

  async #connect(): Promise<RoutedClient> {
    const transaction = this.#route.transaction()
    if (transaction)
      return new RoutedClient(
        (query, values) => inside(transaction, query, values),
        () => {},
      )
    const scope = currentScope()
    const asked = systemClock.ticks()
    await this.#route.ready()
    const connection = await this.#route.database.connect({
      target: 'write',
      deadlineAt: scope?.deadlineAt ?? Number.POSITIVE_INFINITY,
    })
    const waitMs = systemClock.ticks() - asked
    return new RoutedClient(
      async (query, values) => {
        const statement = toStatement(query, values)
        const checking = this.#route.guard(statement.text)
        if (checking) await checking
        return this.#run(connection, statement, waitMs)
      },
      (broken) => connection.release(broken),
    )
  }

  /** The app owns the pool's life; a library that ends "its" pool must not take the app down. */
  async end(): Promise<void> {}

  on(): this {
    return this
  }

  /** A statement outside any transaction is one, and commits by itself. */
  async #run(connection: Connection, statement: Statement, waitMs: number): Promise<Result> {
    const scope = currentScope()
    const mayCommit = commits(statement.text, connection.inTransaction)
    const settle = mayCommit ? inDoubt(scope) : () => {}
    let result: Result
    try {
      result = await this.#route.statement(connection, statement, waitMs)
      settle()
    } catch (error) {
      if (mayCommit && isRungError(error, 'DATA_UNAVAILABLE')) throw outcomeUnknown(error)
      settle()
      throw error
    }
    if (scope && !connection.inTransaction && mayHaveCommitted(result.command)) {
      scope.wrote = true
      scope.repeatable = false
      await this.#advance(connection, scope)
    }
    return result
  }

  async #advance(connection: Connection, scope: Scope): Promise<void> {
    // It is committed, whatever becomes of this question.
    noteSeen(scope, this.#route.database, placeIn(await connection.run(askPlace).catch(() => undefined)))
  }
}

/** As those libraries know it: they use what `RoutedPool` has, and ask for all of `pg.Pool` in their types. */
export function routedPool(route: PoolRoute): Pool {
  return new RoutedPool(route) as unknown as Pool
}

/** Shaped like `pg.PoolClient`. */
export class RoutedClient {
  readonly #run: (query: string | PoolQuery, values?: readonly unknown[]) => Promise<Result>
  readonly #release: (broken: boolean) => void
  #released = false

  constructor(
    run: (query: string | PoolQuery, values?: readonly unknown[]) => Promise<Result>,
    release: (broken: boolean) => void,
  ) {
    this.#run = run
    this.#release = release
  }

  query(query: string | PoolQuery, values?: readonly unknown[]): Promise<Result>
  query(query: string | PoolQuery, values: readonly unknown[], callback: Callback<Result>): void
  query(query: string | PoolQuery, values?: readonly unknown[], callback?: Callback<Result>) {
    const result = this.#run(query, values)
    if (!callback) return result
    result.then((value) => callback(undefined, value), callback)
  }

  release(broken: boolean | Error = false): void {
    if (this.#released) return
    this.#released = true
    this.#release(broken !== false && broken !== undefined)
  }

  on(): this {
    return this
  }

  removeListener(): this {
    return this
  }
}

const readsOnly = new Set(['SELECT', 'SHOW', 'EXPLAIN', 'BEGIN', 'START', 'ROLLBACK', 'SET', 'SAVEPOINT', 'RELEASE'])
const readingText = /^\s*(select|show|explain|begin|start|set|savepoint|release|rollback|values|table|fetch)\b/i

/** Whether the server may commit when it runs this. */
function commits(text: string, inTransaction: boolean): boolean {
  return inTransaction ? /^\s*(commit|end|prepare\s+transaction)\b/i.test(text) : !readingText.test(text)
}

function mayHaveCommitted(command: string): boolean {
  return !readsOnly.has(command)
}

function inside(
  transaction: { run(statement: Statement): Promise<Result> },
  query: string | PoolQuery,
  values?: readonly unknown[],
): Promise<Result> {
  const statement = toStatement(query, values)
  if (/^\s*(begin|start\s+transaction|commit|end|rollback(?!\s+to))\b/i.test(statement.text)) {
    throw new RungError(
      'DATA_OUTSIDE_TRANSACTION',
      'A library tried to open or end a transaction inside data.write. Inside data.write its statements already are in one.',
    )
  }
  return transaction.run(statement)
}

function textOf(query: string | PoolQuery): string {
  return typeof query === 'string' ? query : query.text
}

function toStatement(query: string | PoolQuery, values: readonly unknown[] = []): Statement {
  if (typeof query === 'string') return { text: query, values, name: undefined }
  if (typeof query?.text !== 'string') {
    throw new RungError('DATA_STATEMENT', 'Cursors and streams do not run on data.pool; read in pages instead.')
  }
  const { text, values: own, name, ...driver } = query
  return { text, values: own ?? values, name, driver }
}
