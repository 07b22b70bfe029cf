import { cpus, hostname } from 'node:os'
import { cpuTimes, cpuTotalMs, familyOf } from '../../engines/process/cpu.ts'
import { memoryOf } from '../../engines/process/memory.ts'
import { systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { runAlone } from '../../primitives/data/alone.ts'
import type { Database } from '../../primitives/data/contract.ts'
import { type Sql, sql } from '../../primitives/data/sql.ts'
import { growth, keyOf, type Measured, nothing } from './frame.ts'

/** The largest, with their indexes; each partition counts as one. */
const tablesMax = 50
/** Those that took the most time since the last look. */
const statementsMax = 20
const textMax = 120

/** A process of this machine that serves the app and does not measure itself: a server of the database, Redis, nginx … */
export interface Server {
  /** `postgres`, `edge` */
  name: string
  pid: number
}

export interface Lookout {
  databases: readonly Database[]
  servers(): Promise<readonly Server[]>
  /** The table with a row for each registered user: `accounts.account`. */
  users?: { database: Database; table: string } | undefined
}

/**
 * Returns a function that looks at what processes share: the databases, servers, and the processors of this machine. Counters have
 * grown since its last look; the first look has none, because what they show began long before.
 */
export function looker({ databases, servers, users }: Lookout): () => Promise<Measured> {
  const statements = databases.map(statementsOf)
  const lookAtServers = serversOf(servers)
  let before: Record<string, number> | undefined
  return async () => {
    const sizes = await Promise.all(databases.map(sizesOf))
    const used = await Promise.all(statements.map((look) => look()))
    const registered = users && (await rowsOf(users))
    const { used: time, memory } = await lookAtServers()
    const counted = (now: Record<string, number>) => ({ ...nothing, counters: { machine_cpu_seconds_total: now } })
    const processors = processorSeconds()
    const host = hostname()
    const now = {
      [keyOf({ host, state: 'free' })]: processors.idle,
      [keyOf({ host, state: 'all' })]: processors.all,
    }
    const { counters } = growth(counted(before ?? now), counted(now))
    before = now
    const gauges = {
      ...joined(sizes),
      server_memory_bytes: memory,
      ...(registered !== undefined && { users_registered: { '{}': registered } }),
    }
    return { ...growth(nothing, { ...nothing, gauges }), counters: { ...counters, ...time, ...joined(used) } }
  }
}

/** What a look records. */
export const recordedByLook = [
  'machine_cpu_seconds_total',
  'server_cpu_seconds_total',
  'server_measured_seconds_total',
  'server_memory_bytes',
  'users_registered',
  'db_bytes',
  'db_table_bytes',
  'db_table_rows',
  'db_statement_calls_total',
  'db_statement_seconds_total',
] as const
type Found = { [Metric in (typeof recordedByLook)[number]]?: Record<string, number> }

function joined(all: readonly Found[]): Found {
  const found: Found = {}
  for (const one of all)
    for (const metric of recordedByLook) if (one[metric]) found[metric] = { ...found[metric], ...one[metric] }
  return found
}

/** Those that were there at the last look, with the time since then. */
function serversOf(servers: Lookout['servers']) {
  let before = new Map<number, { at: number; ms: number }>()
  return async () => {
    const running = await servers()
    const [times, at] = [cpuTimes(), systemClock.ticks()]
    const found = { used: {} as Found, memory: {} as Record<string, number> }
    const now = new Map(running.map(({ pid }) => [pid, { at, ms: cpuTotalMs(pid, times) }]))
    for (const { name, pid } of running) {
      const key = keyOf({ server: name })
      const bytes = await memoryOf(familyOf(pid, times))
      if (bytes !== undefined) found.memory[key] = bytes
      const [from, to] = [before.get(pid), now.get(pid)!]
      if (!from) continue
      const put = (metric: keyof Found, ms: number) => {
        found.used[metric] = { ...found.used[metric], [key]: Math.round(ms) / 1000 }
      }
      put('server_cpu_seconds_total', Math.max(0, to.ms - from.ms))
      put('server_measured_seconds_total', to.at - from.at)
    }
    before = now
    return found
  }
}

async function sizesOf(database: Database): Promise<Found> {
  const [whole] = await runAlone<{ bytes: string }>(database, sql`select pg_database_size(current_database()) as bytes`)
  // The size of a locked table would have to wait.
  const tables = await runAlone<{ name: string; bytes: string; rows: number }>(
    database,
    sql`with locked as materialized (
        select coalesce(i.indrelid, l.relation) as oid from pg_locks l
        join pg_database d on d.oid = l.database and d.datname = current_database()
        left join pg_index i on i.indexrelid = l.relation
        where l.mode = 'AccessExclusiveLock' and l.relation is not null
      )
      select n.nspname || '.' || c.relname as name, pg_total_relation_size(c.oid) as bytes,
        greatest(c.reltuples, 0)::float8 as rows
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'm') and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
        and c.oid not in (select oid from locked)
      order by c.relpages desc, 1 limit ${tablesMax}`,
  )
  const byTable = (value: (one: (typeof tables)[0]) => number) =>
    Object.fromEntries(tables.map((one) => [keyOf({ database: database.name, table: one.name }), value(one)]))
  return {
    db_bytes: { [keyOf({ database: database.name })]: Number(whole!.bytes) },
    db_table_bytes: byTable(({ bytes }) => Number(bytes)),
    db_table_rows: byTable(({ rows }) => rows),
  }
}

/** An estimate of Postgres is close enough where counting takes long. */
const countedRowsMax = 200_000

/** @throws APP_INVALID where the table is missing */
async function rowsOf({ database, table }: NonNullable<Lookout['users']>): Promise<number> {
  const [name] = await runAlone<{ oid: string | null; rows: number }>(
    database,
    sql`select to_regclass(${table})::oid::text as oid,
      (select reltuples::float8 from pg_class where oid = to_regclass(${table})) as rows`,
  )
  if (name!.oid === null)
    throw new RungError('APP_INVALID', `users.table of defineApp is "${table}", and there is no such table.`)
  if (name!.rows > countedRowsMax) return name!.rows
  const [counted] = await runAlone<{ rows: number }>(
    database,
    sql`select count(*)::float8 as rows from ${sql.id(...(table.split('.') as [string, string]))}`,
  )
  return counted!.rows
}

interface Used {
  calls: number
  ms: number
}

/** Those of this database that touch rows, if the role may see statements. Their texts have no values. */
function statementsOf(database: Database): () => Promise<Found> {
  let before: ReadonlyMap<string, Used> | undefined
  return async () => {
    const [extension] = await runAlone<{ schema: string }>(
      database,
      sql`select n.nspname as schema from pg_extension e join pg_namespace n on n.oid = e.extnamespace
        where e.extname = 'pg_stat_statements' and has_schema_privilege(n.oid, 'usage')`,
    )
    if (!extension) return {}
    const source = (withText: boolean): Sql => sql`${sql.id(extension.schema, 'pg_stat_statements')}(${withText})
      where dbid = (select oid from pg_database where datname = current_database())`
    const rows = await runAlone<Used & { id: string }>(
      database,
      sql`select queryid::text as id, sum(calls)::float8 as calls, sum(total_exec_time) as ms from ${source(false)}
        and queryid is not null group by queryid`,
    )
    const now = new Map(rows.map(({ id, calls, ms }) => [id, { calls, ms }]))
    const last = before
    before = now
    if (!last) return {}
    const grown = [...now].map(([id, used]) => ({ id, ...since(last.get(id), used) }))
    const most = grown
      .filter(({ calls }) => calls > 0)
      .sort((a, b) => b.ms - a.ms)
      .slice(0, 2 * statementsMax)
    const texts = await runAlone<{ id: string; text: string }>(
      database,
      sql`select queryid::text as id, left(regexp_replace(min(query), '\\s+', ' ', 'g'), ${textMax}) as text from ${source(true)}
        and queryid = any(${most.map(({ id }) => id)}::int8[])
        and query ~* '^\\s*((select|insert|update|delete|merge|with)\\M|(begin|commit)$)' group by queryid`,
    )
    const textOf = new Map(texts.map(({ id, text }) => [id, text]))
    const told = most.filter(({ id }) => textOf.has(id)).slice(0, statementsMax)
    const byStatement = (value: (one: Used) => number) =>
      Object.fromEntries(
        told.map((one) => [keyOf({ database: database.name, id: one.id, text: textOf.get(one.id) }), value(one)]),
      )
    return {
      db_statement_calls_total: byStatement(({ calls }) => calls),
      db_statement_seconds_total: byStatement(({ ms }) => Math.round(ms * 1000) / 1e6),
    }
  }
}

/** One whose counts are less than before was forgotten meanwhile, or all were. */
function since(before: Used | undefined, now: Used): Used {
  if (!before || now.calls < before.calls) return now
  return { calls: now.calls - before.calls, ms: Math.max(0, now.ms - before.ms) }
}

function processorSeconds(): { idle: number; all: number } {
  let [idle, all] = [0, 0]
  for (const { times } of cpus()) {
    all += Object.values(times).reduce((a, b) => a + b, 0)
    idle += times.idle
  }
  return { idle: idle / 1000, all: all / 1000 }
}
