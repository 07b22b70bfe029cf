import type { Client } from '../engines/postgres/client.ts'
import { messageOf } from '../kernel/errors.ts'
import { toDataError } from '../primitives/data/errors.ts'
import {
  extensionQuery,
  foreignKeysQuery,
  indexesQuery,
  lockedQuery,
  serverQuery,
  sessionsQuery,
  settingsQuery,
  statementsQuery,
  tablesQuery,
} from './queries.ts'

/** What is known of a database. Names called `sql` are quoted where they must be, and have their schema. */
export interface Facts {
  server: Server
  settings: Readonly<Record<string, string>>
  sessions: readonly Session[]
  tables: readonly Table[]
  indexes: readonly Index[]
  foreignKeys: readonly ForeignKey[]
  /** Those that take the most time, first. */
  statements: readonly Statement[]
  /** How many there are in all; undefined where they cannot be seen. */
  statementsSeen: number | undefined
  gaps: readonly Gap[]
}

/** Something that could not be found out. */
export interface Gap {
  about: 'statements' | 'privileges' | 'catalog' | 'verification'
  reason: string
}

export interface Server {
  version: string
  versionNumber: number
  database: string
  role: string
  superuser: boolean
  /** Of the database, as SQL. */
  owner: string
  sizeBytes: number
  standby: boolean
  replicas: number
  /** ISO 8601 */
  now: string
  /** How long the counters have been running. */
  statsSeconds: number | null
  pagesHit: number
  pagesRead: number
  transactionAge: number
  multixactAge: number
  connectionsMax: number
  connectionsUsed: number
}

export interface Session {
  pid: number
  user: string | null
  application: string
  state: string | null
  hidden: boolean
  query: string
  transactionSeconds: number
  stateSeconds: number
  waitSeconds: number
  blockedBy: number[]
}

export interface Table {
  oid: number
  schema: string
  name: string
  sql: string
  owner: string
  partitioned: boolean
  partition: boolean
  rows: number
  heapBytes: number
  /** With what is stored out of line, without indexes. */
  sizeBytes: number
  liveRows: number
  deadRows: number
  changedRows: number
  deleted: number
  writes: number
  fullScans: number
  fullScanRows: number
  indexScans: number
  vacuumedSeconds: number | null
  analyzedSeconds: number | null
  hasStatistics: boolean
  autovacuum: boolean
  fillfactor: number
  /** Dead rows, and changed rows, from which autovacuum takes the table up. */
  vacuumTrigger: number
  analyzeTrigger: number
  transactionAge: number
  columns: Column[]
}

export interface Column {
  name: string
  sql: string
  width: number
  /** Distinct values; 0 where unknown. */
  distinct: number
}

export interface Index {
  oid: number
  tableOid: number
  name: string
  sql: string
  method: string
  unique: boolean
  nullsEqual: boolean
  valid: boolean
  building: boolean
  replicaIdentity: boolean
  /** A column or an expression each, as SQL. */
  keys: string[]
  /** The keys with operator class, collation and direction. */
  signature: string[]
  included: string[]
  predicate: string | null
  definition: string
  constraintName: string | null
  constraintDefinition: string | null
  /** A foreign key leads to it. */
  referenced: boolean
  scans: number
  sizeBytes: number
}

export interface ForeignKey {
  name: string
  tableOid: number
  referencedOid: number
  columns: string[]
}

export interface Statement {
  id: string
  text: string
  calls: number
  totalMs: number
  meanMs: number
  rows: number
  /** Of the time of all statements, 0 to 1. */
  share: number
}

type StatementRow = Omit<Statement, 'meanMs' | 'share'> & {
  hidden: boolean
  allMs: number
  all: number
  allHidden: number
}

/**
 * Looks at the database. What is not there or not permitted becomes a gap, and the rest is still found.
 * @throws DATA_* when not even the version can be read
 */
export async function collectFacts(client: Client): Promise<Facts> {
  const gaps: Gap[] = []

  async function part<Row>(about: Gap['about'], query: string): Promise<Row[] | undefined> {
    return ask<Row>(client, query).catch((error) => {
      gaps.push({ about, reason: messageOf(error) })
      return undefined
    })
  }

  const [server] = await ask<Server>(client, serverQuery).catch((error) => {
    throw toDataError(error)
  })
  const settings = await part<{ name: string; setting: string }>('catalog', settingsQuery)
  const sessions = (await part<Session>('catalog', sessionsQuery)) ?? []
  const locked = await part<{ sql: string }>('catalog', lockedQuery)
  for (const { sql } of locked ?? []) gaps.push({ about: 'catalog', reason: `${sql} is locked by another session` })
  const tables = await part<Table>('catalog', tablesQuery)
  const indexes = await part<Index>('catalog', indexesQuery)
  const foreignKeys = await part<ForeignKey>('catalog', foreignKeysQuery)
  const [extension] = (await part<{ schema: string }>('catalog', extensionQuery)) ?? []
  if (!extension) gaps.push({ about: 'statements', reason: 'the extension pg_stat_statements is not installed' })
  const rows = (extension && (await part<StatementRow>('statements', statementsQuery(extension.schema)))) ?? []
  const hidden = sessions.filter((session) => session.hidden).length + (rows[0]?.allHidden ?? 0)
  if (hidden > 0) gaps.push({ about: 'privileges', reason: `${hidden} sessions and statements of others are hidden` })

  return {
    server: server!,
    settings: Object.fromEntries((settings ?? []).map(({ name, setting }) => [name, setting])),
    sessions,
    // A table whose indexes are unknown would seem to have none: better to say nothing of any.
    tables: indexes && tables ? tables.map((table) => ({ ...table, columns: table.columns ?? [] })) : [],
    indexes: indexes ?? [],
    foreignKeys: foreignKeys ?? [],
    statements: rows.filter((row) => !row.hidden).map(statementOf),
    statementsSeen: gaps.some(({ about }) => about === 'statements') ? undefined : (rows[0]?.all ?? 0),
    gaps,
  }
}

function statementOf({ id, text, calls, totalMs, rows, allMs }: StatementRow): Statement {
  return {
    id,
    text,
    calls,
    totalMs,
    rows,
    meanMs: totalMs / Math.max(1, calls),
    share: totalMs / Math.max(allMs, 1e-9),
  }
}

/** One reading transaction for one query, so that a refusal spoils nothing else; bounded, also while waiting. */
async function ask<Row>(client: Client, query: string): Promise<Row[]> {
  try {
    const results: unknown = await client.query(
      `begin read only; set local statement_timeout = '10s'; set local lock_timeout = '200ms'; ${query}; commit`,
    )
    return (results as { rows: Row[] }[])[3]!.rows
  } catch (error) {
    await client.query('rollback')
    throw error
  }
}
