import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { App } from '../app/define-app.ts'
import { schemaOf } from '../primitives/data/boundary.ts'
import { migrationsOf } from '../runtime/migrations.ts'
import type { Finding } from './finding.ts'

/** Adds the migration file that an advised index belongs in: the next one of the module that owns the table, as a path from `cwd`. */
export async function withMigrationFiles(findings: readonly Finding[], app: App, cwd: string): Promise<Finding[]> {
  const next = new Map<string, number>()
  for (const { module, name } of await migrationsOf(app)) next.set(schemaOf(module), Number.parseInt(name, 10) + 1)
  return findings.map((finding) => {
    const [, index] = /^create index concurrently (\w+) /.exec(finding.sql) ?? []
    const schema = finding.table?.split('.')[0] ?? ''
    const owner = app.modules.find((module) => schemaOf(module.name) === schema)
    if (index === undefined || !owner?.migrations) return finding
    const number = next.get(schema) ?? 1
    next.set(schema, number + 1) // a file for each: CONCURRENTLY stands alone
    const file = `${String(number).padStart(4, '0')}_${index}.sql`
    return { ...finding, migration: path.relative(cwd, path.join(fileURLToPath(owner.migrations), file)) }
  })
}
