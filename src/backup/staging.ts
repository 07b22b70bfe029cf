import { type Client, type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { appDatabase } from '../engines/postgres/recipe.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { secret } from '../kernel/random.ts'

/** How a column is masked, by the word in its comment: `comment on column account.email is 'personal: email'`. */
const masks: Readonly<Record<string, (column: string, hash: string) => string>> = {
  email: (_, hash) => `substr(${hash}, 1, 16) || '@example.com'`,
  name: (_, hash) => `'p' || substr(${hash}, 1, 15)`,
  secret: (_, hash) => `substr(${hash}, 1, 32)`,
  text: (column) => `regexp_replace(${column}, '[[:alnum:]]', 'x', 'g')`,
  remove: () => 'null',
}
/** Looked at, and kept as it is. */
const kept = 'no'

/** What Rung keeps of the app's data beside its tables: payloads, answers, words. It is emptied, also because jobs would run and mails be sent again. */
const copies = /^(job|job_ended|job_turn|foreign_claim|idempotency|session|search_\d+(_text|_word|_level)?)$/

/** Names that most often hold something personal. */
const suspicious =
  '(^|_)(e_?mail|phone|mobile|passw(or)?d|password_hash|first_?name|last_?name|full_?name|username|address|street|birth(day|date)?|iban|ssn|ip)(_|$)'

export interface Masked {
  /** `identity.account.email`, how it is masked, and in how many rows. */
  columns: readonly { column: string; as: string; rows: number }[]
  /** Tables of Rung that were emptied. */
  emptied: readonly string[]
}

/**
 * Masks the columns of a database that are said to be personal, and empties Rung's own copies of what was in them. Equal values stay equal, so
 * joins and unique keys hold; what they were cannot be found out from the result.
 * @throws STAGING_INVALID if a comment is wrong, a column looks personal and has none, or the masked values break a rule of the table
 */
export async function maskPersonal(connection: ConnectionConfig): Promise<Masked> {
  const sql = await connectOnce({ ...connection, database: appDatabase })
  try {
    const columns = checked(await columnsOf(sql))
    const emptied = (await tablesOfRung(sql)).filter((name) => copies.test(name)).map((name) => `rung.${name}`)
    await sql.query('begin')
    await sql.query('set local session_replication_role = replica') // no trigger copies what it must not, or checks what is half done
    if (emptied.length > 0) await sql.query(`truncate ${emptied.join(', ')} cascade`)
    const masked: { column: string; as: string; rows: number }[] = []
    const salt = secret(32)
    for (const [table, own] of Map.groupBy(columns, (one) => one.table)) {
      const sets = own.map(({ name, as }) => {
        const hash = `encode(sha256(convert_to('${salt}' || ${name}::text, 'UTF8')), 'hex')`
        return `${name} = case when ${name} is not null then ${masks[as]!(`${name}::text`, hash)} end`
      })
      const { rowCount } = await sql.query(`update ${table} set ${sets.join(', ')}`).catch((cause) => {
        throw new RungError('STAGING_INVALID', `${table} cannot be masked as its comments say: ${messageOf(cause)}`, {
          cause,
        })
      })
      for (const { label, as } of own) masked.push({ column: label, as, rows: rowCount ?? 0 })
    }
    await sql.query('commit')
    // The old rows would stay in the files.
    for (const table of new Set(columns.map((one) => one.table))) await sql.query(`vacuum (full) ${table}`)
    return { columns: masked, emptied }
  } finally {
    await sql.end()
  }
}

interface Column {
  /** Quoted. */
  table: string
  /** Quoted. */
  name: string
  /** For people. */
  label: string
  as: string
  isText: boolean
  isRequired: boolean
  looksPersonal: boolean
}

function checked(all: readonly Column[]): Column[] {
  const invalid = (message: string) => new RungError('STAGING_INVALID', message)
  const unsaid = all.filter(({ as, looksPersonal }) => as === '' && looksPersonal)
  if (unsaid.length > 0)
    throw invalid(
      `${unsaid.map(({ label }) => label).join(', ')} may be personal, and nothing says how to mask it. Add a migration: comment on column … is 'personal: email' (or ${Object.keys(masks).slice(1).join(', ')}; "personal: ${kept}" keeps it).`,
    )
  for (const { label, as, isText, isRequired } of all) {
    if (as === '' || as === kept) continue
    if (!masks[as])
      throw invalid(`${label} is to be masked as "${as}". There are ${Object.keys(masks).join(', ')} and ${kept}.`)
    if (as === 'remove' ? isRequired : !isText)
      throw invalid(
        as === 'remove'
          ? `${label} must have a value, so it cannot be removed.`
          : `${label} is no text: write 'personal: remove', which needs a column without "not null".`,
      )
  }
  return all.filter(({ as }) => as !== '' && as !== kept)
}

async function columnsOf(sql: Client): Promise<Column[]> {
  const { rows } = await sql.query({
    text: `select c.oid::regclass::text as table, quote_ident(a.attname) as name, c.oid::regclass::text || '.' || a.attname as label,
        coalesce(substring(d.description from '^personal: *([a-z]+)'), '') as as,
        t.typcategory = 'S' as "isText", a.attnotnull as "isRequired",
        t.typcategory in ('S', 'I') and a.attname ~* $1 as "looksPersonal"
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
      join pg_type t on t.oid = a.atttypid
      left join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = c.oid and d.objsubid = a.attnum
      where c.relkind in ('r', 'p') and not c.relispartition
        and n.nspname not in ('rung', 'pg_catalog', 'information_schema') and n.nspname not like 'pg\\_%'
      order by c.oid, a.attnum`,
    values: [suspicious],
  })
  return rows as Column[]
}

async function tablesOfRung(sql: Client): Promise<string[]> {
  const { rows } = await sql.query(
    `select quote_ident(relname) as name from pg_class where relkind in ('r', 'p') and relnamespace = to_regnamespace('rung') order by 1`,
  )
  return rows.map(({ name }) => name as string)
}
