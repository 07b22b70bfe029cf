import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Duration, formatBytes, formatMs, toMs } from '../kernel/units.ts'
import { type Frame, merge } from '../observe/record/frame.ts'
import { hourOf } from '../observe/record/hours.ts'
import {
  answersOf,
  coveredMs,
  dayPeaks,
  requestsOf,
  type ServerSummary,
  type Summary,
  summarise,
} from '../observe/record/summary.ts'
import { describeRecord, type RecordFacts, readRecord } from '../observe/record/table.ts'
import type { Database } from '../primitives/data/contract.ts'
import {
  type Command,
  databaseSettings,
  type Output,
  type Result,
  result,
  settingOptions,
  unknownVerb,
} from './command.ts'
import { withOpenDatabase } from './database.ts'
import { cutStart, second, tableLines } from './table.ts'

const record: Command = {
  name: 'record',
  summary: 'show what was recorded: requests, CPU and memory, by time',
  usage: 'rung record [series | peaks] [options]',
  wordsMax: 1,
  help: [
    'Each process writes what it measures into the database, once a minute: by the minute',
    'for two days, by ten minutes for two weeks, by the hour for 13 months. Shows since when,',
    'the times in which nothing was recorded, and for a window the requests of each route',
    'and what each process used; servers such as Postgres are looked at every ten minutes.',
    'p50, p95 and p99 are good to the bounds of /metrics; an error is an answer of 500 and',
    'more.',
    '',
    'A frame counts for the window in which it begins.',
    '',
    '  series  the window in steps: requests/s, errors, p95, CPU cores in use',
    '  peaks   for each whole day (UTC), the requests per second of its busiest',
    '          hour, for rung plan --peaks; of the whole record without --since',
  ].join('\n'),
  settings: [...databaseSettings, 'record'],
  examples: ['rung record', 'rung record --since 7d --route /api/articles', 'rung record peaks --json > peaks.json'],
  options: {
    ...settingOptions('process.dataDir'),
    since: { type: 'string', value: 'duration', help: 'The window: 30m, 24h, 7d until now (1h).' },
    route: { type: 'string', value: 'text', help: 'Only routes that contain this.' },
  },
  async run(input) {
    const [verb] = input.positionals
    if (verb !== undefined && verb !== 'peaks' && verb !== 'series') return unknownVerb(record, verb)
    const { since, route } = input.values
    const to = systemClock.now()
    const from = to - windowMs(String(since ?? (verb === 'peaks' ? '400d' : '1h')))
    return withOpenDatabase(input, async ({ database }) => {
      const facts = await describeRecord(database)
      if (facts?.from === undefined || facts.from === null) {
        return result(verb === undefined ? { record: null, window: null } : [], () => {
          input.out.line('Nothing was recorded here yet. Start the app; it records each whole minute.')
        })
      }
      if (verb === 'peaks') return peaks(database, Math.max(from, facts.from), to, input.out)
      if (verb === 'series') return series(database, Math.max(from, facts.from), to, input.out)
      const summary = summarise(await framesIn(database, from, to), route as string | undefined)
      return result({ record: facts, window: { from, to, ...summary } }, ({ window }) =>
        print(facts, window, input.out),
      )
    })
  },
}
export default record

/** @throws COMMAND_INVALID */
function windowMs(text: string): number {
  const ms = /^\d+(m|h|d)$/.test(text) ? toMs(text as Duration) : 0
  if (ms > 0) return ms
  throw new RungError('COMMAND_INVALID', `--since must be a time such as 30m, 24h or 7d; it is "${text}".`)
}

const hourMs = 3_600_000

/** One frame for each process. Put together by the hour, since a year of frames would not fit into memory. */
export async function framesIn(database: Database, from: number, to: number): Promise<Frame[]> {
  const byNode = new Map<string, Frame>()
  for await (const { frames } of readRecord(database, { from, to, resolutionMs: hourMs })) {
    for (const frame of frames) {
      const known = byNode.get(frame.node)
      byNode.set(frame.node, known ? merge([known, frame]) : frame)
    }
  }
  return [...byNode.values()]
}

async function peaks(database: Database, from: number, to: number, out: Output): Promise<Result> {
  const hours: { from: number; coveredMs: number; requests: number }[] = []
  for await (const hour of readRecord(database, { from, to, resolutionMs: hourMs }))
    hours.push({ from: hour.from, coveredMs: coveredMs(hour.frames), requests: requestsOf(hour.frames) })
  return result(dayPeaks(hours, from, to), (days) => {
    if (days.length === 0) out.line('No whole day was recorded yet.')
    for (const { day, peak } of days) out.line(`${day}  ${peak.toFixed(2)} requests/s`)
  })
}

const minuteMs = 60_000
/** A plot is about so many columns wide. */
const stepsMax = 120
const barWidth = 30

