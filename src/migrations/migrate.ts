import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { type Client, type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { findNodes, parseSql, type Statement } from '../engines/postgres/parser.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { ownText } from '../kernel/own-text.ts'
import { backoffMs } from '../kernel/random.ts'
import { schemaOf } from '../primitives/data/boundary.ts'
import { toDataError } from '../primitives/data/errors.ts'
import { checksumOf, type Migration } from '../primitives/data/migrations.ts'
import { type BackfillProgress, isBackfill, parseable, runBackfill, targetOf } from './backfill.ts'
import { type Finding, lintMigration, needsNoTransaction } from './lint.ts'
import { breaksRunning } from './running.ts'

/** Where the migrations of a module are. */
export interface MigrationSource {
  module: string
  /** Folder of `0001_name.sql` and `0002_name.backfill.sql` files, applied in the order of their names. */
  folder: URL
  /** Other modules whose tables it has declared to read. */
  reads: readonly string[]
}

export interface MigrationState extends Pick<Migration, 'module' | 'name'> {
  state: 'applied' | 'pending'
  appliedAt: Date | undefined
  durationMs: number | undefined
}

const fileName = /^\d{4,}[_-][a-z0-9_-]+(\.backfill)?\.sql$/

/**
 * Reads all migrations, in order: modules as given, files by number.
 * @throws MIGRATION_INVALID for a folder that cannot be read or a file with another name
 */
export async function loadMigrations(sources: readonly MigrationSource[]): Promise<Migration[]> {
  const all: Migration[] = []
  for (const { module, folder: given, reads } of sources) {
    const folder = given.href.endsWith('/') ? given : new URL(`${given.href}/`)
    const invalid = (message: string, cause?: unknown) =>
      new RungError('MIGRATION_INVALID', `Module "${module}": ${message}`, { cause })
    const names = await readdir(folder).catch((cause) => {
      const place = fileURLToPath(folder)
      throw invalid(`the folder ${place} cannot be read. Create it, or correct the module's migrations.`, cause)
    })
    let before = ''
    for (const name of names.sort(inOrder)) {
      if (name.startsWith('.')) continue
      if (!fileName.test(name))
        throw invalid(`${name} is not a migration's name. Name it like 0001_create_article.sql.`)
      if (numberOf(before) === numberOf(name))
        throw invalid(`${before} and ${name} have the same number. Give the newer one the next number.`)
      before = name
      const text = textOf(`${module}/${name}`, await readFile(new URL(name, folder)))
      all.push({ module, name, text, checksum: checksumOf(text), reads })
    }
  }
  return all
}

/** By number, whatever its digits; then by name. */
function inOrder(a: string, b: string): number {
  const [x, y] = [numberOf(a), numberOf(b)]
  return x < y || (x === y && a < b) ? -1 : 1
}

/** `-1` for a name without a number. */
function numberOf(name: string): bigint {
  return BigInt(/^\d*/.exec(name)![0] || -1)
}

/** Decodes a file, without the byte order mark that some editors write. */
function textOf(file: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes).replaceAll('\r\n', '\n')
  } catch (cause) {
    throw new RungError('MIGRATION_INVALID', `Migration ${file} is not in UTF-8. Save it in that encoding.`, { cause })
  }
}

interface AppliedRow {
  module: string
  name: string
  checksum: string
  applied_at: Date
  duration_ms: number
}

/** What the bookkeeping says of one applied migration. */
type Applied = Pick<AppliedRow, 'module' | 'name' | 'checksum'>

/**
 * Returns the applied migrations that are newer than any that this build has, in its modules. A newer build applied them, and they suit
 * this one: that build was deployed beside it, or this one is started again because that one was rolled back. Pure.
 */
export function newerOf<A extends Applied>(migrations: readonly Migration[], applied: readonly A[]): A[] {
  const newest = newestNumbers(migrations)
  return applied.filter(({ module, name }) => {
    const known = newest.get(module)
    return known !== undefined && numberOf(name) > known
  })
}

/** The highest number of each module that has migrations. */
function newestNumbers(migrations: readonly Migration[]): Map<string, bigint> {
  const newest = new Map<string, bigint>()
  for (const { module, name } of migrations) {
    const [number, before] = [numberOf(name), newest.get(module) ?? -1n]
    newest.set(module, number > before ? number : before)
  }
  return newest
}

/**
 * Returns the migrations that are not applied yet. Pure. Applied ones that are newer than any of these are ignored, see `newerOf`.
 * @throws MIGRATION_CHANGED when an applied file was edited or removed, MIGRATION_INVALID when a new one sorts before it
 */
