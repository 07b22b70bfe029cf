import pg from 'pg'
import { after } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { type SessionLimits, sessionSettings } from './recipe.ts'
import { encode, parserOf } from './values.ts'

/** The pool that libraries for `pg` use. */
export type Pool = pg.Pool

/** Where a Postgres is, and how to sign in. */
export interface ConnectionConfig {
  /** `postgres://…`, or a folder with a Unix socket in `host`. */
  url?: string | undefined
  host?: string | undefined
  port?: number | undefined
  user?: string | undefined
  password?: string | undefined
  database?: string | undefined
  /**
   * Whether a transaction pooler stands between: consecutive transactions may run in different sessions of the server. The
   * pooler then makes the settings (`sessionSettings`), nothing is prepared by name, and LISTEN and session locks are refused.
   */
  pooled?: boolean | undefined
}

export type { SessionLimits }

export type Client = pg.Client
export type PooledClient = pg.PoolClient
export type QueryConfig = pg.QueryConfig & { rowMode?: 'array' }
export type QueryResult = pg.QueryResult

const pgTypes = { getTypeParser: (oid: number, format?: string) => (format === 'binary' ? identity : parserOf(oid)) }

function identity<T>(value: T): T {
  return value
}

function clientConfig(config: ConnectionConfig, limits: SessionLimits | undefined, readOnly: boolean): pg.ClientConfig {
  const { url, pooled, ...rest } = config
  const defined = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined))
  const isLocal = (config.host ?? socketOf(url))?.startsWith('/')
  const settings = Object.entries(sessionSettings(limits, readOnly)).map(([name, value]) => `-c ${name}=${value}`)
  return {
    ...(isLocal && onSocket),
    ...(url === undefined ? {} : { connectionString: withPort(url.replace(optionsInUrl, '$1'), isLocal) }),
    ...defined,
    application_name: 'rung',
    client_encoding: 'UTF8',
    keepAlive: true,
    connectionTimeoutMillis: 5_000,
    types: pgTypes as never,
    // A pooler refuses unknown startup parameters.
    ...(pooled ? { replication: undefined } : { options: [optionsOf(url), ...settings].join(' ').trim() }),
  } as pg.ClientConfig
}

/** Overrides what `pg` would take from the environment (`PGSSLMODE`, `PGPORT` …): on a Unix socket that is meant for another database. */
const onSocket = { port: 5432, ssl: false, sslnegotiation: 'postgres', replication: 'false' }

/** Returns the socket folder of a URL: `postgres://user@/database?host=/folder`. */
function socketOf(url: string | undefined): string | undefined {
  const host = url && /[?&]host=([^&]*)/.exec(url)?.[1]
  return host ? decodeURIComponent(host) : undefined
}

function withPort(url: string, isLocal: boolean | undefined): string {
  const hasPort = /[?&]port=|:\d+\//.test(url)
  return isLocal && !hasPort ? `${url}${url.includes('?') ? '&' : '?'}port=5432` : url
}

/** `options` of a URL would replace ours: they are removed from it and put before ours. */
const optionsInUrl = /([?&])options=([^&]*)&?/

function optionsOf(url: string | undefined): string {
  const found = url && optionsInUrl.exec(url)?.[2]
  return found ? decodeURIComponent(found) : ''
}

/** Opens a connection outside any pool, for set-up and locks. */
export async function connectOnce(config: ConnectionConfig): Promise<Client> {
  const client = new pg.Client(clientConfig(config, undefined, false))
  // Without a listener the `error` of a connection that dies while idle would end the process.
  client.on('error', () => {})
  await client.connect()
  return client
}

const cancelMsMax = 5_000

/**
 * Asks the server to cancel the statement of the client's session. Resolves when the server, or the pooler in front of it, has
 * accepted the request. (PostgreSQL documentation, "Canceling Requests in Progress".)
 */
