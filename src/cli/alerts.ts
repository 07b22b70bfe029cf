import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import path from 'node:path'
import { alertFiles } from '../export/alerts.ts'
import { isMarked } from '../export/files.ts'
import { systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { keysOf } from '../kernel/keys.ts'
import { parseMailbox } from '../kernel/mail-address.ts'
import { type Minute, minuteMs } from '../observe/alerts/evaluate.ts'
import { leavesIn, readMinutes } from '../observe/alerts/minutes.ts'
import { type OwnedRule, ownerOf, rulesOf } from '../observe/alerts/owners.ts'
import { windowMinutesMax } from '../observe/alerts/rules.ts'
import { noneIn, valuesOf } from '../observe/alerts/step.ts'
import { acknowledgeAlerts, evaluatedUntil, type KeptAlert, listAlerts } from '../observe/alerts/table.ts'
import { labelsText, valueText } from '../observe/alerts/tell.ts'
import type { Database } from '../primitives/data/contract.ts'
import { createMail } from '../primitives/mail/mail.ts'
import { type AlertMessage, postAlert } from '../runtime/alerts.ts'
import { findApp, loadApp } from '../runtime/load-app.ts'
import { createLog } from '../runtime/log.ts'
import { openMail } from '../runtime/wire.ts'
import { mailOf, toolBindingsOf } from '../topology/bindings.ts'
import {
  type Command,
  databaseSettings,
  hanging,
  type Input,
  type Output,
  type Result,
  result,
  settingOptions,
  unknownVerb,
} from './command.ts'
import { withOpenDatabase } from './database.ts'
import { settingsOf } from './input-settings.ts'
import { second, tableLines } from './table.ts'

const command: Command = {
  name: 'alerts',
  summary: 'show what fires, and the rules with their values',
  usage: 'rung alerts [list | rules | ack <alert> | test | runbook <alert> | export] [options]',
  wordsMax: 2,
  help: [
    'Alerts are evaluated once a minute over the record, by one process for all. What begins',
    'and what has ended is told once, to RUNG_ALERT_WEBHOOK and RUNG_ALERT_MAIL.',
    '',
    '  list     what fires or may soon (default)',
    '  rules    all rules: their values now, where they begin and end',
    '  ack      note that you have seen an alert, also in the incident it belongs to',
    '  test     send a message by each way that is set, now, from here',
    '  runbook  what an alert means, and what to do',
    '  export   write the same rules for Prometheus, and routes for Alertmanager',
    '',
    'The guide: docs/guides/alerts.md.',
  ].join('\n'),
  settings: [...databaseSettings, 'record', 'alerts', 'mail'],
  examples: [
    'rung alerts',
    'rung alerts rules --json',
    'rung alerts ack pool-used',
    'rung alerts export --out prometheus',
  ],
  options: {
    app: { type: 'string', value: 'file', help: 'The app, whose owners and thresholds count.' },
    by: { type: 'string', value: 'name', help: 'Who acknowledges (the user of this machine).' },
    out: { type: 'string', value: 'folder', help: 'Where the files of an export are written.' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const [verb = 'list', name] = input.positionals
    if (verb === 'runbook' || verb === 'ack') {
      if (name === undefined) throw new RungError('COMMAND_INVALID', `Name an alert: rung alerts ${verb} pool-used`)
    } else if (name !== undefined) return unknownVerb(command, name)
    if (verb === 'runbook') return runbook(input, name!)
    if (verb === 'test') return test(input)
    const { app, rules } = await rulesHere(input)
    if (verb === 'export') return exportTo(input, rules)
    if (verb === 'ack') return acknowledge(input, rules, name!)
    if (verb !== 'list' && verb !== 'rules') return unknownVerb(command, verb)
    return withOpenDatabase(input, async ({ database }) => {
      const alerts = await listAlerts(database)
      const at = alerts && (await evaluatedUntil(database))
      if (!alerts || at === undefined) {
        return result({ app, evaluatedUntil: null, alerts: [], rules: [] }, () => {
          input.out.line('Nothing was evaluated here yet. Start the app; the first time is a minute later.')
        })
      }
      const listed = alerts.map((alert) => withOwner(alert, rules))
      const values = verb === 'rules' ? await valuesNow(database, rules, at) : []
      return result({ app, evaluatedUntil: at, alerts: listed, rules: values }, () => {
        input.out.line(`${app}: evaluated until ${second(at).slice(0, 16)} UTC${lateText(at)}`)
        input.out.line()
        if (verb === 'rules') printRules(values, input.out)
        else if (listed.length === 0) input.out.line('Nothing fires.')
        else printAlerts(listed, rules, input.out)
      })
    })
  },
}
export default command

/** Without an app, the rules of Rung. */
async function rulesHere({ values, cwd }: Input): Promise<{ app: string; rules: OwnedRule[] }> {
  const file = findApp(values.app as string | undefined, cwd)
  if (file === undefined) return { app: 'app', rules: rulesOf({ name: 'app', modules: [], alerts: {} }) }
  const app = await loadApp(file, cwd)
  return { app: app.name, rules: rulesOf(app) }
}

function withOwner(alert: KeptAlert, rules: readonly OwnedRule[]) {
  const labels: Record<string, string> = JSON.parse(alert.labels)
  const rule = rules.find(({ name }) => name === alert.rule)
  const { owner, runbook } = rule ? ownerOf(rule, labels) : { owner: null, runbook: null }
  return { ...alert, labels, severity: rule?.severity ?? null, owner, runbook }
}

const lateMs = 3 * minuteMs

function lateText(at: number): string {
  return systemClock.now() - at > lateMs ? ', and not since' : ''
}

function printAlerts(alerts: readonly ReturnType<typeof withOwner>[], rules: readonly OwnedRule[], out: Output): void {
  const head = ['alert', 'state', 'severity', 'value', 'since', 'owner']
  const widths = [20, 7, 8, -9, 16, 14]
  for (const line of tableLines(widths, [head], ' ')) out.line(line)
  for (const alert of [...alerts].sort((a, b) => a.state.localeCompare(b.state))) {
    const rule = rules.find(({ name }) => name === alert.rule)
    const cells = [
      ...[alert.rule, alert.state, alert.severity ?? '', rule ? valueText(rule, alert.value) : String(alert.value)],
      ...[second(alert.since).slice(0, 16), alert.owner ?? ''],
    ]
    for (const line of tableLines(widths, [cells], ' ')) out.line(line)
    const more = [
      labelsText({ labels: JSON.stringify(alert.labels) }),
      alert.incident === null ? '' : `incident ${alert.incident}`,
      alert.acknowledgedBy === null ? '' : `acknowledged by ${alert.acknowledgedBy}`,
      alert.state === 'firing' && alert.runbook !== null ? alert.runbook : '',
    ].filter(Boolean)
    for (const text of more) for (const line of tableLines([2, 76], [['', text]])) out.line(line)
  }
}

interface RuleNow {
  name: string
  severity: string
  /** By labels; none where nothing was measured. */
  values: { labels: Record<string, string>; value: number }[]
  above: number | null
  below: number | null
  end: number
  forMinutes: number
  keepMinutes: number
  runbook: string
  rule: OwnedRule
}

async function valuesNow(database: Database, rules: readonly OwnedRule[], at: number): Promise<RuleNow[]> {
  const minutes: Minute[] = []
  const first = at - (windowMinutesMax - 1) * minuteMs
  for await (const { minute } of readMinutes(database, leavesIn(rules), first, at)) minutes.push(minute)
  return rules.map((rule) => {
    const { name, severity, above = null, below = null, end, forMinutes, keepMinutes, runbook } = rule
    const values = [...new Map([...noneIn(rule, minutes, at), ...valuesOf(rule, minutes, at)])].map(
      ([labels, value]) => ({ labels: JSON.parse(labels), value }),
    )
    return { name, severity, values, above, below, end, forMinutes, keepMinutes, runbook, rule }
  })
}

function printRules(all: readonly RuleNow[], out: Output): void {
  const head = ['rule', 'severity', 'now', 'begins', 'ends', 'for']
  const rows = all.map(({ name, severity, values, above, below, end, forMinutes, rule }) => {
    const numbers = values.map(({ value }) => value)
    const worst = above === null ? Math.min(...numbers) : Math.max(...numbers)
    const sign = above === null ? '<' : '>'
    return [
      ...[name, severity, numbers.length === 0 ? '' : valueText(rule, worst)],
      ...[
        `${sign} ${valueText(rule, (above ?? below)!)}`,
        valueText(rule, end),
        forMinutes === 0 ? '' : `${forMinutes}m`,
      ],
    ]
  })
  for (const line of tableLines([20, 8, -12, -13, -12, -5], [head, ...rows])) out.line(line)
  out.line()
  out.line('A rule without a value has nothing to look at, or too little.')
}

async function acknowledge(input: Input, rules: readonly OwnedRule[], name: string): Promise<Result> {
  if (!rules.some((rule) => rule.name === name)) throw unknownAlert(name)
  const by = byOf(input)
  return withOpenDatabase(input, async ({ database }) => {
    const count = await acknowledgeAlerts(database, name, by, systemClock.now())
    if (count === 0) throw new RungError('COMMAND_INVALID', `The alert "${name}" does not fire. See: rung alerts`)
    return result({ alert: name, acknowledgedBy: by, count }, () => input.out.line(`${name} acknowledged by ${by}`))
  })
}

/** Who does it. @throws COMMAND_INVALID */
export function byOf({ values: { by } }: Pick<Input, 'values'>): string {
  const name = typeof by === 'string' ? by : userInfo().username
  if (/^[^\p{Cc}]{1,60}$/u.test(name)) return name
  throw new RungError('COMMAND_INVALID', '--by must be a name of at most 60 characters.')
}

async function runbook({ out }: Input, name: string): Promise<Result> {
  const file = path.join(import.meta.dirname, '../../docs/runbooks', `${name}.md`)
  if (!/^[a-z0-9-]+$/.test(name) || !existsSync(file)) throw unknownAlert(name)
  const text = await readFile(file, 'utf8')
  return result({ alert: name, text }, () => {
    for (const line of text.trimEnd().split('\n')) {
      // What is indented is typed in as it is.
      const [, mark, rest] = /^(- |\d+\. |)(\S.*)$/.exec(line) ?? []
      for (const shown of rest === undefined ? [line] : hanging(mark!, rest)) out.line(shown)
    }
  })
}

function unknownAlert(name: string): RungError {
  return new RungError('COMMAND_INVALID', `There is no alert "${name}". See: rung alerts rules`)
}

async function exportTo({ values, cwd, out }: Input, rules: readonly OwnedRule[]): Promise<Result> {
  if (typeof values.out !== 'string') {
    throw new RungError('COMMAND_INVALID', 'Say where: rung alerts export --out prometheus')
  }
  const folder = path.resolve(cwd, values.out)
  const [written, kept]: [string[], string[]] = [[], []]
  for (const [name, text] of Object.entries(alertFiles(rules))) {
    const file = path.join(folder, name)
    const isOurs = !existsSync(file) || isMarked(await readFile(file, 'utf8'))
    ;(isOurs ? written : kept).push(path.relative(cwd, file))
    if (!isOurs) continue
    await mkdir(folder, { recursive: true })
    await writeFile(file, text)
  }
  return result({ written, kept }, () => {
    for (const name of written) out.line(`wrote  ${name}`)
    for (const name of kept) out.line(`kept   ${name}, which is yours`)
  })
}

/** Sends from here, so that what is wrong is seen at once. */
async function test(input: Input): Promise<Result> {
  const { cwd, out } = input
  const settings = await settingsOf(input, { app: findApp(input.values.app as string | undefined, cwd) })
  const { webhook, mail: to = [] } = settings.values.alerts
  if (webhook === undefined && to.length === 0) {
    throw new RungError('CONFIG_INVALID', 'Alerts are told nowhere. Set RUNG_ALERT_WEBHOOK, RUNG_ALERT_MAIL, or both.')
  }
  const subject = 'rung alerts test: this is how alerts arrive'
  const message: AlertMessage = { key: `test/${systemClock.now()}`, subject, text: subject }
  const told: { way: string; problem: string | null }[] = []
  const attempt = async (way: string, send: () => Promise<unknown>) => {
    const problem = await send().then(
      () => null,
      (error) => messageOf(error),
    )
    told.push({ way, problem })
  }
  if (webhook !== undefined) await attempt('webhook', () => postAlert(webhook, message))
  const binding = mailOf(settings.values.mail)
  if (to.length > 0 && binding.engine === 'eml')
    told.push({
      way: 'mail',
      problem: 'There is no RUNG_SMTP_URL, so mail is written into the data directory and not sent.',
    })
  else if (to.length > 0) {
    const bindings = { ...toolBindingsOf(settings, cwd), mail: binding }
    const { transport } = await openMail(bindings, createLog('rung', 'silent'))
    const from = parseMailbox(binding.from)!
    const mail = createMail({
      transport,
      from,
      idKeys: keysOf(new Uint8Array(32)),
      inTransaction: () => false,
    })
    await attempt('mail', () => mail.forModule('rung').send({ to, subject, text: message.text }))
    await transport.close()
  }
  const isFine = told.every(({ problem }) => problem === null)
  return result(
    { told },
    () => {
      for (const { way, problem } of told) out.line(`${way.padEnd(8)} ${problem ?? 'accepted'}`)
    },
    isFine ? 0 : 1,
  )
}
