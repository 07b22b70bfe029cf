import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Duration, formatMs, toMs } from '../kernel/units.ts'
import {
  beganAt,
  changeIncident,
  type DeliveryFigures,
  deliveryFiguresOf,
  type Entry,
  findIncident,
  type Incident,
  listIncidents,
  noteOnIncident,
  openIncident,
  timelineOf,
} from '../observe/alerts/incidents.ts'
import { listAlerts } from '../observe/alerts/table.ts'
import { coveredMs, summarise } from '../observe/record/summary.ts'
import { describeRecord, readRecord } from '../observe/record/table.ts'
import { inMarkdown } from '../planner/words.ts'
import type { Database } from '../primitives/data/contract.ts'
import { listDeploys } from '../runtime/deploys.ts'
import { byOf } from './alerts.ts'
import {
  type Command,
  databaseSettings,
  type Input,
  type Result,
  result,
  settingOptions,
  unknownVerb,
} from './command.ts'
import { type OpenDatabase, withOpenDatabase } from './database.ts'
import { cut, second, tableLines } from './table.ts'

const command: Command = {
  name: 'incidents',
  summary: 'list incidents, keep their timeline, write post-mortems',
  usage:
    'rung incidents [list | show <n> | open <text> | note <n> <text> | ack <n> | close <n> | postmortem <n> | figures] [options]',
  help: [
    'An alert that pages opens an incident, which is closed when the last of its alerts has',
    'ended. You can open one too; then you close it.',
    '',
    '  list        the last incidents (default)',
    '  show        one with its timeline: alerts, deploys, starts of processes, notes',
    '  open        begins one',
    '  note        adds a line to the timeline',
    '  ack, close  note who looks at it, and that it is over',
    '  postmortem  writes docs/incidents/<day>-<n>.md, with the timeline and headings',
    '              to complete; a file that is there is left as it is',
    '  figures     deploys a week, how many fail, time to restore, incidents a month',
    '',
    'The guide: docs/guides/alerts.md.',
  ].join('\n'),
  settings: databaseSettings,
  examples: [
    'rung incidents',
    'rung incidents open "checkout is slow"',
    'rung incidents show 3 --json',
    'rung incidents postmortem 3',
    'rung incidents figures --since 90d',
  ],
  options: {
    since: { type: 'string', value: 'duration', help: 'The window of list and figures: 24h, 90d until now (28d).' },
    by: { type: 'string', value: 'name', help: 'Who does it (the user of this machine).' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const [verb = 'list', ...words] = input.positionals
    const action = Object.hasOwn(actions, verb) ? actions[verb as keyof typeof actions] : undefined
    if (!action) return unknownVerb(command, verb)
    const [least, most] = action.words
    if (words.length < least || words.length > most) {
      throw new RungError('COMMAND_INVALID', `Write it like: ${action.example}. See: rung incidents --help`)
    }
    return withOpenDatabase(input, async (open) => {
      if ((await listAlerts(open.database)) === undefined) {
        throw new RungError('DATA_UNAVAILABLE', 'This database has no record of incidents yet. Start the app once.')
      }
      return action.run(input, open, words)
    })
  },
}
export default command

interface Action {
  /** How many words follow, least and most. */
  words: readonly [number, number]
  example: string
  run(input: Input, open: OpenDatabase, words: readonly string[]): Promise<Result>
}

const actions = {
  list: { words: [0, 0], example: 'rung incidents', run: list },
  show: { words: [1, 1], example: 'rung incidents show 3', run: show },
  open: { words: [1, 1], example: 'rung incidents open "checkout is slow"', run: begin },
  note: { words: [2, 2], example: 'rung incidents note 3 "the index is back"', run: note },
  ack: { words: [1, 1], example: 'rung incidents ack 3', run: (...args) => change('acknowledged', ...args) },
  close: { words: [1, 1], example: 'rung incidents close 3', run: (...args) => change('closed', ...args) },
  postmortem: { words: [1, 1], example: 'rung incidents postmortem 3', run: postmortem },
  figures: { words: [0, 0], example: 'rung incidents figures', run: figures },
} satisfies Record<string, Action>

/** @throws COMMAND_INVALID */
function windowOf({ values: { since = '28d' } }: Input): { from: number; to: number } {
  const ms = /^\d+(h|d)$/.test(String(since)) ? toMs(since as Duration) : 0
  if (ms <= 0) throw new RungError('COMMAND_INVALID', `--since must be a time such as 24h or 90d; it is "${since}".`)
  const to = systemClock.now()
  return { from: to - ms, to }
}

async function list(input: Input, { database }: OpenDatabase): Promise<Result> {
  const { out } = input
  return result(await listIncidents(database, windowOf(input).from), (incidents) => {
    if (incidents.length === 0) return out.line('No incidents.')
    const head = ['n', 'opened', 'state', 'lasted', 'what']
    const rows = incidents.map((one) => [
      ...[String(one.id), second(one.openedAt).slice(0, 16), stateOf(one), lastedText(one), one.title],
    ])
    for (const line of tableLines([-4, 16, 12, -8, 32], [head, ...rows])) out.line(line)
  })
}

function stateOf({ closedAt, acknowledgedAt }: Incident): string {
  if (closedAt !== null) return 'closed'
  return acknowledgedAt === null ? 'open' : 'acknowledged'
}

function lastedText({ openedAt, closedAt }: Incident): string {
  return formatMs((closedAt ?? systemClock.now()) - openedAt)
}

/** @throws COMMAND_INVALID */
async function incidentOf(database: Database, word: string): Promise<Incident> {
  const found = /^\d{1,9}$/.test(word) ? await findIncident(database, Number(word)) : undefined
  if (found) return found
  throw new RungError('COMMAND_INVALID', `There is no incident "${word}". See: rung incidents --since 400d`)
}

async function show({ out }: Input, { database }: OpenDatabase, [word]: readonly string[]): Promise<Result> {
  const incident = await incidentOf(database, word!)
  const timeline = await timelineOf(database, incident, systemClock.now())
  return result({ ...incident, timeline }, () => {
    const { id, title, openedAt, acknowledgedBy, closedAt } = incident
    out.line(cut(`${id}  ${title}`, 80))
    const ended = closedAt === null ? 'not over' : `closed ${second(closedAt).slice(0, 16)}`
    const seen = acknowledgedBy === null ? '' : `, acknowledged by ${acknowledgedBy}`
    out.line(`opened ${second(openedAt).slice(0, 16)} UTC, ${ended}, ${lastedText(incident)}${seen}`)
    out.line()
    for (const line of timelineLines(timeline)) out.line(line)
  })
}

function timelineLines(timeline: readonly Entry[]): string[] {
  return tableLines(
    [19, 59],
    timeline.map(({ at, text }) => [second(at), text]),
  )
}

async function begin(input: Input, { database }: OpenDatabase, [title]: readonly string[]): Promise<Result> {
  const id = await openIncident(database, textOf(title!), byOf(input), systemClock.now())
  return result({ id, title }, () =>
    input.out.line(`Incident ${id} is open. Close it with: rung incidents close ${id}`),
  )
}

async function note(input: Input, { database }: OpenDatabase, [word, text]: readonly string[]): Promise<Result> {
  const { id } = await incidentOf(database, word!)
  await noteOnIncident(database, id, `${textOf(text!)} (${byOf(input)})`, systemClock.now())
  return result({ id, note: text }, () => input.out.line(`Noted on incident ${id}.`))
}

/** @throws COMMAND_INVALID */
function textOf(text: string): string {
  if (/^[^\p{Cc}]{1,300}$/u.test(text) && text.trim() !== '') return text
  throw new RungError('COMMAND_INVALID', 'Say it in one line of at most 300 characters.')
}

async function change(
  how: 'acknowledged' | 'closed',
  input: Input,
  { database }: OpenDatabase,
  [word]: readonly string[],
): Promise<Result> {
  const { id, closedAt } = await incidentOf(database, word!)
  if (closedAt !== null) throw new RungError('COMMAND_INVALID', `Incident ${id} is closed already.`)
  const isNew = await changeIncident(database, id, how, byOf(input), systemClock.now())
  return result({ id, [how]: true, isNew }, () => {
    input.out.line(isNew ? `Incident ${id} is ${how}.` : `Incident ${id} was ${how} before.`)
  })
}

async function figures(input: Input, open: OpenDatabase): Promise<Result> {
  const window = windowOf(input)
  return result(await figuresIn(open, window), (found) => {
    for (const line of figureLines(found)) input.out.line(line)
  })
}

const deploysMax = 1_000

/** Reads the figures of a window. */
export async function figuresIn(
  { database, connection }: Pick<OpenDatabase, 'database' | 'connection'>,
  window: { from: number; to: number },
): Promise<DeliveryFigures> {
  const deploys = (await listDeploys(connection, deploysMax)).flatMap(({ endedAt, outcome, previous, startedBy }) =>
    endedAt === null || startedBy === 'rung climb' ? [] : [{ endedAt: endedAt.getTime(), outcome, previous }],
  )
  return deliveryFiguresOf(deploys, await listIncidents(database, window.from), window)
}

function figureLines({
  days,
  deploys,
  deploysPerWeek,
  failedShare,
  incidents,
  incidentsPerMonth,
  restoreMs,
}: DeliveryFigures): string[] {
  const rate = (value: number | null, per: string) =>
    value === null ? `less than a week is known` : `${value.toFixed(1)} ${per}`
  const rows = [
    ['deploys', String(deploys), rate(deploysPerWeek, 'a week')],
    ['of them failed', '', failedShare === null ? '' : `${(100 * failedShare).toFixed(1)} %`],
    ['incidents', String(incidents), rate(incidentsPerMonth, 'a month')],
    ['time to restore', '', restoreMs === null ? '' : `${formatMs(restoreMs)} (the middle one)`],
  ]
  return [`in ${days.toFixed(1)} days`, '', ...tableLines([16, -6, 40], rows)]
}

/** A minute is recorded when it is over, by a process that may be busy. */
const recordedAfterMs = 2 * 60_000

async function postmortem(input: Input, { database }: OpenDatabase, [word]: readonly string[]): Promise<Result> {
  const { cwd, out } = input
  const now = systemClock.now()
  const incident = await incidentOf(database, word!)
  const { closedAt } = incident
  // What is written is never written again, so it must be whole; an app that does not run records nothing more.
  if (closedAt !== null && now - closedAt < recordedAfterMs) {
    const recorded = await describeRecord(database)
    if ((recorded?.to ?? 0) < closedAt)
      throw new RungError(
        'COMMAND_INVALID',
        `The last minutes of incident ${incident.id} are not recorded yet. Repeat this in two minutes.`,
      )
  }
  const timeline = await timelineOf(database, incident, now)
  const file = path.join('docs', 'incidents', `${second(incident.openedAt).slice(0, 10)}-${incident.id}.md`)
  await mkdir(path.join(cwd, path.dirname(file)), { recursive: true })
  const from = beganAt(incident)
  const lengthMs = Math.max((closedAt ?? now) - from, 60_000)
  const text = postmortemText(incident, timeline, {
    before: await requestsIn(database, from - lengthMs, from),
    during: await requestsIn(database, from, from + lengthMs),
  })
  await writeFile(path.join(cwd, file), text, { flag: 'wx' }).catch((cause) => {
    if (cause.code !== 'EEXIST') throw cause
    throw new RungError('COMMAND_INVALID', `${file} is there already, and was left as it is.`)
  })
  return result({ id: incident.id, file }, () => out.line(`wrote  ${file}`))
}

interface Served {
  from: number
  to: number
  /** How much of it was recorded. */
  recordedMs: number
  requests: number
  errors: number
  /** Of the slowest route with at least a hundredth of all requests. */
  slowest: { route: string; p95Ms: number } | undefined
}

async function requestsIn(database: Database, from: number, to: number): Promise<Served> {
  const frames = []
  for await (const slice of readRecord(database, { from, to, resolutionMs: 3_600_000 })) frames.push(...slice.frames)
  const { routes } = summarise(frames)
  const recordedMs = coveredMs(frames)
  const sum = (of: (route: (typeof routes)[number]) => number) => routes.reduce((all, route) => all + of(route), 0)
  const requests = sum((route) => route.requests)
  const slowest = routes.filter((route) => route.requests >= requests / 100).sort((a, b) => b.p95Ms - a.p95Ms)[0]
  return { from, to, recordedMs, requests, errors: sum(({ errors }) => errors), slowest }
}

function postmortemText(
  incident: Incident,
  timeline: readonly Entry[],
  served: { before: Served; during: Served },
): string {
  const { id, title, openedAt, acknowledgedAt, acknowledgedBy, closedAt } = incident
  const minute = (time: number) => `${second(time).slice(0, 16)} UTC`
  const row = (name: string, { from, to, recordedMs, requests, errors, slowest }: Served) => {
    const when = `${name}, ${minute(from).slice(11, 16)} to ${minute(to).slice(11, 16)}`
    if (recordedMs === 0) return `| ${when} | not recorded | | |`
    const gap = to - from - recordedMs >= 60_000 ? ` (${formatMs(recordedMs)} were recorded)` : ''
    return `| ${when}${gap} | ${requests} | ${errors} | ${slowest ? `${formatMs(slowest.p95Ms)} (${inMarkdown(slowest.route)})` : ''} |`
  }
  return `\
# Incident ${id}: ${inMarkdown(title)}

- Opened: ${minute(openedAt)}
- Acknowledged: ${acknowledgedAt === null ? 'no' : `${minute(acknowledgedAt)} by ${inMarkdown(acknowledgedBy ?? '')}, after ${formatMs(acknowledgedAt - openedAt)}`}
- Closed: ${closedAt === null ? 'not yet' : `${minute(closedAt)}, after ${formatMs(closedAt - openedAt)}`}

## What users saw

After an alert, "meanwhile" begins with the minutes that made it fire. Times are UTC.

| | requests | failed | slowest p95 |
|---|---|---|---|
${row('before', served.before)}
${row('meanwhile', served.during)}

## Timeline

| UTC | |
|---|---|
${timeline.map(({ at, text }) => `| ${second(at)} | ${inMarkdown(text)} |`).join('\n')}

## What happened

## Why it happened

## Why it was not noticed before

## What went well

## What will change

| what | who | until |
|---|---|---|
| | | |
`
}