export function cancelSession(config: ConnectionConfig, client: PooledClient): Promise<void> {
  const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
  const other = new pg.Client(clientConfig(config, undefined, false)) as unknown as CancelClient
  const { connection, host, port, ssl } = other
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const cancel = () => connection.cancel(processID, secretKey)
  connection.once('connect', () => {
    if (!ssl) cancel()
    else if (connection.sslNegotiation !== 'direct') connection.requestSsl()
  })
  connection.once('sslconnect', cancel)
  connection.once('end', resolve)
  connection.on('error', reject)
  if (host.startsWith('/')) connection.connect(`${host}/.s.PGSQL.${port}`)
  else connection.connect(port, host)
  const giveUp = after(cancelMsMax, () => connection.stream.destroy())
  return promise.finally(giveUp)
}

/** Parts of `pg` that its types do not declare. Its own `cancel` does not wait, and does not support TLS. */
interface CancelClient {
  readonly host: string
  readonly port: number
  readonly ssl: unknown
  readonly connection: {
    readonly sslNegotiation: string
    once(event: 'connect' | 'sslconnect' | 'end', listener: () => void): void
    on(event: 'error', listener: (error: Error) => void): void
    requestSsl(): void
    connect(...address: [port: number, host: string] | [socket: string]): void
    cancel(processId: number, secretKey: number): void
    readonly stream: { destroy(): void }
  }
}

export interface PoolConfig {
  connection: ConnectionConfig
  limits: SessionLimits
  readOnly: boolean
  connectionsMax: number
  idleTimeoutMs: number
}

/** The error with which the server ended an idle session: later statements only learn that the session has ended. */
const lastWords = new WeakMap<object, Error>()

export function lastWordsOf(client: PooledClient): Error | undefined {
  return lastWords.get(client)
}

/** Connections on which a commit was reported though no replica has confirmed it: its wait was cancelled, by a time limit or by hand. */
const unconfirmed = new WeakSet<object>()

/** Whether a commit of this connection may be lost with its server. (src/backend/replication/syncrep.c) */
export function isUnconfirmed(client: PooledClient): boolean {
  return unconfirmed.has(client)
}

/** Connections whose server is a replica. */
const onReplica = new WeakSet<object>()

/** Whether the server of this connection says that it is a replica. A pooler does not pass that on. */
export function isOnReplica(client: PooledClient): boolean {
  return onReplica.has(client)
}

/** The server reports `in_hot_standby` at the start of a session and when it changes (PostgreSQL documentation, "Asynchronous Operations"). */
class ReportingClient extends pg.Client {
  constructor(config?: pg.ClientConfig) {
    super(config)
    const { connection } = this as unknown as { connection: NodeJS.EventEmitter }
    connection.on('parameterStatus', ({ parameterName, parameterValue }: Record<string, string>) => {
      if (parameterName !== 'in_hot_standby') return
      if (parameterValue === 'on') onReplica.add(this)
      else onReplica.delete(this)
    })
  }
}

/** Creates a pool of pipelining connections: statements that do not wait for each other share a round trip. */
export function createPool(config: PoolConfig): Pool {
  const pool = new pg.Pool({
    ...clientConfig(config.connection, config.limits, config.readOnly),
    max: config.connectionsMax,
    idleTimeoutMillis: config.idleTimeoutMs,
    pipeline: true,
    Client: ReportingClient,
  } as pg.PoolConfig)
  // A connection that dies emits `error` on itself (in use) or on the pool (idle). Its statement gets the error too, and the
  // pool replaces it. Without a listener either would end the process.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', (error) => lastWords.get(client) ?? lastWords.set(client, error)))
  pool.on('connect', (client) =>
    client.on('notice', ({ routine }) => void (routine === 'SyncRepWaitForLSN' && unconfirmed.add(client))),
  )
  const open = new Set<PooledClient>()
  pool.on('connect', (client) => void open.add(client))
  pool.on('remove', (client) => void open.delete(client))
  openClients.set(pool, open)
  return pool
}

const openClients = new WeakMap<Pool, ReadonlySet<PooledClient>>()

/** Closes the sockets of all connections, also of those in use, without a word to the server. */
export function breakConnections(pool: Pool): void {
  for (const client of openClients.get(pool) ?? []) breakConnection(client)
}

