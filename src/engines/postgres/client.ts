import pg from 'pg'
// @ts-expect-error it has no types
import { prepareValue } from 'pg/lib/utils.js'

/** What libraries for `pg` mount on. */
export type Pool = pg.Pool

/** The only door to the `pg` client: what a connection needs, and how values become JavaScript. */
export interface ConnectionConfig {
  /** `postgres://…`, or a folder with a Unix socket in `host`. */
  url?: string | undefined
  host?: string | undefined
  port?: number | undefined
  user?: string | undefined
  password?: string | undefined
  database?: string | undefined
}

export interface SessionLimits {
  statementTimeoutMs: number
  lockTimeoutMs: number
  idleInTransactionTimeoutMs: number
}

export type Client = pg.Client
export type PooledClient = pg.PoolClient
export type ClientPool = pg.Pool
export type QueryConfig = pg.QueryConfig & { rowMode?: 'array' }
export type QueryResult = pg.QueryResult

const int8 = 20
const int8Array = 1016
const int4Array = 1007
const date = 1082

function toSafeInteger(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value)) {
    throw new RangeError(`the bigint ${text} does not fit a JavaScript number; select it as text (column::text)`)
  }
  return value
}

/** `bigint` becomes a number (an error beyond 2^53, never a wrong digit); `date` stays text, since it has no time zone. */
function typeParser(oid: number, format: 'text' | 'binary' = 'text'): (value: string) => unknown {
  if (format === 'text') {
    if (oid === int8) return toSafeInteger
    if (oid === date) return (value) => value
    if (oid === int8Array) return parserOf(int4Array, format) // splits alike, and yields numbers
  }
  return parserOf(oid, format)
}

function parserOf(oid: number, format: 'text' | 'binary'): (value: string) => unknown {
  return pg.types.getTypeParser(oid as never, format as 'text') as (value: string) => unknown
}

function clientConfig(config: ConnectionConfig, limits: SessionLimits | undefined, readOnly: boolean): pg.ClientConfig {
  const { url, ...rest } = config
  const defined = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined))
  return {
    ...(url === undefined ? {} : { connectionString: readOnly ? url.replace(optionsInUrl, '$1') : url }),
    ...defined,
    application_name: 'rung',
    keepAlive: true,
    connectionTimeoutMillis: 5_000,
    types: { getTypeParser: typeParser } as never,
    ...(limits && {
      statement_timeout: limits.statementTimeoutMs,
      lock_timeout: limits.lockTimeoutMs,
      idle_in_transaction_session_timeout: limits.idleInTransactionTimeoutMs,
    }),
    ...(readOnly && { options: `${optionsOf(url)} -c default_transaction_read_only=on`.trim() }),
  }
}

/** `options` of a URL would replace ours: it is taken out of it and put before them. */
const optionsInUrl = /([?&])options=([^&]*)&?/

function optionsOf(url: string | undefined): string {
  const found = url && optionsInUrl.exec(url)?.[2]
  return found ? decodeURIComponent(found) : ''
}

/** One connection outside any pool, for set-up, locks and cancelling. */
export async function connectOnce(config: ConnectionConfig): Promise<Client> {
  const client = new pg.Client(clientConfig(config, undefined, false))
  // A connection that dies while idle emits `error`; without a listener that would end the process.
  client.on('error', () => {})
  await client.connect()
  return client
}

export interface PoolConfig {
  connection: ConnectionConfig
  limits: SessionLimits
  readOnly: boolean
  connectionsMax: number
  idleTimeoutMs: number
}

/**
 * A pool of pipelining connections: statements that are sent without waiting for each other share a round trip.
 */
