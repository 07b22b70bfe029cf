import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { advise } from '../planner/advisor.ts'
import { readyLines } from '../planner/ready.ts'
import { reportText } from '../planner/report.ts'
import { type Command, hanging, result } from './command.ts'
import { evidenceOptions } from './evidence-of-app.ts'
import { standingOf } from './standing.ts'

const command: Command = {
  name: 'report',
  summary: 'one dated page for those who decide: users, headroom, cost',
  usage: 'rung report [app-file] [options]',
  wordsMax: 1,
  help: [
    'Writes a page of Markdown: users and requests, the ceiling and when it is reached, the',
    'cost of a month and for 10,000 users, errors and times of 28 days, deploys and incidents,',
    'what to do now, decisions that are due, and who is responsible for which module.',
    '',
    'What is not known is said, not guessed.',
  ].join('\n'),
  settings: ['rung', 'data', 'prometheus', 'alerts', 'backup', 'process.dataDir'],
  examples: ['rung report', 'rung report --out docs/reports/2026-12.md'],
  options: {
    out: { type: 'string', value: 'file', help: 'Where the page is written (it is printed).' },
    ...evidenceOptions,
  },
  async run(input) {
    const { positionals, values, cwd, out } = input
    const [app] = positionals
    const standing = await standingOf(input, app === undefined ? {} : { app })
    const { evidence, usage, cost, figures, ready, incidents, modules, problems } = standing
    const lines = readyLines(ready)
    const none = { deploysPerWeek: null, failedShare: null, incidentsPerMonth: null, restoreMs: null }
    const facts = {
      ...{ app: standing.app, rung: ready.rung, today: evidence.today, modules },
      users: usage ?? {},
      rate: usage?.rate,
      ...{ forecast: evidence.forecast, ceiling: standing.ceiling, firing: ready.present?.firing ?? [] },
      cost,
      answers: standing.answers,
      figures: figures ?? none,
      openIncidents: incidents.filter(({ closedAt }) => closedAt === null).map(({ title }) => title),
      findings: advise(evidence).findings,
      decisionsDue: ready.decisionsDue,
      ready: { yes: lines.filter(({ state }) => state === 'yes').length, of: lines.length },
    }
    const text = reportText(facts)
    const file = typeof values.out === 'string' ? path.resolve(cwd, values.out) : undefined
    if (file !== undefined) {
      await mkdir(path.dirname(file), { recursive: true }).catch(() => {})
      await writeFile(file, text).catch((cause) => {
        throw new RungError('COMMAND_INVALID', `${file} cannot be written (${cause.code}). Name another --out.`, {
          cause,
        })
      })
    }
    return result({ ...facts, file: file ?? null, problems }, () => {
      if (file === undefined) out.line(text.trimEnd())
      else out.line(`Wrote ${path.relative(cwd, file)}.`)
      for (const problem of problems) for (const line of ['', ...hanging('', problem)]) out.line(line)
    })
  },
}
export default command