/** Closes the socket without a word to the server. What waits for an answer fails. */
export function breakConnection(client: PooledClient): void {
  const { connection } = client as unknown as { connection: { stream: { destroy(): void } } }
  connection.stream.destroy()
}

/** PostgreSQL documentation, "Message Formats", Bind (its numbers have 16 bits), and MaxAllocSize. */
const parametersMax = 65_535
const bytesMax = 2 ** 30 - 1

/**
 * Sends statements in one packet. If one fails, the server skips those after it, and they fail with its error.
 * @throws DATA_STATEMENT, DATA_VALUE before anything is sent, if a value cannot be sent
 */
export function queryTogether(client: PooledClient, statements: readonly QueryConfig[]): Promise<QueryResult>[] {
  const group = new Group(statements)
  client.query(group)
  return group.answers
}

/** Sends a text without values; it may contain several statements. */
export function queryPlain(client: PooledClient, statement: QueryConfig): Promise<QueryResult> {
  const { promise, resolve, reject } = Promise.withResolvers<QueryResult>()
  client.query(new Plain(statement, (error, result) => (error ? reject(error) : resolve(result))) as never)
  return promise
}

/** Errors of prepared statements that became outdated; the next run prepares them again. */
const staleErrors = new WeakSet<object>()

/** Whether a statement failed only because its prepared form is outdated. It has had no effect. */
export function isStale(error: unknown): boolean {
  return typeof error === 'object' && error !== null && staleErrors.has(error)
}

function copyRefused(): RungError {
  return new RungError(
    'DATA_STATEMENT',
    'COPY from STDIN and to STDOUT need a stream of their own and do not run here. Insert many rows with insert … select from unnest(…), or copy with psql.',
  )
}

const PgQuery = pg.Query as unknown as new (
  config: QueryConfig,
  values: undefined,
  callback: (error: Error | undefined, result: QueryResult) => void,
) => { _canceledDueToError: unknown }

class Plain extends PgQuery {
  constructor(statement: QueryConfig, callback: (error: Error | undefined, result: QueryResult) => void) {
    super(statement, undefined, callback)
  }

  handleCopyInResponse(wire: Wire): void {
    this._canceledDueToError = copyRefused()
    wire.sendCopyFail('COPY is refused')
  }

  handleCopyData(): void {
    this._canceledDueToError ||= copyRefused()
  }
}

/** Parts of a `pg` connection that its types do not declare. */
interface Wire {
  readonly stream: { cork(): void; uncork(): void }
  readonly parsedStatements: Record<string, string>
  readonly submittedNamedStatements: Record<string, string>
  parse(statement: { name: string | undefined; text: string }): void
  bind(portal: { statement: string | undefined; values: unknown[] }): void
  /** Forgets a prepared statement; no error if there is none. */
  close(statement: { type: 'S'; name: string }): void
  describe(portal: { type: 'P'; name: '' }): void
  execute(portal: object): void
  sync(): void
  sendCopyFail(reason: string): void
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
  /** Whether its columns are in `rows` already. */
  described: boolean
  /** Whether an earlier message prepared it. */
  prepared: boolean
  failure?: Error
}

/** The columns of prepared statements by connection. The server refuses to change them, so they are asked for once. */
const describedOn = new WeakMap<Wire, Map<string, Fields>>()

/** For `pg` this is one query. It reads `name` and `text` after each answer, so they are those of the current member. */
class Group extends (pg.Query as unknown as new (text: string) => { name: string | undefined; text: string }) {
  readonly answers: Promise<QueryResult>[]
  readonly #members: Member[] = []
  #at = 0
  #described!: Map<string, Fields>

