import type { Client } from '../engines/postgres/client.ts'
import { messageOf } from '../kernel/errors.ts'
import { ownText } from '../kernel/own-text.ts'
import { toDataError } from '../primitives/data/errors.ts'

/** Part of every query of the doctor, so that it does not diagnose itself. */
export const marker = '/* rung:doctor */'

const serverQuery = ownText(import.meta.url, './server.sql')
const sessionsQuery = ownText(import.meta.url, './sessions.sql')
const tablesQuery = ownText(import.meta.url, './tables.sql')
const indexesQuery = ownText(import.meta.url, './indexes.sql')
const foreignKeysQuery = ownText(import.meta.url, './foreign-keys.sql')
const statementsQuery = ownText(import.meta.url, './statements.sql')
const settingsQuery = `select ${marker} name, setting from pg_settings`
const extensionQuery = `select ${marker} quote_ident(n.nspname) as schema from pg_extension e
  join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'`

/** What is known about a database. Names called `sql` are quoted where they must be, and include their schema. */
export interface Facts {
  server: Server
  settings: Readonly<Record<string, string>>
  sessions: readonly Session[]
  tables: readonly Table[]
  indexes: readonly Index[]
  foreignKeys: readonly ForeignKey[]
  /** Those that take the most time come first. */
  statements: readonly Statement[]
  /** How many statements there are; undefined where they cannot be seen. */
  statementsSeen: number | undefined
  gaps: readonly Gap[]
}

/** Something that could not be examined. */
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
  /** Whether it sees other roles' sessions and statements, and the lag of replicas. */
  monitors: boolean
  /** Whether it may create schemas and extensions in this database. */
  creates: boolean
  replicates: boolean
  /** The owner of the database, as SQL. */
  owner: string
  sizeBytes: number
  standby: boolean
  replicas: number
  /** ISO 8601 */
  now: string
  /** Age of the counters. */
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
  /** Includes what is stored out of line, without indexes. */
  sizeBytes: number
  indexBytes: number
  liveRows: number
  deadRows: number
  changedRows: number
  deleted: number
  writes: number
  /** Full scans and index scans. */
  scans: number
  vacuumedSeconds: number | null
  analyzedSeconds: number | null
  hasStatistics: boolean
  autovacuum: boolean
  /** Dead rows, and changed rows, at which autovacuum starts on the table. */
  vacuumTrigger: number
  analyzeTrigger: number
  transactionAge: number
  columns: Column[]
}

export interface Column {
  name: string
  sql: string
  /** Distinct values; 0 if unknown. */
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
  /** Columns or expressions, as SQL. */
  keys: string[]
  /** The keys with operator class, collation and direction. */
  signature: string[]
  included: string[]
  predicate: string | null
  definition: string
  constraintName: string | null
  constraintDefinition: string | null
  /** A foreign key rests on it. */
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
  /** Share of the time of all statements, 0 to 1. */
  share: number
}

type StatementRow = Omit<Statement, 'meanMs' | 'share'> & {
  hidden: boolean
  allMs: number
  all: number
  allHidden: number
}

/**
 * Reads the catalogs and counters. What is missing or not permitted becomes a gap, and the rest is still read. No lock is
 * taken that anybody waits for.
 * @throws DATA_* when not even the version can be read
 */
export async function collectFacts(client: Client): Promise<Facts> {
  const gaps: Gap[] = []

  async function part<Row>(about: Gap['about'], query: string, searchPath?: string): Promise<Row[] | undefined> {
    return ask<Row>(client, query, searchPath).catch((error) => {
      gaps.push({ about, reason: messageOf(error) })
      return undefined
    })
  }

  const [server] = await ask<Server>(client, serverQuery).catch((error) => {
    throw toDataError(error)
  })
  const settings = (await part<{ name: string; setting: string }>('catalog', settingsQuery)) ?? []
  const sessions = (await part<Session>('catalog', sessionsQuery)) ?? []
  const tables = (await part<Table & { locked: boolean }>('catalog', tablesQuery)) ?? []
  for (const { locked, sql } of tables)
    if (locked) gaps.push({ about: 'catalog', reason: `${sql} is locked by another session` })
  const indexes = await part<Index>('catalog', indexesQuery)
  const foreignKeys = (await part<ForeignKey>('catalog', foreignKeysQuery)) ?? []
  const [extension] = (await part<{ schema: string }>('catalog', extensionQuery)) ?? []
  if (!extension) gaps.push({ about: 'statements', reason: 'the extension pg_stat_statements is not installed' })
  const rows = (extension && (await part<StatementRow>('statements', statementsQuery, extension.schema))) ?? []
  const hidden = sessions.filter((session) => session.hidden).length + (rows[0]?.allHidden ?? 0)
  if (hidden > 0 || !server!.monitors) gaps.push({ about: 'privileges', reason: rightsMissing(server!, hidden) })

  return {
    server: server!,
    settings: Object.fromEntries(settings.map(({ name, setting }) => [name, setting])),
    sessions,
    // A table whose indexes are unknown would seem to have none: better to say nothing about any table.
    tables: indexes ? tables.filter(({ locked }) => !locked) : [],
    indexes: indexes ?? [],
    foreignKeys,
    statements: rows
      .filter((row) => !row.hidden)
      .map(({ id, text, calls, totalMs, rows, allMs }) => {
        const share = totalMs / Math.max(allMs, 1e-9)
        return { id, text, calls, totalMs, rows, meanMs: totalMs / Math.max(1, calls), share }
      }),
    statementsSeen: gaps.some(({ about }) => about === 'statements') ? undefined : (rows[0]?.all ?? 0),
    gaps,
  }
}

/** Runs each query in a read-only transaction of its own, so that a refusal spoils nothing else; bounded, also while waiting. */
async function ask<Row>(client: Client, query: string, searchPath = 'pg_catalog'): Promise<Row[]> {
  try {
    const results: unknown = await client.query(
      `begin read only; set local statement_timeout = '10s'; set local lock_timeout = '200ms';
       set local search_path = ${searchPath}; ${query}; commit`,
    )
    return (results as { rows: Row[] }[])[4]!.rows
  } catch (error) {
    await client.query('rollback')
    throw error
  }
}

function rightsMissing({ monitors, creates, replicates }: Server, hidden: number): string {
  return [
    ...(monitors ? [] : ['it is not in pg_monitor, so it cannot see how far replicas are behind']),
    ...(hidden > 0 ? [`${hidden} sessions and statements of others are hidden`] : []),
    ...(creates ? [] : ['it cannot create schemas and extensions in this database']),
    ...(replicates ? [] : ['it has no REPLICATION, so base backups and replicas are left to the owner of the server']),
  ].join('; ')
}
