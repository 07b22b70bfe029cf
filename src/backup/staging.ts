import { type Client, type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { secret } from '../kernel/random.ts'
import { refuseUnsafe } from './outside.ts'
import { masks, personalColumns } from './personal.ts'

/**
 * Rung's own tables in a copy; a test demands a decision for each. Emptied is what has values of the app (payloads, answers, tags, words of the
 * search), tells of clients, or would do something by itself: jobs, and times of a cron that would be made up for. A table that is not named here
 * is emptied too. `search_n` are the tables of a generation.
 */
export const ownTables: Readonly<Record<string, 'emptied' | 'kept'>> = {
  alert: 'emptied', // they tell of other processes, and who has seen them
  alert_look: 'emptied',
  cron: 'emptied',
  deploy: 'emptied',
  error: 'emptied',
  event: 'emptied',
  event_log: 'kept', // numbers only
  event_mark: 'kept',
  foreign_claim: 'emptied',
  frame: 'emptied', // it tells of other processes, and has texts of statements
  idempotency: 'emptied',
  incident: 'emptied',
  incident_entry: 'emptied',
  invalidation: 'emptied',
  job: 'emptied',
  job_ended: 'emptied',
  job_turn: 'emptied',
  lease: 'emptied',
  limit_use: 'emptied',
  migration: 'kept',
  migration_attempt: 'kept',
  migration_backfill: 'emptied', // its keys are values of the app
  report: 'emptied',
  search_fed: 'kept',
  search_feed: 'kept',
  search_generation: 'kept',
  search_index: 'kept',
  search_indexed: 'kept',
  search_n: 'emptied',
  search_n_level: 'emptied',
  search_n_text: 'emptied',
  search_n_word: 'emptied',
  search_pending: 'emptied',
  session: 'emptied',
  sighting: 'emptied',
  subscription: 'kept',
}

export interface Masked {
  /** `identity.account.email`, how it is masked, and in how many rows. */
  columns: readonly { column: string; as: string; rows: number }[]
  /** Tables of Rung that were emptied. */
  emptied: readonly string[]
}

/**
 * Masks the columns of a database that are said to be personal, and empties Rung's own copies of what was in them. Equal values stay equal, so
 * joins and unique keys hold. Values cannot be tried out, since the salt is forgotten; of a `text` its shape stays.
 * @param connection that of a superuser to the app's database
 * @throws STAGING_INVALID if the database holds what leads outside or cannot be masked, a comment is wrong, a column looks personal and has none,
 *   or the masked values break a rule of the table
 */
export async function maskPersonal(connection: ConnectionConfig): Promise<Masked> {
  const sql = await connectOnce(connection)
  try {
    // For the whole session: no trigger copies what it must not, or checks what is half done.
    await sql.query('set session_replication_role = replica')
    await refuseUnsafe(sql)
    const columns = await personalColumns(sql)
    const emptied = await tablesToEmpty(sql)
    const tables = Map.groupBy(columns, (one) => one.table)
    await sql.query('begin')
    await sql.query({ text: `select set_config('rung.salt', $1, true)`, values: [secret(32)] })
    // Its publisher would take the copy for the original, and its connection has a password.
    await sql.query(`update pg_subscription set subenabled = false, subconninfo = ''`)
    if (emptied.length > 0) await sql.query(`truncate ${emptied.join(', ')}`)
    const masked: { column: string; as: string; rows: number }[] = []
    for (const [table, own] of tables) {
      const sets = own.map(({ name, as, empty }) => {
        const hash = `encode(sha256(convert_to(current_setting('rung.salt') || ${name}::text, 'UTF8')), 'hex')`
        const value = masks[as]!(`${name}::text`, hash, empty!)
        return `${name} = ${as === 'remove' ? value : `case when ${name} is not null then ${value} end`}`
      })
      const { rowCount } = await sql.query(`update ${table} set ${sets.join(', ')}`).catch((cause) => {
        throw new RungError('STAGING_INVALID', `${table} cannot be masked as its comments say: ${messageOf(cause)}`, {
          cause,
        })
      })
      for (const { label, as } of own) masked.push({ column: label, as, rows: rowCount ?? 0 })
    }
    await sql.query('commit')
    await refreshViews(sql)
    // Statistics have values of columns, also of tables that are empty now.
    await sql.query('delete from pg_statistic')
    await sql.query('delete from pg_statistic_ext_data')
    await sql.query('vacuum (full)') // old rows, and values of dropped columns, would stay in the files
    await sql.query('analyze')
    return { columns: masked, emptied }
  } finally {
    await sql.end()
  }
}

async function tablesToEmpty(sql: Client): Promise<string[]> {
  const { rows } = await sql.query<{ name: string }>(
    `select quote_ident(relname) as name from pg_class where relkind in ('r', 'p') and relnamespace = to_regnamespace('rung') order by 1`,
  )
  return rows.flatMap(({ name }) => (ownTables[kindOf(name)] === 'kept' ? [] : [`rung.${name}`]))
}

/** `search_7_word` is `search_n_word`. */
export function kindOf(table: string): string {
  return table.replace(/^search_\d+/, 'search_n')
}

/** Materialized views have values of their own, also from each other: all are emptied first, then those are filled that read none that is empty. */
async function refreshViews(sql: Client): Promise<void> {
  const { rows } = await sql.query<{ view: string }>(
    `select oid::regclass::text as view from pg_class where relkind = 'm' and relispopulated order by oid`,
  )
  for (const { view } of rows) await sql.query(`refresh materialized view ${view} with no data`)
  for (let left = rows; left.length > 0; ) {
    const failed: { view: string; cause: unknown }[] = []
    for (const { view } of left) {
      await sql.query(`refresh materialized view ${view}`).catch((cause) => failed.push({ view, cause }))
    }
    if (failed.length === left.length) {
      const [{ view, cause }] = failed as [(typeof failed)[0]]
      throw new RungError('STAGING_INVALID', `${view} cannot be filled with masked values: ${messageOf(cause)}`, {
        cause,
      })
    }
    left = failed
  }
}