export function pendingOf(migrations: readonly Migration[], applied: readonly Applied[]): Migration[] {
  const byKey = new Map(migrations.map((migration) => [`${migration.module}/${migration.name}`, migration]))
  const modules = newestNumbers(migrations)
  const newer = new Set<Applied>(newerOf(migrations, applied))
  const last = new Map<string, string>()
  const done = new Set<string>()
  for (const row of applied) {
    const key = `${row.module}/${row.name}`
    const file = byKey.get(key)
    if (newer.has(row)) continue
    if (!file && !modules.has(row.module)) continue // the app no longer has this module; its tables stay
    if (row.module === 'rung' && file?.checksum !== row.checksum) {
      throw new RungError(
        'MIGRATION_CHANGED',
        `This database has tables of another version of Rung (migration ${key} is not the same). Use that version, or an empty database.`,
      )
    }
    if (!file) {
      throw new RungError('MIGRATION_CHANGED', `Migration ${key} was applied, but its file is gone. Restore the file.`)
    }
    if (file.checksum !== row.checksum) {
      throw new RungError(
        'MIGRATION_CHANGED',
        `Migration ${key} was changed after it was applied. Restore the file and put the change into a new migration.`,
      )
    }
    done.add(key)
    if (inOrder(last.get(row.module) ?? '', row.name) < 0) last.set(row.module, row.name)
  }
  const pending = migrations.filter((migration) => !done.has(`${migration.module}/${migration.name}`))
  for (const { module, name } of pending) {
    const newest = last.get(module)
    if (newest !== undefined && inOrder(name, newest) < 0) {
      throw new RungError(
        'MIGRATION_INVALID',
        `Migration ${module}/${name} sorts before ${newest}, which was applied already. Give it a higher number.`,
      )
    }
  }
  return pending
}

export type MigrationEvent =
  /** The database has migrations of a newer build: `module/name`. */
  | { kind: 'newer'; names: readonly string[] }
  | { kind: 'waiting'; detail: string }
  | { kind: 'applying'; migration: Migration; index: number; total: number }
  | { kind: 'applied'; migration: Migration; durationMs: number }
  | { kind: 'retry'; migration: Migration; attempt: number }
  | { kind: 'filled'; migration: Migration; progress: BackfillProgress }
  | { kind: 'paused'; migration: Migration; reason: string }

export interface MigrateOptions {
  connection: ConnectionConfig
  migrations: readonly Migration[]
  onEvent?: (event: MigrationEvent) => void
  /** How long a statement may wait for a table's lock, in ms; everything behind it waits too. Default 2,000. */
  lockTimeoutMs?: number
  /** How often a migration is retried after that. Default 10. */
  lockRetries?: number
  /** Schemas that are searched behind the module's own, as SQL. Default `public`. */
  searchedBehind?: string
  /** The code of the release that runs meanwhile, which the migrations must not break. */
  running?: string
  /** Stops a backfill between two batches. */
  signal?: AbortSignal
  /** A backfill of a table with more rows is not run but refused. Default: none is. */
  backfillRowsMax?: number
}

const lockKey = 0x72756e68 // one migration run per database at a time
const lockWaitMs = 60_000

const bookkeeping = ownText(import.meta.url, './bookkeeping.sql')

/** Returns which migrations are applied and which are pending. Changes nothing. */
export async function migrationStatus(options: MigrateOptions): Promise<MigrationState[]> {
  const client = await connect(options.connection)
  try {
    const applied = await readApplied(client)
    const pending = new Set(pendingOf(options.migrations, applied))
    const rows = new Map(applied.map((row) => [`${row.module}/${row.name}`, row]))
    return options.migrations.map((migration) => {
      const { module, name } = migration
      const row = rows.get(`${module}/${name}`)
      const state = pending.has(migration) ? 'pending' : 'applied'
      return { module, name, state, appliedAt: row?.applied_at, durationMs: row?.duration_ms }
    })
  } finally {
    await client.end()
  }
}

/**
 * Checks the pending migrations, then applies them, each in a transaction of its own (`concurrently` outside one).
 * @returns the migrations that were applied
 * @throws MIGRATION_UNSAFE before anything is applied; MIGRATION_FAILED, where those before the failed one stay applied;
 *   MIGRATION_BACKFILL for a backfill that was stopped or is too large
 */
