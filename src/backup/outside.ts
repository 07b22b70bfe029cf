import type { Client } from '../engines/postgres/client.ts'
import { RungError } from '../kernel/errors.ts'

/**
 * What a database may hold that leads a copy outside, or that masking cannot see or would set off. It is refused and not removed: a copy without
 * it would be another database, and a rule that removes can miss one. `$$` stands for the names.
 */
const unsafe: readonly { find: string; says: string }[] = [
  {
    find: `select oid::regclass::text from pg_class where relkind = 'f'`,
    says: 'Foreign tables ($$) are rows of another database, which masking would overwrite. Drop them in the original before the backup.',
  },
  {
    find: `select usename || ' at ' || srvname from pg_user_mappings`,
    says: 'User mappings ($$) hold passwords of other databases. Drop them in the original before the backup.',
  },
  {
    find: `select extname::text from pg_extension where extname in ('dblink', 'plperlu', 'plpython3u', 'pltclu')`,
    says: 'With the extension $$ a view or a function of the copy reaches other systems. Drop it in the original before the backup.',
  },
  {
    find: 'select evtname::text from pg_event_trigger',
    says: 'Event triggers ($$) would run code on the copy while it is made. Drop them in the original before the backup.',
  },
  {
    find: `select tgname || ' on ' || tgrelid::regclass from pg_trigger where tgenabled in ('A', 'R')`,
    says: 'Triggers ($$) also fire while personal data is masked, and can copy it. In the original: alter table … enable trigger, without always or replica.',
  },
  {
    find: `select rulename || ' on ' || ev_class::regclass from pg_rewrite where ev_enabled in ('A', 'R')`,
    says: 'Rules ($$) also apply while personal data is masked, and can copy it. In the original: alter table … enable rule, without always or replica.',
  },
  {
    find: 'select oid::text from pg_largeobject_metadata',
    says: 'Large objects ($$) have no comment that says what is personal. Move them to a column or to files, and remove them with lo_unlink.',
  },
]

/** @throws STAGING_INVALID if the database holds what leads a copy outside, or what cannot be masked */
export async function refuseUnsafe(sql: Client): Promise<void> {
  for (const { find, says } of unsafe) {
    const { rows } = await sql.query<{ name: string }>(`select name from (${find}) as found (name) order by 1 limit 4`)
    const found = rows.slice(0, 3).map(({ name }) => name)
    if (rows.length > 3) found.push('…')
    if (found.length > 0)
      throw new RungError(
        'STAGING_INVALID',
        says.replace('$$', () => found.join(', ')),
      )
  }
}
