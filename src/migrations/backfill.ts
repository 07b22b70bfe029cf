import type { Client } from '../engines/postgres/client.ts'
import { parseSql, type SqlNodes } from '../engines/postgres/parser.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { backoffMs } from '../kernel/random.ts'
import { sqlState } from '../primitives/data/errors.ts'
import type { Migration } from '../primitives/data/migrations.ts'

/**
 * A backfill is a migration of one UPDATE or DELETE with `:batch` in its WHERE. It walks along the primary key: each batch is a range
 * of keys, and a transaction that also keeps how far it came. So no row is visited twice, whatever the statement changes, and it ends:
 * the last key is read once, at the beginning. Rows that are inserted meanwhile are the task of the code that inserts them.
 */

/** How a backfill stands after a batch. */
export interface BackfillProgress {
  /** Rows that it has visited, over all its runs. */
  rows: number
  /** Of about so many; unknown for a large table without statistics. */
  rowsTotal: number | undefined
  /** Of this run, pauses included. */
  rowsPerSecond: number
  leftMs: number | undefined
}

export interface BackfillOptions {
  onProgress?: (progress: BackfillProgress) => void
  onPause?: (reason: string) => void
  onRetry?: (attempt: number) => void
  /** Stops it between two batches. */
  signal?: AbortSignal | undefined
  /** A larger table is refused with MIGRATION_BACKFILL. */
  rowsMax?: number | undefined
  lockRetries: number
}

const batchMs = 150 // writers wait for a batch at most
const firstRows = 1_000
const batchRowsMax = 50_000
const lockTimeoutMs = 200
const statementTimeoutMs = 10_000
const pauseMsMax = 10_000 // a replica that stays behind slows it down, and never stops it
const countedRows = 100_000

const marker = /(?<![:\w]):batch\b/g
const skipped = /'(?:[^']|'')*'|"[^"]*"|\$(\w*)\$[\s\S]*?\$\1\$|\/\*[\s\S]*?\*\/|--[^\n]*|(?<![:\w]):batch\b/g

export function isBackfill({ name }: Pick<Migration, 'name'>): boolean {
  return name.endsWith('.backfill.sql')
}

/** As SQL that can be parsed, of the same length: `:batch` is the name of a column. */
export function parseable(migration: Migration): string {
  return isBackfill(migration) ? withBatch(migration.text, ' batch') : migration.text
}

function withBatch(text: string, condition: string): string {
  return text.replace(skipped, (lexeme) => (lexeme === ':batch' ? condition : lexeme))
}

interface Target {
  schema: string | undefined
  table: string
  /** How the statement calls it. */
  alias: string
}

/**
 * Returns which table a backfill changes.
 * @throws MIGRATION_INVALID when it is not one UPDATE or DELETE that `:batch` bounds
 */
export async function targetOf(migration: Migration): Promise<Target> {
  const statements = await parseSql(parseable(migration))
  const invalid = (why: string): RungError =>
    new RungError(
      'MIGRATION_INVALID',
      `Backfill ${migration.module}/${migration.name} ${why}. Write it like: update post set slug = lower(title) where :batch and slug is null`,
    )
  const [only, more] = statements
  const ast = (only?.ast ?? {}) as { UpdateStmt?: SqlNodes['UpdateStmt']; DeleteStmt?: SqlNodes['DeleteStmt'] }
  const statement = ast.UpdateStmt ?? ast.DeleteStmt
  const { relation, whereClause } = statement ?? {}
  if (more || !relation?.relname) throw invalid('is not exactly one UPDATE or DELETE')
  if (statement!.withClause) throw invalid('has a WITH, which no batch would bound')
  const conditions = conditionsOf(whereClause).filter(isMarker)
  const marks = migration.text.replace(skipped, (lexeme) => (lexeme === ':batch' ? lexeme : '')).match(marker)
  if (conditions.length !== 1 || marks?.length !== 1) {
    throw invalid('must have :batch once, as a condition of its WHERE that is joined to the others by AND')
  }
  const { schemaname, relname, alias } = relation
  return { schema: schemaname, table: relname, alias: alias?.aliasname ?? relname }
}

type Condition = { BoolExpr?: SqlNodes['BoolExpr']; ColumnRef?: SqlNodes['ColumnRef'] }

