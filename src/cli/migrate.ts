import path from 'node:path'
import { incompatibleCalls } from '../app/compatible.ts'
import type { App } from '../app/define-app.ts'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import type { BackfillProgress } from '../migrations/backfill.ts'
import { lintAll, type MigrationState, migrate, migrationStatus } from '../migrations/migrate.ts'
import type { Migration } from '../primitives/data/migrations.ts'
import { loadApp } from '../runtime/load-app.ts'
import { createLog } from '../runtime/log.ts'
import { migrationsOf } from '../runtime/migrations.ts'
import { startDatabaseServer } from '../runtime/wire.ts'
import { type Command, databaseSettings, type Input, type Result, result, settingOptions } from './command.ts'
import { toolBindings } from './input-settings.ts'
import { tableLines } from './table.ts'

const command: Command = {
  name: 'migrate',
  summary: 'apply, list or check migrations',
  usage: 'rung migrate [app-file] [options]',
  wordsMax: 1,
  help: [
    'Applies the pending migrations, each in a transaction of its own, under a lock that',
    'lets one process migrate at a time. "rung start" does the same before it serves.',
    'A statement that would lock a large table for long is refused; the message says what',
    'to write instead. Never change an applied file: write a new one. "rung dev" applies',
    'a file as soon as it is saved; to start over, stop it and delete .rung. A backfill',
    '(0005_name.backfill.sql) runs in short batches, which rest while a replica or the server',
    'is behind; Ctrl-C stops it between two of them, and the next run goes on from there.',
  ].join('\n'),
  settings: databaseSettings,
  examples: ['rung migrate --status', 'rung migrate --dry-run', 'DATABASE_URL=postgres://… rung migrate'],
  options: {
    ...settingOptions('process.dataDir'),
    status: { type: 'boolean', help: 'List what is applied and what is pending.' },
    'dry-run': { type: 'boolean', help: 'Show and check what would be applied; change nothing.' },
    running: {
      type: 'string',
      value: 'folder',
      help: 'Refuse what would break the code in this folder, which runs meanwhile; "rung deploy" does it.',
    },
    callers: {
      type: 'string',
      value: 'app-file',
      help: 'Refuse calls between modules that this app, which runs meanwhile on other nodes, could not make.',
    },
    lint: { type: 'boolean', help: 'Check all files, applied or not; needs no database.' },
  },
  async run(input) {
    const { positionals, values, out } = input
    const bindings = await toolBindings(input, positionals[0])
    const app = await loadApp(positionals[0], input.cwd)
    if (typeof values.callers === 'string') await checkCalls(values.callers, app, input.cwd)
    const migrations = await migrationsOf(app)
    if (values.lint) return showLint(input, migrations, false)
    const server = await startDatabaseServer(bindings, createLog(app.name, 'silent'), 'attach')
    try {
      const options = { connection: server.connection, migrations }
      if (values.status) return showStatus(input, await migrationStatus(options))
      if (values['dry-run']) {
        const states = await migrationStatus(options)
        const pending = migrations.filter((_, index) => states[index]!.state === 'pending')
        return await showLint(input, pending, true)
      }
      const stop = new AbortController()
      for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort())
      const filled = new Map<string, number>()
      let toldAt = Number.NEGATIVE_INFINITY
      const applied = await migrate({
        ...options,
        signal: stop.signal,
        ...(typeof values.running === 'string' && { running: path.resolve(input.cwd, values.running) }),
        onEvent(event) {
          if (event.kind === 'filled') {
            filled.set(nameOf(event.migration), event.progress.rows)
            if (systemClock.ticks() - toldAt < 1_000) return
            toldAt = systemClock.ticks()
            out.note(`  ${progressOf(event.progress)}`)
          }
          if (event.kind === 'paused') out.note(`  resting: ${event.reason}`)
          if (event.kind === 'waiting') out.note(`waiting: ${event.detail}`)
          if (event.kind === 'retry') out.note(`  a lock was not free; try ${event.attempt + 1}`)
          if (event.kind === 'applying') out.note(`[${event.index + 1}/${event.total}] ${nameOf(event.migration)}`)
        },
      })
      return result({ applied: applied.map(nameOf), filled: Object.fromEntries(filled) }, () =>
        out.line(applied.length === 0 ? nothingPending : `Applied ${applied.length}.`),
      )
    } finally {
      await server.stop()
    }
  },
}
export default command

/** @throws CALL_INCOMPATIBLE */
async function checkCalls(callers: string, app: App, cwd: string): Promise<void> {
  const [first, ...others] = incompatibleCalls(await loadApp(callers, cwd), app)
  if (first === undefined) return
  const more = others.length === 0 ? '' : ` So it is with ${others.length} more.`
  throw new RungError('CALL_INCOMPATIBLE', `${first}${more}`, { facts: { calls: [first, ...others] } })
}

const nothingPending = 'Nothing to do: all migrations are applied.'

function nameOf({ module, name }: Pick<Migration, 'module' | 'name'>): string {
  return `${module}/${name}`
}

function progressOf({ rows, rowsTotal, rowsPerSecond, leftMs }: BackfillProgress): string {
  const share = rowsTotal ? ` of ${rowsTotal} (${Math.min(100, Math.floor((rows / rowsTotal) * 100))} %)` : ''
  const left = leftMs === undefined ? '' : `, ${formatMs(leftMs)} left`
  return `${rows}${share} rows, ${Math.round(rowsPerSecond)}/s${left}`
}

function showStatus({ out }: Input, states: readonly MigrationState[]): Result {
  return result(states, () => {
    const rows = states.map((state) => {
      const { appliedAt, durationMs = 0 } = state
      const when = appliedAt ? `${appliedAt.toISOString().slice(0, 19)}Z  ${formatMs(durationMs)}` : ''
      return [state.state, nameOf(state), when]
    })
    for (const line of tableLines([8, 38, 30], rows)) out.line(line)
    const pending = states.filter(({ state }) => state === 'pending').length
    out.line(pending === 0 ? 'All are applied.' : `${pending} to apply: rung migrate`)
  })
}

/** Exits with 1 when a migration would be refused. */
async function showLint({ out }: Input, migrations: readonly Migration[], withSql: boolean): Promise<Result> {
  const view = (await lintAll(migrations)).map(({ migration, findings }) => ({
    migration: nameOf(migration),
    ...(withSql && { sql: migration.text }),
    findings,
  }))
  const refused = view.flatMap(({ findings }) => findings).filter(({ overridden }) => overridden === undefined).length
  return result(
    view,
    () => {
      for (const { migration, sql, findings } of view) {
        out.line(`${migration}${findings.length === 0 ? '  ok' : ''}`)
        if (sql !== undefined) out.line(sql.trimEnd().replace(/^/gm, '    '))
        for (const { line, rule, overridden, message, advice } of findings) {
          out.line(`  line ${line}, ${rule}${overridden === undefined ? '' : ` (allowed: ${overridden})`}`)
          out.line(`    ${message}`)
          if (overridden === undefined) out.line(advice.replace(/^/gm, '    '))
        }
      }
      if (view.length === 0) out.line(nothingPending)
      else out.line(refused === 0 ? `${view.length} checked, none refused.` : `${refused} refused.`)
    },
    refused === 0 ? 0 : 1,
  )
}
