import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { deploymentOf } from '../fleet/deployment.ts'
import { engines } from '../fleet/engines.ts'
import { buildOf } from '../fleet/releases.ts'
import { runningFleet, withQuotaOf } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import type { Demands, KeptLimit } from '../load/demands.ts'
import type { Need, StationCapacity } from '../planner/capacity.ts'
import { type Forecast, forecastOf, type Measured } from '../planner/forecast.ts'
import { type Interval, scaled } from '../planner/interval.ts'
import type { Objective } from '../planner/queueing.ts'
import { needsTold, told } from '../planner/tell.ts'
import { type DayPeak, dayOf, dayText } from '../planner/trend.ts'
import { contradictionsIn, type Users } from '../planner/users.ts'
import { amount, percent } from '../planner/words.ts'
import { findApp } from '../runtime/load-app.ts'
import {
  type Command,
  hanging,
  type Input,
  numberOption,
  percentOption,
  result,
  settingOptions,
  timeOption,
} from './command.ts'
import { readDemands } from './demands-file.ts'
import { measuredOf } from './evidence-from-record.ts'
import { dataDirOfInput, rungAndApp, settingsOf } from './input-settings.ts'
import { knownOf, problemsOf } from './recorded.ts'
import { tableLines } from './table.ts'

const command: Command = {
  name: 'plan',
  summary: 'tell what a rung carries, what breaks first, and when',
  usage: 'rung plan [rung] [app-file] [options]',
  help: [
    'From users to requests to what they cost each part: the highest rate at which the objective',
    'holds, the part that is used up first, how much is free, and when the ceiling is reached.',
    'Every figure is an interval and says where it comes from: measured, given, or prior, which',
    'is experience with other apps. Without a rung it is the one that runs, otherwise that of',
    'the settings.',
    '',
    'What a request costs is measured by "rung load --to-break", which writes load/demands.json',
    'in the data directory. Without it costs are those that the record shows of the last week, if',
    'there is enough of it; otherwise the plan works with priors, whose intervals are wide.',
    '',
    'Users, rates and their growth are those of the record (rung record) if the app has run',
    'here; --peaks names other ones.',
    '',
    'Figures that cannot be true together are told, and nothing is computed from them. The guide:',
    'docs/guides/plan.md.',
  ].join('\n'),
  settings: ['rung', 'processes', 'data.replicas', 'data.pooler', 'prometheus'],
  examples: [
    'rung plan',
    'rung plan --rate 300 --p95 112ms',
    'rung plan 100k --users 1000000 --daily 100000 --concurrent 10000',
    'rung plan 100k --rate 300 --times 10 --spread --cores 4',
    'rung plan --event 2027-03-01 --times 3',
  ],
  options: {
    users: { type: 'string', value: 'number', help: 'Registered users.' },
    daily: { type: 'string', value: 'number', help: 'Users who come on one day.' },
    concurrent: { type: 'string', value: 'number', help: 'Users who are there at the same time, in the peak hour.' },
    session: { type: 'string', value: 'time', help: 'How long a visit takes, such as 5m.' },
    limit: { type: 'string', value: 'number', help: 'Requests per minute that one user may send.' },
    rate: { type: 'string', value: 'number', help: 'Requests per second in the peak hour, today.' },
    peaks: {
      type: 'string',
      value: 'file',
      help: 'Instead of the record, the highest rate of each day: [{ "day": "2026-11-30", "peak": 280 }, …]. Three weeks or more tell the date of the ceiling.',
    },
    p95: { type: 'string', value: 'time', help: 'Objective: 95 of 100 requests are answered within this time.' },
    failing: { type: 'string', value: 'percent', help: 'Objective: at most this share of requests fails (1%).' },
    times: {
      type: 'string',
      value: 'number',
      help: "What so many times today's rate needs; with --event, that day's.",
    },
    event: { type: 'string', value: 'date', help: 'A day on which it must hold, such as 2027-03-01.' },
    cores: {
      type: 'string',
      value: 'number',
      help: 'Cores of the machine (of the one that was measured, otherwise of this one).',
    },
    spread: { type: 'boolean', help: 'Each part has a machine of its own, with so many cores.' },
    seed: { type: 'string', value: 'number', help: 'Repeats the same 500 simulations (1).' },
    ...settingOptions('process.dataDir', 'processes.web', 'processes.worker', 'data.replicas'),
  },
  async run(input) {
    const { values, cwd, out } = input
    const { rung: named, app: given } = rungAndApp(input.positionals)
    const app = findApp(given, cwd)
    const dataDir = dataDirOfInput(input)
    const fleet = named === undefined ? await runningFleet(dataDir) : undefined
    const settings = await settingsOf(input, { app, rung: named ?? (fleet?.rung || undefined) })
    const topology = withQuotaOf(deploymentOf(settings, engines).topology, fleet)
    const demands = await readDemands(dataDir)
    const objective = objectiveIn(input, demands?.limit)
    const users = usersIn(input)
    const wrong = contradictionsIn(users)
    if (wrong.length > 0) throw new RungError('PLAN_CONTRADICTION', wrong.join(' '))
    const file = typeof values.peaks === 'string' ? await peaksIn(path.resolve(cwd, values.peaks)) : undefined
    const { recorded, recordProblem } = file ? {} : await knownOf(input, systemClock.now())
    const usage = recorded?.usage
    const peaks = file ?? usage?.peaks ?? []
    const times = positive(input, 'times')
    const event = eventIn(input)
    const cores = numberOption(input, 'cores', { max: 1_024, otherwise: demands?.cores ?? availableParallelism() })
    const spread = values.spread === true
    const measured = measuredOf(recorded, { topology, cores, measured: demands && measuredBy(demands) })
    const { users: funnel, ...forecast } = forecastOf({
      ...{ topology, cores, spread, objective, users, peaks },
      today: dayOf(new Date(systemClock.now()).toISOString()),
      ...(usage && { recorded: usage }),
      ...(measured && { measured }),
      ...(times !== undefined && { times }),
      ...(event !== undefined && { event }),
      seed: numberOption(input, 'seed', { max: 2 ** 31 - 1, otherwise: 1 }),
    })
    if ((times !== undefined || event !== undefined) && funnel.rate === undefined)
      throw new RungError(
        'COMMAND_INVALID',
        '--times and --event need the present rate: a record of it, --rate, --users or --peaks.',
      )
    const build = settings.values.process.build ?? (app && demands?.build ? await buildOf(app, dataDir) : undefined)
    const view = {
      ...{ rung: topology.rung, cores, spread },
      measured: demands
        ? {
            ...{ at: demands.at, rung: demands.rung, scenario: demands.scenario, build: demands.build ?? null },
            isOfOtherBuild: build !== undefined && demands.build !== undefined && build !== demands.build,
          }
        : null,
      isCalibrated: !demands && measured !== undefined,
      recorded: usage ? { until: new Date(usage.at).toISOString(), days: usage.peaks.length } : null,
      ...(recordProblem !== undefined && { problem: recordProblem }),
      ...{ users: funnel, ...withDates(forecast) },
      says: told({ ...forecast, users: funnel }),
    }
    return result(view, () => {
      for (const line of linesOf(view, forecast)) out.line(line)
    })
  },
}
export default command