  constructor(statements: readonly QueryConfig[]) {
    super('')
    this.answers = statements.map(({ name, text, values: given = [], types = pgTypes, rowMode }) => {
      const { promise, resolve, reject } = Promise.withResolvers<QueryResult>()
      const rows = new Rows(rowMode, types)
      // Encoded before anything is sent, because it may throw.
      const values = toParameters(given)
      this.#members.push({ name, text, values, rows, resolve, reject, described: false, prepared: false })
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
    member.prepared = name !== undefined && (name in wire.parsedStatements || name in wire.submittedNamedStatements)
    if (!member.prepared) {
      if (name !== undefined) {
        wire.close({ type: 'S', name }) // an outdated one
        wire.submittedNamedStatements[name] = text
      }
      wire.parse({ name, text })
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

  handleCopyInResponse(wire: Wire): void {
    this.#members[this.#at]!.failure ??= copyRefused()
    wire.sendCopyFail('COPY is refused')
    wire.sync() // the server ignored the first one during the copy
  }

  handleCopyData(): void {
    this.#members[this.#at]!.failure ??= copyRefused()
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

  /** Answers wait until here: before, the state of the connection is unknown. */
  handleReadyForQuery(): void {
    for (const { failure, rows, resolve, reject } of this.#members) failure ? reject(failure) : resolve(rows)
  }

  handleError(error: Error, wire: Wire): void {
    for (const [index, { name, failure, rows, prepared, resolve, reject }] of this.#members.entries()) {
      const isCause = index === this.#at
      if (isCause && name !== undefined && prepared && mayBeStale(error)) {
        staleErrors.add(error)
        // The same change has outdated others.
        for (const known of Object.keys(wire.parsedStatements)) delete wire.parsedStatements[known]
        this.#described.clear()
      }
      if (index < this.#at) failure ? reject(failure) : resolve(rows)
      else {
        if (name !== undefined) delete wire.submittedNamedStatements[name]
        reject((isCause && failure) || error)
      }
    }
  }
}

/**
 * Whether a prepared statement cannot be planned any more: its columns changed (0A000, "cached plan must not change result type"),
 * its names mean something else (42), or the session has forgotten it (26000).
 */
function mayBeStale(error: Error): boolean {
  const { code = '', routine } = error as { code?: string; routine?: string }
  return (code === '0A000' && routine === 'RevalidateCachedQuery') || code === '26000' || code.startsWith('42')
}

function toParameters(values: readonly unknown[]): (string | Buffer | null)[] {
  if (values.length > parametersMax) {
    throw new RungError(
      'DATA_STATEMENT',
      `The statement has ${values.length} parameters, but Postgres accepts at most ${parametersMax}. Pass each column as one array (unnest), or send several statements.`,
    )
  }
  const parameters = values.map(encode)
  const length = parameters.reduce((sum, parameter) => sum + (parameter?.length ?? 0), 0)
  // A character takes at most three bytes: bytes are counted only if that could be too many.
  if (
    length * 3 > bytesMax &&
    parameters.reduce((sum, each) => sum + (each ? Buffer.byteLength(each) : 0), 0) > bytesMax
  ) {
    throw new RungError(
      'DATA_VALUE',
      'The values of a statement are larger than 1 GB, which Postgres does not accept. Send less at once.',
    )
  }
  return parameters
}

/** A connection that receives notifications. */
export interface Listening {
  /** Resolves when the connection has ended. */
  closed: Promise<void>
  close(): void
}

export async function listen(
  config: ConnectionConfig,
  channel: string,
  heard: (payload: string) => void,
): Promise<Listening> {
  if (config.pooled) throw new Error('LISTEN needs a session of its own, which a pooler does not provide')
  const client = await connectOnce(config)
  const closed = new Promise<void>((resolve) => client.once('end', () => resolve()))
  client.on('notification', ({ payload }) => heard(payload ?? ''))
  await client.query(`listen ${pg.escapeIdentifier(channel)}`).catch(async (error) => {
    await client.end()
    throw error
  })
  return { closed, close: () => void client.end().catch(() => {}) }
}

/** A replication connection: commands instead of SQL, and a stream of bytes both ways. */
export interface ReplicationClient {
  /** Runs a command such as `IDENTIFY_SYSTEM`, and returns its row. */
  command(text: string): Promise<Record<string, string>>
  /** Runs a command that answers with a stream; resolves when the server has ended it. A chunk is valid only during `onChunk`. */
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