interface Step {
  from: number
  to: number
  requestsPerSecond: number
  failed: number
  p95Ms: number
  /** In use, by role and server. */
  cores: Readonly<Record<string, number>>
}

async function series(database: Database, from: number, to: number, out: Output): Promise<Result> {
  const resolutionMs = Math.ceil((to - from) / stepsMax / minuteMs) * minuteMs
  const steps: Step[] = []
  for await (const slice of readRecord(database, { from, to, resolutionMs })) {
    const { requests, coveredMs, p95Ms, cores } = hourOf(slice)
    const failed = answersOf(slice.frames)?.failed ?? 0
    const rate = coveredMs === 0 ? 0 : requests / (coveredMs / 1_000)
    steps.push({ from: slice.from, to: slice.to, requestsPerSecond: rate, failed, p95Ms, cores })
  }
  return result(steps, () => {
    const most = Math.max(1e-9, ...steps.map(({ requestsPerSecond }) => requestsPerSecond))
    const cells = steps.map(({ from, requestsPerSecond: rate, failed, p95Ms, cores }) => [
      ...[second(from).slice(0, 16), rate.toFixed(2), String(failed), formatMs(p95Ms)],
      Object.values(cores)
        .reduce((sum, one) => sum + one, 0)
        .toFixed(2),
      '█'.repeat(Math.round((rate / most) * barWidth)),
    ])
    const head = ['from (UTC)', 'requests/s', 'errors', 'p95', 'cores', '']
    for (const line of tableLines([16, -10, -6, -8, -5, barWidth], [head, ...cells], ' ')) out.line(line)
  })
}

const gapsShown = 5

function print(facts: RecordFacts, window: { from: number; to: number } & Summary, out: Output): void {
  const rows = facts.rows.reduce((sum, { rows }) => sum + rows, 0)
  out.line(
    `recorded from ${second(facts.from!)} to ${second(facts.to!)} UTC: ${formatBytes(facts.bytes)}, ${rows} ${rows === 1 ? 'frame' : 'frames'}`,
  )
  for (const { from, to } of facts.gaps.slice(0, gapsShown))
    out.line(`  nothing from ${second(from)} to ${second(to)} (${formatMs(to - from)})`)
  if (facts.gaps.length > gapsShown) out.line(`  and ${facts.gaps.length - gapsShown} more times before`)
  out.line()
  const { from, to, recordedMs, routes, pages, nodes, servers } = window
  out.line(`${second(from)} to ${second(to)}, recorded for ${formatMs(recordedMs)}`)
  out.line()
  if (routes.length === 0) out.line('No requests.')
  else {
    const head = ['route', 'requests/s', 'p50', 'p95', 'p99', 'errors']
    const cells = routes.map(({ route, requestsPerSecond, p50Ms, p95Ms, p99Ms, errors, requests }) => [
      route,
      requestsPerSecond.toFixed(2),
      ...[p50Ms, p95Ms, p99Ms].map(formatMs),
      percent(errors / requests),
    ])
    for (const line of tableLines([31, -10, -8, -8, -8, -8], [head, ...cells], ' ')) out.line(line)
  }
  out.line()
  if (pages.length > 0) {
    const head = ['page (3 of 4 readers)', 'reports', 'LCP', 'INP', 'FCP', 'TTFB', 'CLS']
    const cells = pages.map(({ page, reports, cls, ...ms }) => [
      ...[page, String(reports)],
      ...[ms.lcpMs, ms.inpMs, ms.fcpMs, ms.ttfbMs].map((one) => (one === null ? '' : formatMs(one))),
      cls === null ? '' : cls.toFixed(2),
    ])
    for (const line of tableLines([28, -8, -8, -8, -8, -8, -6], [head, ...cells], ' ')) out.line(line)
    out.line()
  }
  const head = ['process', 'role', 'measured', 'CPU', 'loop', 'memory', 'most']
  const rowOf = ({ measuredMs, cores, memoryBytes, memoryBytesMax }: Omit<ServerSummary, 'server'>, loop: string) => [
    formatMs(measuredMs),
    percent(cores),
    loop,
    ...[memoryBytes, memoryBytesMax].map((bytes) => (bytes === null ? '' : formatBytes(bytes))),
  ]
  const cells = [
    ...nodes.map((one) => [cutStart(one.node, 28), one.role ?? '', ...rowOf(one, percent(one.loop))]),
    ...servers.map((one) => [one.server, '', ...rowOf(one, '')]),
  ]
  for (const line of tableLines([28, 6, -9, -7, -7, -8, -8], [head, ...cells], ' ')) out.line(line)
  if (servers.length > 0) return
  out.line('Rows of Postgres and of other servers on this machine are here after two looks')
  out.line('at the same process, which are ten minutes apart.')
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}
