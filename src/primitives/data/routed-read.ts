import { type Place, placeSql } from '../../kernel/position.ts'
import type { Connection, Result, Statement } from './contract.ts'
import { isOutdated, otherPrimary, sqlState } from './errors.ts'
import type { WatchedServer } from './watched.ts'

/** Behind a read, on whichever server. The end of the primary's log covers what is not written out yet. */
const askSeen: Statement = {
  text: `select case when pg_is_in_recovery() then pg_last_wal_replay_lsn()::text
    else ${placeSql('pg_current_wal_insert_lsn()')} end as place`,
  values: [],
  name: 'rung_seen',
}

/** A connection of one server. */
export interface Lent {
  connection: Connection
  server: WatchedServer
  /** Returns the place that `askSeen` was answered with. */
  seenIn(answer: Result): Place | undefined
  mayRunElsewhere(error: unknown): boolean
  release(broken?: boolean): void
}

/** A connection that says so when its server turns out to be no primary any more, as after a failover. */
export class OnPrimary implements Connection {
  readonly #connection: Connection
  readonly #server: WatchedServer

  constructor(connection: Connection, server: WatchedServer) {
    this.#connection = connection
    this.#server = server
  }

  get inTransaction(): boolean {
    return this.#connection.inTransaction
  }

  run(statement: Statement): Promise<Result> {
    return this.#connection.run(statement).catch((error) => this.#explain(error))
  }

  runTogether(statements: readonly Statement[]): Promise<Result>[] {
    return this.#connection.runTogether(statements).map((answer) => answer.catch((error) => this.#explain(error)))
  }

  cancel(): Promise<void> {
    return this.#connection.cancel()
  }

  release(broken?: boolean): void {
    this.#connection.release(broken)
  }

  /** Servers refuse to write when their disk is full, and as replicas, with the same error (25006). */
  async #explain(error: unknown): Promise<never> {
    if (sqlState(error) !== '25006') throw error
    const answer = await this.#server.look().catch(() => undefined)
    if (answer?.isPrimary) throw error
    throw otherPrimary(error)
  }
}

/** A connection for a reader, which moves on to another server when one is lost. */
export class RoutedRead implements Connection {
  readonly inTransaction = false
  readonly #lend: (avoid: ReadonlySet<WatchedServer>) => Promise<Lent>
  readonly #avoid = new Set<WatchedServer>()
  readonly #all: Lent[]
  #now: Lent
  #moving: Promise<Lent> | undefined

  constructor(first: Lent, lend: (avoid: ReadonlySet<WatchedServer>) => Promise<Lent>) {
    this.#now = first
    this.#all = [first]
    this.#lend = lend
  }

  async run(statement: Statement): Promise<Result> {
    let lent = this.#now
    for (;;) {
      try {
        return await runAndSee(lent, statement)
      } catch (error) {
        if (!lent.mayRunElsewhere(error)) throw error
        lent = await this.#moveOn(lent)
      }
    }
  }

  runTogether(statements: readonly Statement[]): Promise<Result>[] {
    const { connection, seenIn } = this.#now
    const answers = connection.runTogether([...statements, askSeen])
    const asked = answers.pop()!
    asked.catch(() => {})
    return answers.map(async (answer) => ({ ...(await answer), seen: seenIn(await asked) }))
  }

  async cancel(): Promise<void> {
    await Promise.all(this.#all.map(({ connection }) => connection.cancel()))
  }

  release(broken = false): void {
    for (const lent of this.#all) lent.release(broken)
  }

  /** Statements that failed together move together. */
  #moveOn(from: Lent): Promise<Lent> | Lent {
    if (this.#now !== from) return this.#now
    this.#moving ??= this.#next(from).finally(() => {
      this.#moving = undefined
    })
    return this.#moving
  }

  async #next(from: Lent): Promise<Lent> {
    this.#avoid.add(from.server)
    const lent = await this.#lend(this.#avoid)
    this.#all.push(lent)
    this.#now = lent
    return lent
  }
}

async function runAndSee(lent: Lent, statement: Statement): Promise<Result> {
  // A text without values may be several statements, which only a message of its own can carry.
  if (statement.name === undefined && statement.values.length === 0) {
    const answer = lent.connection.run(statement)
    return { ...(await answer), seen: lent.seenIn(await lent.connection.run(askSeen)) }
  }
  const [answer, asked] = lent.connection.runTogether([statement, askSeen])
  asked!.catch(() => {})
  let result: Result
  try {
    result = await answer!
  } catch (error) {
    if (!isOutdated(error)) throw error
    result = await lent.connection.run(statement) // it is prepared anew
    return { ...result, seen: lent.seenIn(await lent.connection.run(askSeen)) }
  }
  return { ...result, seen: lent.seenIn(await asked!) }
}
