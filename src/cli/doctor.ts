import path from 'node:path'
import { examine } from '../doctor/examine.ts'
import type { Experiment } from '../doctor/experiments.ts'
import type { Finding } from '../doctor/finding.ts'
import { withMigrationFiles } from '../doctor/migration-files.ts'
import { findingLines, serverLine, summary } from '../doctor/report.ts'
import { readSeen } from '../observe/seen.ts'
import { loadApp } from '../runtime/load-app.ts'
import { openPrimary } from '../runtime/wire.ts'
import { type Command, databaseSettings, result, settingOptions } from './command.ts'
import { withServer } from './database.ts'
import { toolBindings } from './input-settings.ts'
import { cut } from './table.ts'

const doctor: Command = {
  name: 'doctor',
  summary: 'examine the database and say what to do',
  usage: 'rung doctor [app-file] [options]',
  wordsMax: 1,
  help: [
    'Examines the database of the app, which may be running, or the one in DATABASE_URL.',
    'It changes nothing and makes no reader or writer wait: an index is advised only',
    'after it was tried on a copy of the table, or of a sample of it, and the planner',
    'used it and estimated the statement to be at least three times cheaper.',
    '',
    'The first line: version, size, connections in use and possible, share of reads',
    'from the cache, the oldest open transaction, the age of the counters, how many',
    'different statements were seen. Then the findings: "act" first; "look" needs your',
    'judgement; "note" is good to know. If the app can be loaded, the migration file for',
    'an index is named too.',
    '',
    'Exit code: 0 nothing to act on, 1 an error, 2 something to act on.',
  ].join('\n'),
  settings: databaseSettings,
  examples: ['rung doctor', 'rung doctor src/app.ts --json', 'DATABASE_URL=postgres://… rung doctor'],
  options: settingOptions('process.dataDir'),
  async run(input) {
    const { cwd, positionals, out } = input
    const bindings = await toolBindings(input, positionals[0])
    return withServer(bindings, cwd, async ({ adminConnection, connection }) => {
      const app = await loadApp(positionals[0], cwd).catch((error) => {
        if (positionals[0] !== undefined) throw error
        return undefined
      })
      const database = openPrimary(bindings.data, connection)
      const examined = await examine(adminConnection, {
        seen: await readSeen(database)
          .catch(() => []) // a help, never a condition
          .finally(() => database.close()),
        onProgress: (done, total, experiment) => out.note(`[${done + 1}/${total}] ${subjectOf(experiment)}`),
      })
      const findings = app ? await withMigrationFiles(examined.findings, app) : examined.findings
      const { server, statementsSeen = null } = examined.facts
      const view = { server, statementsSeen, findings: findings.map((finding) => relativeTo(cwd, finding)) }
      return result(
        view,
        () => {
          out.line(serverLine(examined.facts))
          for (const finding of view.findings) {
            out.line()
            for (const line of findingLines(finding)) out.line(line)
          }
          out.line()
          out.line(summary(view.findings))
        },
        findings.some(({ severity }) => severity === 'act') ? 2 : 0,
      )
    })
  },
}
export default doctor

function relativeTo(cwd: string, finding: Finding): Finding {
  return finding.migration === undefined ? finding : { ...finding, migration: path.relative(cwd, finding.migration) }
}

function subjectOf({ foreignKey, statement }: Experiment): string {
  return cut(foreignKey ? `foreign key ${foreignKey.name}` : statement!.text.replace(/\s+/g, ' ').trim(), 70)
}