function conditionsOf(where: unknown): Condition[] {
  const { BoolExpr: all } = (where ?? {}) as Condition
  return all?.boolop === 'AND_EXPR' ? (all.args as Condition[]) : [(where ?? {}) as Condition]
}

function isMarker({ ColumnRef: column }: Condition): boolean {
  const [field, more] = (column?.fields ?? []) as { String?: { sval?: string } }[]
  return field?.String?.sval === 'batch' && more === undefined
}

interface Row {
  last_key: string[] | null
  end_key: string[]
  rows_done: string
  rows_total: string | null
}

interface Plan {
  /** The table and its primary key, as SQL. */
  table: string
  columns: readonly string[]
  types: readonly string[]
}

type Key = readonly string[] | null

/** Two conditions on the primary key, and their parameters: after the first key, up to the second. */
function rangeOf({ columns, types }: Plan, alias: string | undefined, after: Key, upTo: readonly string[]) {
  const names = columns.map((column) => (alias === undefined ? column : `${quote(alias)}.${column}`)).join(', ')
  const row = (first: number) => types.map((type, at) => `$${first + at}::${type}`).join(', ')
  const low = after ? `(${names}) > (${row(1)}) and ` : ''
  const values = [...(after ?? []), ...upTo]
  return { sql: `(${low}(${names}) <= (${row((after?.length ?? 0) + 1)}))`, values }
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

async function planOf(client: Client, { module, name }: Migration, target: Target): Promise<Plan> {
  const table = [target.schema, target.table].flatMap((word) => (word === undefined ? [] : [quote(word)])).join('.')
  const { rows: found } = await client.query('select to_regclass($1) is not null as found', [table])
  const fail = (why: string) => new RungError('MIGRATION_INVALID', `Backfill ${module}/${name}: ${why}`)
  if (!found[0].found) throw fail(`there is no table ${table}. Create it in an earlier file, or correct the name.`)
  const { rows } = await client.query<{ name: string; type: string }>(
    `select a.attname as name, format_type(a.atttypid, a.atttypmod) as type
      from pg_index i, unnest(i.indkey::int2[]) with ordinality as k (attnum, at), pg_attribute a
      where i.indrelid = to_regclass($1) and i.indisprimary and k.at <= i.indnkeyatts
        and a.attrelid = i.indrelid and a.attnum = k.attnum
      order by k.at`,
    [table],
  )
  if (rows.length === 0) {
    throw fail(`the table ${table} has no primary key along which it could go in batches. Add one in an earlier file.`)
  }
  return { table, columns: rows.map((row) => quote(row.name)), types: rows.map(({ type }) => type) }
}

const keyOf = ({ columns }: Plan) => `array[${columns.map((column) => `${column}::text`).join(', ')}]`
const descending = ({ columns }: Plan) => columns.map((column) => `${column} desc`).join(', ')

/** Finds where an earlier run stopped; else notes the beginning. Returns undefined for an empty table. */
async function begin(
  client: Client,
  migration: Migration,
  plan: Plan,
  rowsMax: number | undefined,
): Promise<Row | undefined> {
  const { module, name } = migration
  const { rows: noted } = await client.query<Row>(
    'select last_key, end_key, rows_done, rows_total from rung.migration_backfill where module = $1 and name = $2 and table_name = $3',
    [module, name, plan.table],
  )
  if (noted[0] && rowsMax === undefined) return noted[0]
  const limit = Math.max(countedRows, rowsMax ?? 0)
  const { rows: sizes } = await client.query<{ counted: string; estimate: number }>(
    `select (select count(*) from (select from ${plan.table} limit $2) as counted_rows) as counted,
      (select reltuples from pg_class where oid = to_regclass($1)) as estimate`,
    [plan.table, limit + 1],
  )
  const counted = Number(sizes[0]!.counted)
  if (rowsMax !== undefined && counted > rowsMax) {
    throw new RungError(
      'MIGRATION_BACKFILL',
      `Backfill ${module}/${name} goes over more than ${rowsMax} rows of ${plan.table}, and the app starts when it is complete. Run "rung migrate" first; the running release goes on meanwhile.`,
    )
  }
  if (noted[0]) return noted[0]
  const { estimate } = sizes[0]!
  const total = counted <= limit ? counted : estimate > limit ? Math.round(estimate) : null
  const { rows: last } = await client.query<{ key: string[] }>(
    `select ${keyOf(plan)} as key from ${plan.table} order by ${descending(plan)} limit 1`,
  )
  if (!last[0]) return
  await client.query(
    `insert into rung.migration_backfill (module, name, table_name, end_key, rows_total) values ($1, $2, $3, $4, $5)
      on conflict (module, name) do update set table_name = excluded.table_name, last_key = null,
        end_key = excluded.end_key, rows_done = 0, rows_total = excluded.rows_total`,
    [module, name, plan.table, last[0].key, total],
  )
  return { last_key: null, end_key: last[0].key, rows_done: '0', rows_total: total === null ? null : String(total) }
}

/**
 * Runs a backfill to its end, from where it stopped. The session has its search_path and the lock of migrations.
 * @returns the rows that all its runs together have visited
 * @throws MIGRATION_INVALID, MIGRATION_BACKFILL when it is stopped or too large, MIGRATION_FAILED with the key of the row that fails
 */
export async function runBackfill(client: Client, migration: Migration, options: BackfillOptions): Promise<number> {
  const target = await targetOf(migration)
  const plan = await planOf(client, migration, target)
  const row = await begin(client, migration, plan, options.rowsMax)
  if (!row) return 0
  await client.query(`set lock_timeout = ${lockTimeoutMs}`)
  await client.query(`set statement_timeout = ${statementTimeoutMs}`)
  const start = systemClock.ticks()
  const before = Number(row.rows_done)
  const rowsTotal = row.rows_total === null ? undefined : Number(row.rows_total)
  let after: Key = row.last_key
  let rows = before
  let size = firstRows
  let suspects = 0 // rows among which one has failed: there, batches only become smaller, until it is alone
  let attempt = 0
  for (;;) {
    if (options.signal?.aborted) throw stopped(migration, rows, rowsTotal)
    await rest(client, options)
    const from = systemClock.ticks()
    try {
      const batch = await runBatch(client, migration, plan, target, { after, end: row.end_key, size })
      if (!batch) return rows
      after = batch.key
      rows += batch.rows
      suspects -= batch.rows
      attempt = 0
    } catch (error) {
      await client.query('rollback').catch(() => {})
      const state = sqlState(error) ?? ''
      const isBusy = ['55P03', '40P01', '40001'].includes(state) // a lock not free, a deadlock
      const isOfRows = !isBusy && /^(2[0-9A-Z]|P0|57014|44)/.test(state) // a value, a constraint, a trigger, too slow
      if (isBusy && attempt < options.lockRetries) {
        attempt += 1
        options.onRetry?.(attempt)
        size = Math.max(1, Math.floor(size / 2))
        await sleep(backoffMs(attempt, 50, 5_000))
      } else if (isOfRows && size > 1) {
        if (suspects <= 0) suspects = size
        size = Math.ceil(size / 2)
      } else {
        const place = isOfRows ? await nextKey(client, plan, after, row.end_key) : undefined
        throw failed(migration, plan, error, place)
      }
      continue
    }
    const ms = systemClock.ticks() - from
    const factor = Math.min(2, Math.max(0.25, batchMs / Math.max(1, ms)))
    size = Math.min(batchRowsMax, suspects > 0 ? size : Math.max(1, Math.round(size * factor)))
    const rowsPerSecond = ((rows - before) * 1000) / Math.max(1, systemClock.ticks() - start)
    const left = rowsTotal === undefined || rows > rowsTotal ? undefined : rowsTotal - rows
    const leftMs = left === undefined ? undefined : (left / rowsPerSecond) * 1000
    options.onProgress?.({ rows, rowsTotal, rowsPerSecond, leftMs })
  }
}

/** One transaction. Returns the last key of its range; undefined behind the end. */
async function runBatch(
  client: Client,
  migration: Migration,
  plan: Plan,
  { alias }: Target,
  { after, end, size }: { after: Key; end: readonly string[]; size: number },
): Promise<{ key: string[]; rows: number } | undefined> {
  const { module, name, text } = migration
  await client.query('begin')
  const range = rangeOf(plan, undefined, after, end)
  const { rows } = await client.query<{ key: string[]; rows: number }>(
    `with batch as materialized (
        select ${plan.columns.join(', ')} from ${plan.table} where ${range.sql} order by ${plan.columns.join(', ')} limit ${size}
      )
      select ${keyOf(plan)} as key, (select count(*)::int from batch) as rows from batch order by ${descending(plan)} limit 1`,
    range.values,
  )
  const batch = rows[0]
  if (batch) {
    const { sql, values } = rangeOf(plan, alias, after, batch.key)
    await client.query(withBatch(text, sql), values)
    const { rowCount } = await client.query(
      `update rung.migration_backfill set last_key = $3, rows_done = rows_done + $4
        where module = $1 and name = $2 and last_key is not distinct from $5`,
      [module, name, batch.key, batch.rows, after],
    )
    if (rowCount !== 1) {
      throw new RungError('MIGRATION_LOCKED', `Another process goes on with backfill ${module}/${name}. Let it finish.`)
    }
  }
  await client.query('commit')
  return batch
}

/** The key of the row behind `after`: the one that failed alone. */
async function nextKey(client: Client, plan: Plan, after: Key, end: readonly string[]): Promise<string | undefined> {
  const { sql, values } = rangeOf(plan, undefined, after, end)
  const { rows } = await client.query<{ key: string[] }>(
    `select ${keyOf(plan)} as key from ${plan.table} where ${sql} order by ${plan.columns.join(', ')} limit 1`,
    values,
  )
  return rows[0] && plan.columns.map((column, at) => `${column.replaceAll('"', '')} = ${rows[0]!.key[at]}`).join(', ')
}

function failed({ module, name }: Migration, { table }: Plan, error: unknown, place: string | undefined): RungError {
  const where = place === undefined ? '' : ` at the row of ${table.replaceAll('"', '')} with ${place}`
  return new RungError(
    'MIGRATION_FAILED',
    `Backfill ${module}/${name} failed${where}: ${messageOf(error).replace(/\.?$/, '.')} The batches before it stay; correct the row or the file, and start again: it goes on from there.`,
    { cause: error },
  )
}

function stopped({ module, name }: Migration, rows: number, total: number | undefined): RungError {
  const of = total === undefined ? '' : ` of about ${total}`
  return new RungError(
    'MIGRATION_BACKFILL',
    `Backfill ${module}/${name} was stopped after ${rows}${of} rows. "rung migrate" goes on from there.`,
  )
}

/** Waits while the server or a replica is behind, for a bounded time before each batch. */
async function rest(client: Client, { onPause, signal }: BackfillOptions): Promise<void> {
  const giveUpAt = systemClock.ticks() + pauseMsMax
  for (let told = false; !signal?.aborted && systemClock.ticks() < giveUpAt; told = true) {
    const { rows } = await client.query<Load>(loadQuery)
    const reason = pauseReason(rows[0]!)
    if (reason === undefined) return
    if (!told) onPause?.(reason)
    await sleep(250)
  }
}

export interface Load {
  /** How far the slowest replica is behind. 0 without replicas, or when the role must not see them. */
  lagMs: number
  lagBytes: number
  /** Other sessions of this database. */
  active: number
  waiting: number
}

/** Returns why a backfill rests, in words. Pure. */
export function pauseReason({ lagMs, lagBytes, active, waiting }: Load): string | undefined {
  if (lagMs > 1_000) return `a replica is ${Math.round(lagMs)} ms behind`
  if (lagBytes > 64 * 1024 ** 2) return `a replica is ${Math.round(lagBytes / 1024 ** 2)} MiB behind`
  if (waiting > 5) return `${waiting} sessions wait for locks`
  if (active > 50) return `${active} sessions are active`
  return undefined
}

const loadQuery = `
  select coalesce(max(extract(epoch from replay_lag)) * 1000, 0)::float8 as "lagMs",
    coalesce(max(pg_wal_lsn_diff(sent_lsn, replay_lsn)), 0)::float8 as "lagBytes",
    (select count(*)::int from pg_stat_activity
      where datname = current_database() and state = 'active' and pid <> pg_backend_pid()) as active,
    (select count(*)::int from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock') as waiting
  from pg_stat_replication`
