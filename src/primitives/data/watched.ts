import { after, freshRun, sleep, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { type Place, parseLsn } from '../../kernel/position.ts'
import type { Connection, PoolCounts, Result, Statement, Target } from './contract.ts'
import { parseSnapshot, type Report, type Standing } from './freshness.ts'

/** One server of a database, with connections of its own for each target. */
export interface Server {
  readonly name: string
  connect(target: Target, deadlineAt: number): Promise<Connection>
  /** Breaks all connections at once, for a server that has stopped answering: what runs on them fails with `DATA_UNAVAILABLE`. */
  abandon(): void
  counts(target: Target): PoolCounts
  close(): Promise<void>
}

/** A server that does not answer within this time is away. */
const answerMsMax = 1_000

const ask: Statement = {
  text: `select pg_is_in_recovery() as standby,
    case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end::text as lsn,
    case when pg_is_in_recovery()
      then greatest(
        (select received_tli from pg_stat_wal_receiver),
        (select min_recovery_end_timeline from pg_control_recovery()),
        (select timeline_id from pg_control_checkpoint()))
      else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end as timeline,
    pg_current_snapshot()::text as snapshot`,
  values: [],
  name: undefined,
}

/** The snapshot is from before the place. */
export interface Answer extends Report {
  /** When the question was sent, ms on the monotonic clock. */
  readonly askedAt: number
}

/** One server, and what is known of it. */
export class WatchedServer implements Standing {
  readonly server: Server
  readonly isSpare: boolean
  last: Answer | undefined
  place: Place | undefined
  lagMs = Number.POSITIVE_INFINITY
  inRotation = false
  reads = 0
  /** Why it is not used. */
  trouble: string | undefined = 'it has not answered yet'
  #line: Connection | undefined
  #closed = false
  readonly #answered: (server: WatchedServer) => void

  /** @param answered called after each question, whether it was answered or not */
  constructor(server: Server, isSpare: boolean, answered: (server: WatchedServer) => void) {
    this.server = server
    this.isSpare = isSpare
    this.#answered = answered
  }

  get name(): string {
    return this.server.name
  }

  get isPrimary(): boolean {
    return this.last?.isPrimary === true
  }

  /** Asks the server. Resolves with the answer to a question that was sent after the call. */
  readonly look = freshRun(() => this.#ask())

  /** Runs a statement on the connection of the questions. */
  async run(statement: Statement): Promise<Result> {
    const line = await this.#connect()
    return within(answerMsMax, line.run(statement), () => this.#drop())
  }

  /** Notes that a connection to it failed. */
  away(error: unknown): void {
    this.last = undefined
    this.place = undefined
    this.trouble = messageOf(error)
    this.#answered(this)
  }

  close(): void {
    this.#closed = true
    this.#drop()
  }

  async #ask(): Promise<Answer> {
    const askedAt = systemClock.ticks()
    try {
      const { rows } = await this.run(ask)
      const { standby, lsn, timeline, snapshot } = rows[0] as Record<string, unknown>
      const known = parseLsn(String(lsn))
      if (known === undefined) throw new Error('it has replayed nothing yet')
      this.last = {
        isPrimary: standby === false,
        lsn: known,
        timeline: Number(timeline),
        snapshot: parseSnapshot(String(snapshot)),
        askedAt,
      }
      this.trouble = undefined
      this.#answered(this)
      return this.last
    } catch (error) {
      this.#drop()
      if (!this.#closed) this.away(error)
      throw error
    }
  }

  async #connect(): Promise<Connection> {
    if (this.#closed) throw new RungError('DATA_UNAVAILABLE', 'The database is closed, because the process stops.')
    const line = this.#line ?? (await this.server.connect('session', systemClock.ticks() + answerMsMax))
    if (this.#closed) {
      line.release(true)
      return this.#connect()
    }
    if (this.#line && this.#line !== line) line.release()
    else this.#line = line
    return this.#line
  }

  #drop(): void {
    this.#line?.release(true)
    this.#line = undefined
  }
}

/** Rejects when `work` takes longer, but not because this process was held up: then the answer may be there, unread. */
async function within<T>(ms: number, work: Promise<T>, late: () => void): Promise<T> {
  const { promise: silence, reject } = Promise.withResolvers<never>()
  let done = false
  const forget = after(ms, async () => {
    await sleep(1)
    if (done) return
    late()
    reject(new RungError('DATA_UNAVAILABLE', `The database server has not answered within ${ms} ms.`))
  })
  try {
    return await Promise.race([work, silence])
  } finally {
    done = true
    forget()
  }
}