/** Without --p95 and --failing the objective of the measurement counts, otherwise that of most: 200 ms. */
export function objectiveIn(input: Input, measured: KeptLimit | undefined): Objective {
  const { p95, failing } = input.values
  if (p95 === undefined && failing === undefined) {
    if (!measured) return { p95Ms: 200, failing: 0.01 }
    return { ...(measured.p95Ms !== undefined && { p95Ms: measured.p95Ms }), failing: measured.failing }
  }
  return {
    ...(p95 !== undefined && { p95Ms: timeOption(input, 'p95', 0) }),
    failing: percentOption(input, 'failing', '1%'),
  }
}

function usersIn(input: Input): Users {
  const all = {
    registered: positive(input, 'users'),
    daily: positive(input, 'daily'),
    concurrent: positive(input, 'concurrent'),
    rate: positive(input, 'rate'),
    limitPerMinute: positive(input, 'limit'),
    sessionMs: input.values.session === undefined ? undefined : timeOption(input, 'session', 0),
  }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
}

/** @throws COMMAND_INVALID */
function positive({ values }: Input, name: string): number | undefined {
  if (values[name] === undefined) return undefined
  const value = Number(values[name])
  if (value > 0 && Number.isFinite(value)) return value
  throw new RungError('COMMAND_INVALID', `--${name} must be a number of more than 0; it is "${values[name]}".`)
}

