import { RungError } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import {
  joinTraces,
  type TraceRow,
  type TracesQuery,
  traceIdOf,
  type UnitQuery,
  type UnitSummary,
} from '../observe/traces/list.ts'
import type { Unit } from '../observe/traces/unit.ts'
import { type DrawnStep, type DrawnUnit, type Waterfall, waterfallOf } from '../observe/traces/waterfall.ts'
import { type Command, numberOption, type Result, result, settingOptions, timeOption } from './command.ts'
import { dataDirOfInput } from './input-settings.ts'
import { appProcesses, askForTraces } from './process-door.ts'
import { cut, iso, second, tableLines } from './table.ts'

const traces: Command = {
  name: 'traces',
  summary: 'show the last requests and jobs, with what each of them did',
  usage: 'rung traces [id] [options]',
  wordsMax: 1,
  help: [
    'Lists the last requests and runs of jobs and events of the processes that run here, the',
    'newest first, with their statements, and how many of their reads through the cache',
    'needed no load of their own. Jobs and events that a request caused are in its trace.',
    '',
    'With the id of a trace, or the beginning of it: its waterfall. Each process keeps its',
    'last thousand, failed and slow ones longest, until it ends; all of them for ten minutes',
    'after each look and in development, and otherwise one of sixteen. Values of statements,',
    'query strings, paths and bodies are not kept.',
  ].join('\n'),
  examples: [
    'rung traces',
    'rung traces --route articles --slow 200ms',
    'rung traces --failed --process worker',
    'rung traces 4bf92f35 --json',
  ],
  options: {
    route: { type: 'string', value: 'text', help: 'Only routes and names that contain this text.' },
    slow: { type: 'string', value: 'time', help: 'Only what took at least this long: 200ms, 1s.' },
    status: { type: 'string', value: 'status', help: 'Only this status: 404, 5xx; of a run: done, retry, dead.' },
    failed: { type: 'boolean', help: 'Only statuses from 500, and runs that failed.' },
    process: { type: 'string', value: 'part', help: 'Only what this part did: web is all of web-1, web-2 …' },
    last: { type: 'string', value: 'number', help: 'How many are shown (30).' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { values, positionals } = input
    const dataDir = dataDirOfInput(input)
    const part = values.process as string | undefined
    const last = numberOption(input, 'last', { max: 1_000, otherwise: 30 })
    const slowMs = values.slow === undefined ? undefined : timeOption(input, 'slow', 0)
    const [id] = positionals
    if (id !== undefined) return one(input.out.line, dataDir, idIn(id), part)
    const { route, status } = values as Record<string, string | undefined>
    const query = { route, status, slowMs, failed: values.failed === true, last } satisfies UnitQuery
    const { found, processes, unread, allSince } = await ask<UnitSummary>(dataDir, part, query)
    const rows = joinTraces(found, last)
    const sampledUntil = allSince > (rows.at(-1)?.startedAt ?? 0) ? allSince : null
    return result({ traces: rows, processes, unread, sampledUntil }, () => {
      if (rows.length === 0) input.out.line('No kept trace matches. See: rung ps')
      else for (const line of listLines(rows)) input.out.line(line)
      if (unread.length > 0) input.out.line(unreadLine(unread))
      if (sampledUntil !== null) for (const line of sampledLines(sampledUntil)) input.out.line(line)
    })
  },
}
export default traces

async function one(line: (text?: string) => void, dataDir: string, id: string, part?: string): Promise<Result> {
  const { found, unread, leftOut } = await ask<Unit>(dataDir, part, { id })
  const ids = [...new Set(found.map(traceIdOf))]
  if (ids.length > 1) {
    const names = ids.slice(0, 5).map((one) => one.slice(0, id.length + 4))
    throw new RungError(
      'COMMAND_INVALID',
      `Several traces begin with ${id}: ${names.join(', ')}. Write more of its id.`,
    )
  }
  if (ids.length === 0) {
    const why = unread.length > 0 ? `${unread.join(', ')} did not answer, or it` : 'it'
    const text = `No process has a trace ${id}: ${why} is too old, or its process has ended. See: rung logs --trace <id>`
    throw new RungError('TRACE_NOT_FOUND', text)
  }
  const view = { ...waterfallOf(found), leftOut, unread }
  return result(view, () => {
    for (const text of waterfallLines(view)) line(text)
    if (leftOut > 0) line(`… and ${leftOut} earlier requests and runs, which are not shown`)
    if (unread.length > 0) line(unreadLine(unread))
  })
}

/** Reads the id of a trace, its beginning, or takes it from a `traceparent`. */
function idIn(text: string): string {
  const [, id] = /^(?:00-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?$/.exec(text) ?? []
  if (id !== undefined) return id
  if (/^[0-9a-f]{4,31}$/.test(text)) return text
  throw new RungError(
    'COMMAND_INVALID',
    `"${text}" is not the id of a trace: write at least 4 hexadecimal digits of it.`,
  )
}

interface Answers<Found> {
  found: (Found & { process: string })[]
  processes: string[]
  /** Processes that did not answer: they hang, have just ended, or run another version. */
  unread: string[]
  leftOut: number
  /** Since then all of these processes keep all. Wall clock, ms. */
  allSince: number
}

/** @throws FLEET_NOT_RUNNING, COMMAND_INVALID */
async function ask<Found>(dataDir: string, part: string | undefined, query: TracesQuery): Promise<Answers<Found>> {
  const all = await appProcesses(dataDir)
  const asked = all.filter(({ name }) => part === undefined || name === part || name.startsWith(`${part}-`))
  if (asked.length === 0) {
    const names = all.map(({ name }) => name).join(', ')
    throw new RungError('COMMAND_INVALID', `No process of the app is named "${part}". These run: ${names}.`)
  }
  const unread: string[] = []
  const answers = await Promise.all(
    asked.map(async ({ name, pid }) => {
      const answer = await askForTraces<Found>(dataDir, pid, query).catch(() => undefined)
      if (answer === undefined) unread.push(name)
      return answer && { ...answer, units: answer.units.map((unit) => ({ ...unit, process: name })) }
    }),
  )
  const given = answers.filter((answer) => answer !== undefined)
  return {
    found: given.flatMap(({ units }) => units),
    processes: asked.map(({ name }) => name),
    unread,
    leftOut: given.reduce((sum, answer) => sum + answer.leftOut, 0),
    allSince: Math.max(0, ...given.map((answer) => answer.allSince)),
  }
}

const unreadLine = (names: readonly string[]) => `Did not answer: ${names.join(', ')}`

const sampledLines = (until: number) => [
  '',
  `All are kept since ${iso(until).slice(11, 19)} UTC, until ten minutes after the last look.`,
  'Before, only failed and slow ones were, and one trace of sixteen.',
]

const listWidths = [8, 8, 24, -7, -6, -10, -5]

function* listLines(rows: readonly TraceRow[]): Generator<string> {
  yield* tableLines(listWidths, [['time', 'trace', 'route', 'ms', 'status', 'statements', 'cache']])
  for (const row of rows) {
    const { traceId, startedAt, name, kind, others, ms, outcome, statements, cacheReads, cacheHits } = row
    const more = others > 0 ? ` +${others}` : ''
    const what = kind === 'request' ? name : `${kind} ${name}`
    yield* tableLines(listWidths, [
      [
        iso(startedAt).slice(11, 19),
        traceId.slice(0, 8),
        `${cut(what, 24 - more.length)}${more}`,
        ms.toFixed(1),
        outcome,
        String(statements),
        cacheReads === 0 ? '' : `${cacheHits}/${cacheReads}`,
      ],
    ])
  }
}

const [nameChars, barChars] = [37, 22]
const waterfallWidths = [nameChars, barChars, -8, -7]

function* waterfallLines({ id, startedAt, ms, idleMs, units }: Waterfall): Generator<string> {
  const processes = new Set(units.map(({ process }) => process)).size
  yield id
  yield `${second(startedAt)} UTC, ${formatMs(ms)}, ${processes === 1 ? '1 process' : `${processes} processes`}`
  if (idleMs >= 1) yield `Nothing ran for ${formatMs(idleMs)} of it, which is not drawn.`
  yield ''
  yield* tableLines(waterfallWidths, [['what', '', 'from ms', 'ms']])
  for (const unit of units) yield* unitLines(unit)
}

function* unitLines(unit: DrawnUnit): Generator<string> {
  const { kind, name, outcome, process, steps, leftOut } = unit
  const what = kind === 'request' ? name : `${kind} ${name}`
  yield* row(`${what} ${outcome} ${process}`, unit)
  for (const step of steps) yield* row(`${step.inLoad ? '    ' : '  '}${stepText(step)}`, step)
  if (leftOut > 0) yield `  … and ${leftOut} more steps, which are not kept`
}

function* row(text: string, place: DrawnUnit | DrawnStep): Generator<string> {
  const cells = [text.replace(/\p{C}/gu, '?'), barOf(place), place.atMs.toFixed(1), place.ms.toFixed(1)]
  yield* tableLines(waterfallWidths, [cells])
}

function stepText({ kind, name, text, outcome, count, failed, waitMs }: DrawnStep): string {
  const waited = waitMs >= 1 ? ` (waited ${formatMs(waitMs)} for a connection)` : ''
  if (kind === 'statement') return `${failed ? `${outcome} ` : ''}${text ?? name}${waited}`
  return `${kind} ${name} ${outcome}${count > 1 ? ` ×${count}` : ''}`
}

/** At least one mark wide, and within the column. */
function barOf({ from, share }: DrawnUnit | DrawnStep): string {
  const start = Math.min(barChars - 1, Math.floor(from * barChars))
  const length = Math.max(1, Math.round(share * barChars))
  return `${' '.repeat(start)}${'█'.repeat(Math.min(length, barChars - start))}`
}
