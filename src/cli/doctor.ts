import { examine } from '../doctor/examine.ts'
import type { Experiment } from '../doctor/experiments.ts'
import { withMigrationFiles } from '../doctor/migration-files.ts'
import { findingLines, keptLines, largestTables, serverLine, summary } from '../doctor/report.ts'
import { readSightings } from '../observe/sighting-table.ts'
import { findApp, loadApp } from '../runtime/load-app.ts'
import { openPrimary } from '../runtime/wire.ts'
import { lookAtSources } from '../stateless/look.ts'
import { type Command, databaseSettings, result, settingOptions } from './command.ts'
import { withServer } from './database.ts'
import { toolBindings } from './input-settings.ts'
import { placesFrom } from './kept-notes.ts'
import { cut } from './table.ts'

const doctor: Command = {
  name: 'doctor',
  summary: 'examine the app and its database and say what to do',
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
    'Before that it looks at the sources of the app, for what one process keeps and a second',
    'one would miss: variables that requests change, files on the disk, sessions in memory,',
    'timers. A line "// rung: one process is enough, because …" above such a place is the',
    'exception. "rung test --nodes 2" tries it out.',
    '',
    'Exit code: 0 nothing to act on, 1 an error, 2 something to act on.',
  ].join('\n'),
  settings: databaseSettings,
  examples: ['rung doctor', 'rung doctor src/app.ts --json', 'DATABASE_URL=postgres://… rung doctor'],
  options: settingOptions('process.dataDir'),
  async run(input) {
    const { cwd, positionals, out } = input
    const bindings = await toolBindings(input, positionals[0])
    const file = findApp(positionals[0], cwd)
    const sources = file === undefined ? [] : (await lookAtSources(file)).map((kept) => placesFrom(cwd, kept))
    return withServer(bindings, cwd, async ({ adminConnection, connection }) => {
      const app = await loadApp(positionals[0], cwd).catch((error) => {
        if (positionals[0] !== undefined) throw error
        return undefined
      })
      const database = openPrimary(bindings.data, connection)
      const examined = await examine(adminConnection, {
        seen: await readSightings(database)
          .catch(() => []) // a help, never a condition
          .finally(() => database.close()),
        onProgress: (done, total, experiment) => out.note(`[${done + 1}/${total}] ${subjectOf(experiment)}`),
      })
      const findings = app ? await withMigrationFiles(examined.findings, app, cwd) : examined.findings
      const { server, statementsSeen = null } = examined.facts
      const view = { server, statementsSeen, tables: largestTables(examined.facts), sources, findings }
      return result(
        view,
        () => {
          out.line(serverLine(examined.facts))
          for (const lines of [...sources.map(keptLines), ...view.findings.map(findingLines)]) {
            out.line()
            for (const line of lines) out.line(line)
          }
          out.line()
          out.line(summary([...sources, ...view.findings]))
        },
        [...sources, ...findings].some(({ severity }) => severity === 'act') ? 2 : 0,
      )
    })
  },
}
export default doctor

function subjectOf({ foreignKey, statement }: Experiment): string {
  return cut(foreignKey ? `foreign key ${foreignKey.name}` : statement!.text.replace(/\s+/g, ' ').trim(), 70)
}