const isDay = (text: unknown): text is string =>
  typeof text === 'string' && /^\d{4}-\d\d-\d\d$/.test(text) && dayText(dayOf(text) || 0) === text

/** @throws COMMAND_INVALID */
function eventIn({ values: { event } }: Input): number | undefined {
  if (event === undefined) return undefined
  const today = dayOf(new Date(systemClock.now()).toISOString())
  if (isDay(event) && dayOf(event) > today) return dayOf(event)
  throw new RungError('COMMAND_INVALID', `--event must be a day after today such as 2027-03-01; it is "${event}".`)
}

/** @throws COMMAND_INVALID */
async function peaksIn(file: string): Promise<DayPeak[]> {
  const invalid = (what: string) =>
    new RungError('COMMAND_INVALID', `${file} ${what}. Write [{ "day": "2026-11-30", "peak": 280 }, …].`)
  if (!existsSync(file)) throw invalid('does not exist')
  let peaks: unknown
  try {
    peaks = JSON.parse(await readFile(file, 'utf8'))
  } catch {
    throw invalid('is not JSON')
  }
  const isPeak = (one: Partial<DayPeak> | null) => isDay(one?.day) && Number.isFinite(one?.peak) && one!.peak! >= 0
  if (!Array.isArray(peaks) || peaks.length === 0 || !peaks.every(isPeak))
    throw invalid('is not a list of days with their peaks')
  return peaks as DayPeak[]
}

/** Turns what a load test kept, for one journey, into what the planner asks for, for one request. */
export function measuredBy(demands: Demands): Measured {
  const { counts, cores, nodeCpu, mix, limit, earlier, routes, steps } = demands
  const { requests } = limit
  const cpuMs = (route: string) => Object.values(routes[route] ?? {}).reduce((sum, ms) => sum + ms, 0)
  const same = [limit, ...earlier].filter(
    // Only where web processes were used up first does their number set the limit.
    (one) => one.rung === limit.rung && one.nodeCpu === limit.nodeCpu && !one.isOpen && /^web\b/.test(one.first ?? ''),
  )
  return {
    ...{ counts, cores, others: mix.others },
    ...(nodeCpu !== undefined && { nodeCpu }),
    demand: Object.fromEntries(
      Object.entries(mix.demand).map(([part, ms]) => [part, scaled({ ...ms, from: 'measured' }, 1 / requests)]),
    ),
    routes: Object.entries(mix.requests).map(([route, count]) => ({ share: count / requests, cpuMs: cpuMs(route) })),
    steps: steps.map(({ rate, p95 }) => ({ rate: rate * requests, p95 })),
    isOpen: limit.isOpen,
    limit: scaled({ low: limit.least, likely: limit.rate, high: limit.most, from: 'measured' }, requests),
    objective: { ...(limit.p95Ms !== undefined && { p95Ms: limit.p95Ms }), failing: limit.failing },
    sizes: same.map((one) => ({ count: one.web, rate: one.rate * one.requests })),
  }
}

