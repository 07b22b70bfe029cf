import { formatMs } from '../kernel/units.ts'
import type { Finding } from '../migrations/lint.ts'
import { lint, type MigrationState, migrate, migrationStatus } from '../migrations/migrate.ts'
import type { Migration } from '../primitives/data/migrations.ts'
import { migrationsOf } from '../runtime/boot.ts'
import { loadApp } from '../runtime/load-app.ts'
import { createLog } from '../runtime/log.ts'
import { startDatabaseServer } from '../runtime/wire.ts'
import type { Command, Input } from './command.ts'
import { toolBindings } from './input-settings.ts'

const command: Command = {
  name: 'migrate',
  summary: 'apply, list or check migrations',
  usage: 'rung migrate [app-file] [options]',
  wordsMax: 1,
  help: [
    'Applies the pending migrations, each in a transaction of its own, under a lock that',
    'lets one process migrate at a time. "rung start" does the same before it serves.',
    'What would lock a large table for long is refused, with the safe way.',
    'An applied file stays as it is: a change is a new file. "rung dev" applies a file as',
    'soon as it is saved; to begin anew there, stop it and delete the data directory, .rung.',
  ].join('\n'),
  settings: ['data', 'process.dataDir', 'process.config'],
  examples: ['rung migrate --status', 'rung migrate --dry-run', 'DATABASE_URL=postgres://… rung migrate'],
  options: {
    status: { type: 'boolean', help: 'List what is applied and what is pending.' },
    'dry-run': { type: 'boolean', help: 'Show and check what would be applied; change nothing.' },
    lint: { type: 'boolean', help: 'Check all files, applied or not; needs no database.' },
  },
  async run(input) {
    const bindings = await toolBindings(input, input.positionals[0])
    const app = await loadApp(input.positionals[0], input.cwd)
    const migrations = await migrationsOf(app)
    if (input.values.lint) return showLint(input, migrations)
    const server = await startDatabaseServer(bindings, createLog(app.name, 'silent'), 'attach')
    try {
      const options = { connection: server.connection, migrations }
      if (input.values.status) return showStatus(input, await migrationStatus(options))
      if (input.values['dry-run']) {
        const states = await migrationStatus(options)
        return showLint(
          input,
          migrations.filter((_, index) => states[index]!.state === 'pending'),
          true,
        )
      }
      const applied = await migrate({
        ...options,
        onEvent(event) {
          if (event.kind === 'waiting') input.out.note(`waiting: ${event.detail}`)
          if (event.kind === 'retry') input.out.note(`  a lock was not free; try ${event.attempt + 1}`)
          if (event.kind === 'applying')
            input.out.note(`[${event.index + 1}/${event.total}] ${nameOf(event.migration)}`)
        },
      })
      if (input.json) input.out.json({ applied: applied.map(nameOf) })
      else
        input.out.line(
          applied.length === 0 ? 'Nothing to do: all migrations are applied.' : `Applied ${applied.length}.`,
        )
      return 0
    } finally {
      await server.stop()
    }
  },
}
export default command

function nameOf({ module, name }: Pick<Migration, 'module' | 'name'>): string {
  return `${module}/${name}`
}

function showStatus({ json, out }: Input, states: readonly MigrationState[]): number {
  if (json) {
    out.json(states)
    return 0
  }
  for (const state of states) {
    const when = state.appliedAt
      ? `${state.appliedAt.toISOString().slice(0, 19)}Z  ${formatMs(state.durationMs ?? 0)}`
      : ''
    out.line(`${state.state.padEnd(8)} ${nameOf(state).padEnd(40)} ${when}`)
  }
  const pending = states.filter(({ state }) => state === 'pending').length
  out.line(pending === 0 ? 'All are applied.' : `${pending} to apply: rung migrate`)
  return 0
}

/** @returns 1 when a migration would be refused, otherwise 0 */
async function showLint({ json, out }: Input, migrations: readonly Migration[], withText = false): Promise<number> {
  const results: { migration: Migration; findings: Finding[] }[] = []
  for (const migration of migrations) results.push({ migration, findings: await lint(migration) })
  const refused = results
    .flatMap(({ findings }) => findings)
    .filter((finding) => finding.overridden === undefined).length
  if (json) {
    out.json(
      results.map(({ migration, findings }) => ({
        migration: nameOf(migration),
        ...(withText && { sql: migration.text }),
        findings,
      })),
    )
    return refused === 0 ? 0 : 1
  }
  for (const { migration, findings } of results) {
    out.line(`${nameOf(migration)}${findings.length === 0 ? '  ok' : ''}`)
    if (withText) out.line(migration.text.trimEnd().replace(/^/gm, '    '))
    for (const finding of findings) {
      out.line(
        `  line ${finding.line}, ${finding.rule}${finding.overridden === undefined ? '' : ` (allowed: ${finding.overridden})`}`,
      )
      out.line(`    ${finding.message}`)
      if (finding.overridden === undefined) out.line(finding.advice.replace(/^/gm, '    '))
    }
  }
  if (migrations.length === 0) out.line('Nothing to do: all migrations are applied.')
  else out.line(refused === 0 ? `${migrations.length} checked, none refused.` : `${refused} refused.`)
  return refused === 0 ? 0 : 1
}
