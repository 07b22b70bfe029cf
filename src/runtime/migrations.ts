import type { App } from '../app/define-app.ts'
import { ownText } from '../kernel/own-text.ts'
import { loadMigrations } from '../migrations/migrate.ts'
import { type Migration, systemMigration } from '../primitives/data/migrations.ts'

/** The primitives with tables of their own, in the order of dependency: each has one migration, `schema.sql`. */
const withTables = ['jobs', 'events', 'idempotency', 'limits', 'sessions', 'search', 'cache', 'upkeep'] as const

/** Migrations of Rung's own tables, which are applied before those of any module, in every database. */
export const systemMigrations: readonly Migration[] = [
  ...withTables.map((primitive, index) =>
    systemMigration(
      `000${index + 1}_${primitive}`,
      ownText(import.meta.url, `./../primitives/${primitive}/schema.sql`),
    ),
  ),
  systemMigration('0009_deploys', ownText(import.meta.url, './deploys.sql')),
  systemMigration('0010_errors', ownText(import.meta.url, './../primitives/upkeep/errors.sql')),
  systemMigration('0011_record', ownText(import.meta.url, './record.sql')),
  systemMigration('0012_alerts', ownText(import.meta.url, './alerts.sql')),
  systemMigration('0013_climbs', ownText(import.meta.url, './climbs.sql')),
  systemMigration('0014_sightings', ownText(import.meta.url, './sightings.sql')),
  systemMigration('0015_crons', ownText(import.meta.url, './crons.sql')),
  systemMigration('0016_event_log', ownText(import.meta.url, './../primitives/events/log.sql')),
  systemMigration('0017_search_feed', ownText(import.meta.url, './../primitives/search/feed.sql')),
]

/** Returns Rung's own migrations and those of the modules, or of those modules that `isIn` admits. */
export async function migrationsOf(
  { modules }: Pick<App, 'modules'>,
  isIn: (module: string) => boolean = () => true,
): Promise<Migration[]> {
  const sources = modules.flatMap(({ name, migrations, reads }) =>
    migrations && isIn(name) ? [{ module: name, folder: migrations, reads: reads ?? [] }] : [],
  )
  return [...systemMigrations, ...(await loadMigrations(sources))]
}
