import { type Cost, per10k, spanOf } from './cost.ts'
import type { Finding } from './finding.ts'
import type { Forecast } from './forecast.ts'
import type { Interval } from './interval.ts'
import { dayText } from './trend.ts'
import { amount, inMarkdown, percent, span } from './words.ts'

/** What a report is made of. `undefined` and `null` are what is not known. */
export interface ReportFacts {
  app: string
  rung: string
  /** Days since 1970-01-01. */
  today: number
  users: { registered?: number; daily?: number; monthly?: number; isWholeMonth?: boolean }
  /** Requests per second in the busiest hour of the last seven days. */
  rate: number | undefined
  forecast: Forecast | undefined
  /** Requests per second that are carried at most. */
  ceiling: Interval
  /** Names of the alerts that fire. */
  firing: readonly string[]
  cost: Cost | undefined
  /** Of what was recorded in the last 28 days. */
  answers: { requests: number; failed: number; p95Ms: number } | undefined
  figures: {
    deploysPerWeek: number | null
    failedShare: number | null
    incidentsPerMonth: number | null
    restoreMs: number | null
  }
  openIncidents: readonly string[]
  findings: readonly Finding[]
  decisionsDue: readonly string[]
  /** Modules, and the teams that are responsible for them. */
  modules: readonly { name: string; owner: string }[]
  ready: { yes: number; of: number }
}

const unknown = 'not known yet'

/** A page of Markdown for those who decide. Pure. */
export function reportText(facts: ReportFacts): string {
  const { app, rung, today, users, rate, forecast, ceiling, firing, cost, answers, figures, findings, modules } = facts
  const number = (value: number | null | undefined, unit = '') =>
    value === undefined || value === null ? unknown : `${amount(value)}${unit}`
  // Users of some days are no users of a month, and nothing is divided by them.
  const monthly = users.isWholeMonth ? users.monthly : undefined
  const { date, headroom } = forecast ?? {}
  const reached =
    !date || 'unknown' in date
      ? unknown
      : `${dayText(date.likely)} (between ${dayText(date.low)} and ${dayText(date.high)})`
  const now = findings.filter(({ verdict }) => verdict === 'now')
  const rows: [string, string][] = [
    ['registered users', number(users.registered)],
    ['users of a month, of a day', `${number(monthly)}, ${number(users.daily)}`],
    ['requests/s in the busiest hour', number(rate)],
    ['ceiling, requests/s', `${span(ceiling)}${ceiling.from === 'prior' ? ', by priors: nothing was measured' : ''}`],
    ['capacity that is free', headroom ? span(headroom.free, percent) : unknown],
    ['the ceiling is reached', reached],
    ['cost of a month', cost ? spanOf(cost) : 'a price is missing'],
    ['cost for 10,000 users', cost && monthly ? spanOf(per10k(cost, monthly)) : unknown],
    ['answers without an error of ours', answers ? percentOf(1 - answers.failed / answers.requests) : unknown],
    ['95 of 100 answers within', answers ? `${amount(answers.p95Ms)} ms` : unknown],
    ['deploys a week', number(figures.deploysPerWeek)],
    ['deploys that failed', figures.failedShare === null ? unknown : percent(figures.failedShare)],
    ['incidents a month', number(figures.incidentsPerMonth)],
    ['time to restore', figures.restoreMs === null ? unknown : `${amount(figures.restoreMs / 60_000)} min`],
    ['ready for the next rung', `${facts.ready.yes} of ${facts.ready.of} points (rung ready)`],
  ]
  const list = (title: string, texts: readonly string[], none: string) => [
    ...['', `## ${title}`, ''],
    ...(texts.length > 0 ? texts.map((text) => `- ${text}`) : [none]),
  ]
  return [
    `# ${app} at rung ${rung}, ${dayText(today)}`,
    '',
    '| | |',
    '|---|---|',
    ...rows.map(([name, value]) => `| ${name} | ${value} |`),
    ...list(
      'To do now',
      [
        ...firing.map((name) => `The alert ${name} fires: \`rung alerts runbook ${name}\``),
        ...now.map(({ what, gain }) => `${what} ${gain}`),
      ],
      'Nothing.',
    ),
    ...list('Decisions that are due', facts.decisionsDue.map(inMarkdown), 'None.'),
    ...list('Open incidents', facts.openIncidents.map(inMarkdown), 'None.'),
    ...list(
      'Who is responsible',
      modules.map(({ name, owner }) => `${name}: ${inMarkdown(owner)}`),
      unknown,
    ),
    '',
  ].join('\n')
}

/** `99.95 %`: two digits more than a share usually has. */
function percentOf(share: number): string {
  return `${(100 * share).toFixed(2)} %`
}