/** Days as dates. */
function withDates({ today, date, begin, event, ...forecast }: Omit<Forecast, 'users'>) {
  const dates = (days: object) =>
    Object.fromEntries(Object.entries(days).map(([name, day]) => [name, typeof day === 'number' ? dayText(day) : day]))
  return {
    today: dayText(today),
    ...forecast,
    ...(date && { date: dates(date) }),
    ...(begin && { begin: dates(begin) }),
    ...(event && { event: { ...event, day: dayText(event.day), begin: dates(event.begin) } }),
  }
}

interface View {
  rung: string
  cores: number
  spread: boolean
  measured: { at: string; rung: string; scenario: string; isOfOtherBuild: boolean } | null
  /** Costs are those of production, in the last week of the record. */
  isCalibrated: boolean
  recorded: { until: string; days: number } | null
  /** Why the record could not be read. */
  problem?: string
  users: Forecast['users']
  says: readonly string[]
}

function linesOf(
  { rung, cores, spread, measured, isCalibrated, recorded, problem, users, says }: View,
  forecast: Omit<Forecast, 'users'>,
): string[] {
  const { needs = [] } = forecast.times ?? forecast.event ?? {}
  const funnel = Object.entries(users) as [keyof Forecast['users'], Interval][]
  return [
    `rung ${rung}, ${spread ? `each part on a machine with ${cores} cores` : `all parts on one machine with ${cores} cores`}`,
    ...hanging('', costsTold(measured, isCalibrated)),
    ...(recorded ? hanging('', recordTold(recorded)) : []),
    ...problemsOf({ recordProblem: problem }).flatMap((text) => hanging('', text)),
    '',
    ...(funnel.length > 0 ? [...usersTable(funnel), ''] : []),
    ...stationsTable(forecast.stations),
    ...says.flatMap((sentence) => ['', ...hanging('', sentence)]),
    ...(needs.length > 0 ? ['', ...needsTable(needs)] : []),
  ]
}

function costsTold(measured: View['measured'], isCalibrated: boolean): string {
  if (isCalibrated)
    return 'Costs are those of production in the last week. A load test finds the limit itself: rung load --to-break --p95 200ms'
  if (!measured)
    return 'Costs are priors, of other apps: nothing was measured here. Measure them with: rung load --to-break --p95 200ms'
  const { at, rung, scenario, isOfOtherBuild } = measured
  return [
    `Costs were measured on ${at.slice(0, 10)} at rung ${rung}, with ${scenario}.`,
    ...(isOfOtherBuild ? ['The code has changed since: measure again with rung load --to-break.'] : []),
  ].join(' ')
}

function recordTold({ until, days }: NonNullable<View['recorded']>): string {
  return `What is measured of users and rates was recorded until ${until.slice(0, 16).replace('T', ' ')} UTC, with ${days === 1 ? '1 whole day' : `${days} whole days`}.`
}

const usersNames = { registered: 'registered', daily: 'daily', concurrent: 'concurrent', rate: 'requests/s' } as const

function usersTable(funnel: readonly [keyof Forecast['users'], Interval][]): string[] {
  const rows = funnel.map(([name, { low, likely, high, from }]) => [
    ...[usersNames[name], amount(low), amount(likely), amount(high), from],
  ])
  return tableLines([14, -12, -12, -12, 9], [['users', 'low', 'likely', 'high', 'from'], ...rows])
}

function stationsTable(stations: readonly StationCapacity[]): string[] {
  const rows = stations.map(({ name, has, demandMs, rateMax, first }) => [
    ...[name, amount(has), amount(demandMs.likely), demandMs.from],
    ...[amount(rateMax.low), amount(rateMax.likely), amount(rateMax.high), first > 0 ? percent(first) : ''],
  ])
  const heads = ['part', 'has', 'ms each', 'from', '/s, low', 'likely', 'high', 'first']
  return tableLines([9, -6, -8, 8, -9, -9, -9, -6], [heads, ...rows])
}

function needsTable(needs: readonly Need[]): string[] {
  return tableLines([9, -12, -8, -8, 16], [['part', 'used up at', 'has', 'needs', ''], ...needs.map(needsTold)])
}
