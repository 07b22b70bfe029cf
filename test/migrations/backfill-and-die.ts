/** Runs the migrations of a folder, and tells its parent after each batch; it is killed in the middle of one. */
import { pathToFileURL } from 'node:url'
import { loadMigrations, migrate } from '../../src/migrations/migrate.ts'

const [url, folder] = process.argv.slice(2) as [string, string]
const migrations = await loadMigrations([{ module: 'shop', folder: pathToFileURL(folder), reads: [] }])
await migrate({
  connection: { url },
  migrations,
  onEvent(event) {
    if (event.kind === 'filled') console.log(event.progress.rows)
  },
})