export async function migrate(options: MigrateOptions): Promise<Migration[]> {
  const client = await connect(options.connection)
  try {
    // Most starts have nothing to do, and take no lock.
    const before = await readApplied(client)
    const newer = newerOf(options.migrations, before).map(({ module, name }) => `${module}/${name}`)
    if (newer.length > 0) options.onEvent?.({ kind: 'newer', names: newer })
    if (pendingOf(options.migrations, before).length === 0) return []
    await takeLock(client, options)
    await client.query(bookkeeping)
    const pending = pendingOf(options.migrations, await readApplied(client))
    for (const migration of pending) {
      const broken = options.running === undefined ? [] : await breaksRunning(migration, options.running)
      refuseUnsafe(migration, [...(await lint(migration)), ...broken])
    }
    for (const [index, migration] of pending.entries()) {
      options.onEvent?.({ kind: 'applying', migration, index, total: pending.length })
      const start = systemClock.ticks()
      await apply(client, migration, options)
      options.onEvent?.({ kind: 'applied', migration, durationMs: systemClock.ticks() - start })
    }
    return pending
  } finally {
    await client.end()
  }
}

/** Checks a migration. `overridden` findings carry the author's reason. */
export async function lint(migration: Migration): Promise<Finding[]> {
  const file = `${migration.module}/${migration.name}`
  const statements = await parseSql(parseable(migration)).catch((cause) => {
    throw new RungError('MIGRATION_INVALID', `Migration ${file} is not valid SQL: ${messageOf(cause)}`, { cause })
  })
  if (isBackfill(migration)) await targetOf(migration)
  return lintMigration({ ...migration, file, statements })
}

/** Checks several migrations, one after the other. */
export async function lintAll(
  migrations: readonly Migration[],
): Promise<{ migration: Migration; findings: Finding[] }[]> {
  const checked = []
  for (const migration of migrations) checked.push({ migration, findings: await lint(migration) })
  return checked
}

function refuseUnsafe(migration: Migration, findings: readonly Finding[]): void {
  const open = findings.filter((finding) => finding.overridden === undefined)
  if (open.length === 0) return
  const lines = open.map(
    (finding) =>
      `  line ${finding.line}, ${finding.rule}: ${finding.message}\n    ${finding.advice.replaceAll('\n', '\n    ')}`,
  )
  throw new RungError(
    'MIGRATION_UNSAFE',
    `Migration ${migration.module}/${migration.name} was refused; nothing was applied.\n${lines.join('\n')}\n  To apply it anyway, add a comment: -- rung:allow <rule> <reason>`,
    { facts: { findings: open.map(({ rule, file, line }) => ({ rule, file, line })) } },
  )
}

async function connect(config: ConnectionConfig): Promise<Client> {
  return connectOnce(config).catch((error) => {
    throw toDataError(error)
  })
}

async function readApplied(client: Client): Promise<AppliedRow[]> {
  const { rows: exists } = await client.query(`select to_regclass('rung.migration') is not null as found`)
  if (!exists[0].found) return []
  const { rows } = await client.query('select * from rung.migration order by module, name')
  return rows
}

async function takeLock(client: Client, options: MigrateOptions): Promise<void> {
  const giveUpAt = systemClock.ticks() + lockWaitMs
  for (let attempt = 0; ; attempt += 1) {
    const { rows } = await client.query('select pg_try_advisory_lock($1) as locked', [lockKey])
    if (rows[0].locked) return
    if (systemClock.ticks() > giveUpAt) {
      throw new RungError(
        'MIGRATION_LOCKED',
        'Another process has been migrating this database for a minute. Try again when it has finished.',
      )
    }
    if (attempt === 0) options.onEvent?.({ kind: 'waiting', detail: 'another process is migrating this database' })
    await sleep(100)
  }
}

async function apply(client: Client, migration: Migration, options: MigrateOptions): Promise<void> {
  const retries = options.lockRetries ?? 10
  const schema = schemaOf(migration.module)
  await client.query(`create schema if not exists "${schema}"`)
  await client.query(`set search_path = "${schema}", ${options.searchedBehind ?? 'public'}`)
  await client.query('set statement_timeout = 0')
  if (isBackfill(migration)) return fill(client, migration, options, retries)
  const statements = await parseSql(migration.text)
  const alone = needsNoTransaction(statements)
  // CONCURRENTLY makes nobody wait, but itself waits for the transactions that are open.
  await client.query(`set lock_timeout = ${alone ? 0 : Number(options.lockTimeoutMs ?? 2000)}`)
  for (let attempt = 0; ; attempt += 1) {
    try {
      if (alone) await runAlone(client, migration, schema, statements)
      else await runInTransaction(client, migration)
      return
    } catch (error) {
      const failure = toDataError(error)
      if (!isRungError(failure, 'DATA_LOCK_TIMEOUT') || attempt >= retries) {
        if (isRungError(error, 'MIGRATION_FAILED')) throw error
        throw new RungError(
          'MIGRATION_FAILED',
          `Migration ${migration.module}/${migration.name} failed${lineOf(error, migration.text)}: ${fullMessageOf(error)} ${alone ? 'Nothing of it counts as applied' : 'It was rolled back'}; correct it and start again.`,
          { cause: error },
        )
      }
      options.onEvent?.({ kind: 'retry', migration, attempt: attempt + 1 })
      await sleep(backoffMs(attempt, 200, 5_000))
    }
  }
}

