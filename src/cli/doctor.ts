import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { App } from '../app/define-app.ts'
import { examine } from '../doctor/examine.ts'
import type { Experiment } from '../doctor/experiments.ts'
import type { Finding } from '../doctor/finding.ts'
import { findingLines, strip, summary } from '../doctor/report.ts'
import { readSeen } from '../observe/seen.ts'
import { schemaOf } from '../primitives/data/boundary.ts'
import { migrationsOf } from '../runtime/boot.ts'
import { loadApp } from '../runtime/load-app.ts'
import { createLog } from '../runtime/log.ts'
import { startDatabaseServer } from '../runtime/wire.ts'
import type { Command, Input } from './command.ts'
import { existingData, toolBindings } from './input-settings.ts'

const doctor: Command = {
  name: 'doctor',
  summary: 'look the database over and say what to do',
  usage: 'rung doctor [app-file] [options]',
  wordsMax: 1,
  help: [
    'Looks at the database of the app, beside the running app or without it, or at',
    'the one in DATABASE_URL. It changes nothing and keeps no reader or writer',
    'waiting: an index is advised only after it was tried on a copy of the table, or',
    'of a sample of it, and the planner used it and found the statement three times',
    'cheaper or more.',
    '',
    'The first line: version, size, connections in use and possible, share of reads',
    'from the cache, the oldest open transaction, how long the counters have been',
    'running, how many different statements were seen. Then what was found, "act"',
    'first; "look" needs your judgement, "note" is good to know. With the app at hand',
    'it also names the migration file that an index belongs in.',
    '',
    'Exit code: 0 nothing to act on, 1 an error, 2 something to act on.',
  ].join('\n'),
  settings: ['data', 'process.dataDir', 'process.config'],
  examples: ['rung doctor', 'rung doctor src/app.ts --json', 'DATABASE_URL=postgres://… rung doctor'],
  options: {},
  async run(input) {
    const { cwd, positionals, json, out } = input
    const bindings = existingData(await toolBindings(input, positionals[0]), cwd)
    const app = await appAtHand(positionals[0], cwd)
    const server = await startDatabaseServer(bindings, createLog('doctor', 'silent'), 'attach')
    try {
      const { facts, findings } = await examine(server.adminConnection, {
        seen: await readSeen(bindings.dataDir),
        onProgress: (done, total, experiment) => out.note(`[${done + 1}/${total}] ${subjectOf(experiment)}`),
      })
      const placed = await withMigrations(findings, app, cwd)
      if (json) out.json({ server: facts.server, statementsSeen: facts.statementsSeen ?? null, findings: placed })
      else print(out, strip(facts), placed)
      return findings.some(({ severity }) => severity === 'act') ? 2 : 0
    } finally {
      await server.stop()
    }
  },
}
export default doctor

/** Without an app there are findings too; but an app that was named must exist. */
async function appAtHand(file: string | undefined, cwd: string): Promise<App | undefined> {
  return loadApp(file, cwd).catch((error) => {
    if (file !== undefined) throw error
    return undefined
  })
}

type Placed = Finding & { migration?: string }

/** An index belongs in the next migration of the module that owns the table. */
async function withMigrations(findings: readonly Finding[], app: App | undefined, cwd: string): Promise<Placed[]> {
  if (!app) return [...findings]
  const next = new Map<string, number>()
  for (const { module, name } of await migrationsOf(app)) {
    next.set(schemaOf(module), Number.parseInt(name, 10) + 1)
  }
  return findings.map((finding) => {
    const [, index] = /^create index concurrently (\w+) /.exec(finding.sql) ?? []
    const schema = finding.table?.split('.')[0] ?? ''
    const owner = app.modules.find((module) => schemaOf(module.name) === schema)
    if (index === undefined || !owner?.migrations) return finding
    const number = next.get(schema) ?? 1
    next.set(schema, number + 1) // a file each: CONCURRENTLY stands alone
    const folder = path.relative(cwd, fileURLToPath(owner.migrations))
    return { ...finding, migration: path.join(folder, `${String(number).padStart(4, '0')}_${index}.sql`) }
  })
}

function print(out: Input['out'], first: string, findings: readonly Placed[]): void {
  out.line(first)
  for (const finding of findings) {
    out.line()
    for (const line of findingLines(finding)) out.line(line)
    if (finding.migration) out.line(`      file  ${finding.migration}`)
  }
  out.line()
  if (!findings.some(({ severity }) => severity !== 'note')) out.line('Nothing to do.')
  else out.line(summary(findings))
}

function subjectOf({ foreignKey, statement }: Experiment): string {
  const text = foreignKey ? `foreign key ${foreignKey.name}` : (statement?.text ?? '').replace(/\s+/g, ' ').trim()
  return text.length > 70 ? `${text.slice(0, 69)}…` : text
}
