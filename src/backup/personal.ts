import type { Client } from '../engines/postgres/client.ts'
import { RungError } from '../kernel/errors.ts'

/** How a column is masked, by the word in its comment: `comment on column account.email is 'personal: email'`. */
export const masks: Readonly<Record<string, (column: string, hash: string, empty: string) => string>> = {
  email: (_, hash) => `substr(${hash}, 1, 16) || '@example.com'`,
  name: (_, hash) => `'p' || substr(${hash}, 1, 15)`,
  secret: (_, hash) => `substr(${hash}, 1, 32)`,
  // What is a letter depends on the collation of a column: all but ASCII's blanks and punctuation goes.
  text: (column) => `regexp_replace(${column} collate "C", '[^[:space:][:punct:]]', 'x', 'g')`,
  remove: (_column, _hash, empty) => empty,
}
/** Looked at, and kept as it is. */
const kept = 'no'

/** Names that most often hold something personal, in snake_case. */
const suspicious =
  '(^|_)(e_?mails?|phones?|mobiles?|passw(or)?ds?|first_?name|last_?name|full_?name|user_?names?|address(es)?|street|birth(day|date)?|iban|ssn|ip|tokens?|secrets?|credentials?|(api|private|access|key)_?(keys?|hash))(_|$)'
/** What such a name refers to, or how often and when something happened, or was made anew. */
const harmless = '_(id|count|at|generation)$'

/** What stands in a column from which values are removed, and which must have one; by category or type. */
const empties = `case when not required then 'null'
    when category = 'A' or type in ('json', 'jsonb') then '''{}''' when category = 'S' or type = 'bytea' then ''''''
    when category = 'N' then '0' when type = 'uuid' then '''00000000-0000-0000-0000-000000000000'''
    when type in ('date', 'timestamp', 'timestamptz') then '''epoch''' when type in ('inet', 'cidr') then '''0.0.0.0''' end`

export interface PersonalColumn {
  /** Quoted. */
  table: string
  /** Quoted. */
  name: string
  /** For people. */
  label: string
  as: string
  isText: boolean
  /** An SQL literal; none if nothing of its type is empty. */
  empty: string | null
  looksPersonal: boolean
  /** Whether its comment has the word, however it is written. */
  mentioned: boolean
  /** Labels of columns to which it is a foreign key. */
  refersTo: readonly string[]
}

/**
 * Returns the columns of an app's tables that must be masked.
 * @throws STAGING_INVALID if a comment is wrong, or a column looks personal and has none
 */
export async function personalColumns(sql: Client): Promise<PersonalColumn[]> {
  const all = await columnsOf(sql)
  const invalid = (message: string) => new RungError('STAGING_INVALID', message)
  const unclear = all.find(({ as, mentioned }) => as === '' && mentioned)
  if (unclear)
    throw invalid(
      `The comment on ${unclear.label} has the word "personal" and does not begin with 'personal: …'. Begin it with that, and ${Object.keys(masks).join(', ')} or ${kept}; other words may follow.`,
    )
  const unsaid = all.filter(({ as, looksPersonal }) => as === '' && looksPersonal)
  if (unsaid.length > 0)
    throw invalid(
      `${unsaid.map(({ label }) => label).join(', ')} may be personal, and nothing says how to mask it. Add a migration: comment on column … is 'personal: email' (or ${Object.keys(masks).slice(1).join(', ')}; "personal: ${kept}" keeps it).`,
    )
  const isMasked = ({ as }: PersonalColumn) => as !== '' && as !== kept
  for (const { label, as, isText, empty } of all.filter(isMasked)) {
    if (!masks[as])
      throw invalid(`${label} is to be masked as "${as}". There are ${Object.keys(masks).join(', ')} and ${kept}.`)
    if (as !== 'remove' && !isText) throw invalid(`${label} is no text: write 'personal: remove'.`)
    if (as === 'remove' && empty === null)
      throw invalid(`${label} must have a value, and no value of its type is empty, so it cannot be removed.`)
  }
  const byLabel = new Map(all.map((one) => [one.label, one]))
  for (const one of all) {
    for (const other of one.refersTo.map((label) => byLabel.get(label)!)) {
      if (one.as !== other.as && (isMasked(one) || isMasked(other)))
        throw invalid(`${one.label} refers to ${other.label}, so both need the same comment: 'personal: …'.`)
    }
  }
  return all.filter(isMasked)
}

async function columnsOf(sql: Client): Promise<PersonalColumn[]> {
  const { rows } = await sql.query({
    text: `with app as (
        select c.oid, a.attnum, c.oid::regclass::text as table, quote_ident(a.attname) as name,
          c.oid::regclass::text || '.' || a.attname as label,
          coalesce(substring(col_description(c.oid, a.attnum) from '^personal: *([a-z]+)\\M'), '') as as,
          col_description(c.oid, a.attnum) ~* 'personal' as mentioned,
          regexp_replace(a.attname, '([a-z0-9])([A-Z])', '\\1_\\2', 'g') as word,
          t.typcategory as category, t.typname as type, a.attnotnull as required
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
        join pg_type t on t.oid = a.atttypid
        where c.relkind in ('r', 'p') and not c.relispartition
          and n.nspname not in ('rung', 'pg_catalog', 'information_schema') and n.nspname not like 'pg\\_%'
      )
      select "table", name, label, "as", category = 'S' as "isText", coalesce(mentioned, false) as mentioned, ${empties} as empty,
        category <> 'B' and word ~* $1 and word !~* $2 as "looksPersonal",
        array(
          select other.label from pg_constraint f
          cross join unnest(f.conkey, f.confkey) as k (own, foreign_one)
          join app other on other.oid = f.confrelid and other.attnum = k.foreign_one
          where f.contype = 'f' and f.conrelid = app.oid and k.own = app.attnum and f.conparentid = 0
        ) as "refersTo"
      from app order by oid, attnum`,
    values: [suspicious, harmless],
  })
  return rows as PersonalColumn[]
}