async function fill(client: Client, migration: Migration, options: MigrateOptions, lockRetries: number): Promise<void> {
  const start = systemClock.ticks()
  await runBackfill(client, migration, {
    lockRetries,
    signal: options.signal,
    rowsMax: options.backfillRowsMax,
    onProgress: (progress) => options.onEvent?.({ kind: 'filled', migration, progress }),
    onPause: (reason) => options.onEvent?.({ kind: 'paused', migration, reason }),
    onRetry: (attempt) => options.onEvent?.({ kind: 'retry', migration, attempt }),
  }).catch((error) => {
    throw toDataError(error)
  })
  await inTransaction(client, async () => {
    await record(client, migration, systemClock.ticks() - start)
    await client.query('delete from rung.migration_backfill where module = $1 and name = $2', [
      migration.module,
      migration.name,
    ])
  })
}

/** Postgres counts characters, JavaScript counts UTF-16 units. */
function lineOf(error: unknown, text: string): string {
  const { position } = error as { position?: string }
  if (!position) return ''
  const before = Array.from(text).slice(0, Number(position) - 1)
  return ` at line ${before.filter((character) => character === '\n').length + 1}`
}

/** Everything that Postgres says: for example which value is duplicated, and what to do. */
function fullMessageOf(error: unknown): string {
  const { detail, hint } = error as { detail?: string; hint?: string }
  return [messageOf(error), detail, hint].flatMap((text) => (text ? [text.replace(/\.?$/, '.')] : [])).join(' ')
}

async function runInTransaction(client: Client, migration: Migration): Promise<void> {
  const start = systemClock.ticks()
  await inTransaction(client, async () => {
    await client.query(migration.text)
    await record(client, migration, systemClock.ticks() - start)
  })
}

async function inTransaction(client: Client, work: () => Promise<void>): Promise<void> {
  await client.query('begin')
  try {
    await work()
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch(() => {})
    throw error
  }
}

/**
 * Outside a transaction the work and its record are two steps, so an attempt is noted first. What an interrupted attempt left of an
 * index is dropped, and the file is run again.
 */
async function runAlone(
  client: Client,
  migration: Migration,
  schema: string,
  statements: readonly Statement[],
): Promise<void> {
  const start = systemClock.ticks()
  const { module, name } = migration
  const { rows: attempts } = await client.query<{ index_name: string | null }>(
    'select index_name from rung.migration_attempt where module = $1 and name = $2',
    [module, name],
  )
  for (const { index_name: left } of attempts) await dropIndex(client, schema, left)
  const index = findNodes(statements[0]?.ast, 'IndexStmt')[0]?.idxname ?? null
  const { rows: existing } = await client.query<{ valid: boolean }>(
    'select indisvalid as valid from pg_index where indexrelid = to_regclass($1)',
    [quoted(schema, index ?? '')],
  )
  if (existing[0]?.valid === false) await dropIndex(client, schema, index)
  // An index that existed before the first attempt is not ours to drop.
  const own = existing[0]?.valid ? null : index
  await client.query(
    `insert into rung.migration_attempt (module, name, index_name) values ($1, $2, $3)
      on conflict (module, name) do update set index_name = excluded.index_name`,
    [module, name, own],
  )
  try {
    await client.query(attempts.length > 0 ? withIfExists(migration.text) : migration.text)
  } catch (error) {
    // An invalid unique index would keep refusing rows. If this fails too, the next attempt does it.
    await dropIndex(client, schema, own).catch(() => {})
    throw error
  }
  await record(client, migration, systemClock.ticks() - start)
}

function quoted(...words: string[]): string {
  return words.map((word) => `"${word.replaceAll('"', '""')}"`).join('.')
}

async function dropIndex(client: Client, schema: string, name: string | null): Promise<void> {
  if (name !== null) await client.query(`drop index concurrently if exists ${quoted(schema, name)}`)
}

/** An interrupted attempt may have dropped the index already. */
function withIfExists(text: string): string {
  return text.replace(/\b(drop\s+index\s+concurrently)\s+(?!if\s+exists\b)/gi, '$1 if exists ')
}

async function record(client: Client, { module, name, checksum }: Migration, durationMs: number): Promise<void> {
  const values = [module, name, checksum, durationMs]
  await client.query('insert into rung.migration (module, name, checksum, duration_ms) values ($1, $2, $3, $4)', values)
  await client.query('delete from rung.migration_attempt where module = $1 and name = $2', [module, name])
}