export function createPool(config: PoolConfig): ClientPool {
  const pool = new pg.Pool({
    ...clientConfig(config.connection, config.limits, config.readOnly),
    max: config.connectionsMax,
    idleTimeoutMillis: config.idleTimeoutMs,
    pipeline: true,
  } as pg.PoolConfig)
  // A connection that dies emits `error` on itself (in use) or on the pool (idle); the statement in hand gets the error
  // too, and the pool replaces the connection. Without a listener either would end the process.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

/**
 * Sends statements as one message: one packet each way, and one turn of the server. When one fails the server skips those
 * behind it, and they fail with its error.
 */
export function queryTogether(client: PooledClient, statements: readonly QueryConfig[]): Promise<QueryResult>[] {
  const group = new Group(statements)
  client.query(group)
  return group.answers
}

/** What `pg` has on a connection and does not tell of in its types. */
interface Wire {
  readonly stream: { cork(): void; uncork(): void }
  readonly parsedStatements: Record<string, string>
  readonly submittedNamedStatements: Record<string, string>
  parse(statement: { name: string | undefined; text: string }): void
  bind(portal: { statement: string | undefined; values: unknown[] }): void
  describe(portal: { type: 'P'; name: '' }): void
  execute(portal: object): void
  sync(): void
}

type Fields = readonly object[]

interface Rows extends QueryResult {
  addFields(fields: Fields): void
  parseRow(values: unknown): never
  addRow(row: never): void
  addCommandComplete(message: unknown): void
}

const Rows = (pg as unknown as { Result: new (rowMode: unknown, types: unknown) => Rows }).Result

interface Member {
  readonly name: string | undefined
  readonly text: string
  readonly values: unknown[]
  readonly rows: Rows
  readonly resolve: (rows: Rows) => void
  readonly reject: (error: Error) => void
  /** Its columns are in `rows`. */
  described: boolean
  failure?: Error
}

/** The columns of what is prepared on a connection: they cannot change, so the server is asked for them once. */
const describedOn = new WeakMap<Wire, Map<string, Fields>>()

/** For `pg` it is one query, of which it notes what is prepared under `name` and `text`: those of the member in turn. */
class Group extends (pg.Query as unknown as new (text: string) => { name: string | undefined; text: string }) {
  readonly answers: Promise<QueryResult>[]
  readonly #members: Member[] = []
  #at = 0
  #described!: Map<string, Fields>

  constructor(statements: readonly QueryConfig[]) {
    super('')
    this.answers = statements.map(({ name, text, values = [], types = { getTypeParser: typeParser }, rowMode }) => {
      const { promise, resolve, reject } = Promise.withResolvers<QueryResult>()
      const rows = new Rows(rowMode, types)
      // Prepared here, since nothing must be on its way when a value turns out to have no form that could be sent.
      this.#members.push({ name, text, values: values.map(prepareValue), rows, resolve, reject, described: false })
      return promise
    })
    this.#turn(0)
  }

  #turn(at: number): void {
    this.#at = at
    const member = this.#members[at]
    if (member) ({ name: this.name, text: this.text } = member)
  }

  submit = (connection: unknown): void => {
    const wire = connection as Wire
    this.#described = describedOn.get(wire) ?? new Map()
    describedOn.set(wire, this.#described)
    wire.stream.cork()
    for (const member of this.#members) this.#send(member, wire)
    wire.sync()
    wire.stream.uncork()
  }

  #send(member: Member, wire: Wire): void {
    const { name, text, values, rows } = member
    if (name === undefined || !(name in wire.parsedStatements || name in wire.submittedNamedStatements)) {
      wire.parse({ name, text })
      if (name !== undefined) wire.submittedNamedStatements[name] = text
    }
    wire.bind({ statement: name, values })
    const known = name === undefined ? undefined : this.#described.get(name)
    if (known === undefined) wire.describe({ type: 'P', name: '' })
    else if (known.length > 0) rows.addFields(known)
    member.described = known !== undefined
    wire.execute({})
  }

  handleRowDescription({ fields }: { fields: Fields }): void {
    this.#members[this.#at]!.rows.addFields(fields)
  }

  handleDataRow({ fields }: { fields: unknown }): void {
    const member = this.#members[this.#at]!
    if (member.failure) return
    try {
      member.rows.addRow(member.rows.parseRow(fields))
    } catch (error) {
      member.failure = error as Error
    }
  }

  handleCommandComplete(message: unknown): void {
    const { name, rows, described } = this.#members[this.#at]!
    rows.addCommandComplete(message)
    if (name !== undefined && !described) this.#described.set(name, rows.fields)
    this.#turn(this.#at + 1)
  }

  handleEmptyQuery(): void {
    this.#turn(this.#at + 1)
  }

  /** Only now are the answers given: before, the state of the connection is not known. */
  handleReadyForQuery(): void {
    for (const { failure, rows, resolve, reject } of this.#members) failure ? reject(failure) : resolve(rows)
  }

  handleError(error: Error, wire: Wire): void {
    const members = this.#members.entries()
    for (const [index, { name, failure, rows, resolve, reject }] of members) {
      if (index < this.#at) failure ? reject(failure) : resolve(rows)
      else {
        if (name !== undefined) delete wire.submittedNamedStatements[name]
        reject(error)
      }
    }
  }
}

/** A connection that hears what others NOTIFY. */
export interface Listening {
  /** When it has ended, whichever way. */
  closed: Promise<void>
  close(): void
}

export async function listen(
  config: ConnectionConfig,
  channel: string,
  heard: (payload: string) => void,
): Promise<Listening> {
  const client = await connectOnce(config)
  const closed = new Promise<void>((resolve) => client.once('end', () => resolve()))
  client.on('notification', ({ payload }) => heard(payload ?? ''))
  await client.query(`listen ${pg.escapeIdentifier(channel)}`).catch(async (error) => {
    await client.end()
    throw error
  })
  return { closed, close: () => void client.end().catch(() => {}) }
}

/**
 * A connection to the server's replication side: commands instead of SQL, and a stream of bytes both ways. `pg` knows the
 * messages and offers no method for them.
 */
export interface ReplicationClient {
  /** A command such as `IDENTIFY_SYSTEM`; its row. */
  command(text: string): Promise<Record<string, string>>
  /** A command that answers with a stream; resolves when the server has ended it. A chunk is valid only during `onChunk`. */
  stream(text: string, onChunk: (chunk: Buffer) => void): Promise<void>
  send(chunk: Buffer): void
  pause(): void
  resume(): void
  end(): Promise<void>
}

interface ReplicationWire {
  on(event: 'copyData', listener: (message: { chunk: Buffer }) => void): void
  off(event: 'copyData', listener: (message: { chunk: Buffer }) => void): void
  sendCopyFromChunk(chunk: Buffer): void
  readonly stream: { pause(): void; resume(): void }
}

export async function connectReplication(config: ConnectionConfig): Promise<ReplicationClient> {
  const client = new pg.Client({ ...clientConfig(config, undefined, false), replication: 'true' } as pg.ClientConfig)
  client.on('error', () => {})
  await client.connect()
  const wire = (client as unknown as { connection: ReplicationWire }).connection
  return {
    async command(text) {
      return (await client.query(text)).rows[0] ?? {}
    },
    async stream(text, onChunk) {
      const listener = ({ chunk }: { chunk: Buffer }) => onChunk(chunk)
      wire.on('copyData', listener)
      await client.query(text).finally(() => wire.off('copyData', listener))
    },
    send: (chunk) => wire.sendCopyFromChunk(chunk),
    pause: () => wire.stream.pause(),
    resume: () => wire.stream.resume(),
    end: () => client.end(),
  }
}
