import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { deploymentOf } from '../fleet/deployment.ts'
import { engines } from '../fleet/engines.ts'
import { runningFleet } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import { isRungError, RungError } from '../kernel/errors.ts'
import { type Hour, isDatabase, type Recorded } from '../observe/record/hours.ts'
import { doneIn } from '../observe/record/work.ts'
import {
  againstBand,
  bands,
  type Cost,
  computingOf,
  costOf,
  middleOf,
  type Purchase,
  per10k,
  purchasesOf,
  type Quantities,
  reportedPer10k,
  type Share,
  type Span,
  type Suggestion,
  sharesOf,
  sizes,
  spanOf,
  suggestionsFor,
  type Use,
  type Work,
} from '../planner/cost.ts'
import { hoursMin } from '../planner/evidence.ts'
import { forecastOf } from '../planner/forecast.ts'
import { quantile } from '../planner/interval.ts'
import { items, type Price, type PriceList, priceLists, type Size, withOwn } from '../planner/prices.ts'
import { lastPeakOf, trendOf } from '../planner/trend.ts'
import { amount, dollars, percent } from '../planner/words.ts'
import type { Deploy } from '../runtime/deploys.ts'
import { findApp } from '../runtime/load-app.ts'
import { rungNames } from '../topology/catalog.ts'
import type { Topology } from '../topology/topology.ts'
import { type Command, hanging, type Input, type Options, result, settingOptions } from './command.ts'
import { readDemands } from './demands-file.ts'
import { measuredOf } from './evidence-from-record.ts'
import { dataDirOfInput, rungAndApp, settingsOf } from './input-settings.ts'
import { measuredBy, objectiveIn } from './plan.ts'
import { knownOf, problemsOf } from './recorded.ts'
import { tableLines } from './table.ts'

/** What is bought. */
export const boughtOptions: Options = {
  managed: { type: 'boolean', help: 'Postgres and Redis are bought as services, also where Rung runs them.' },
  server: { type: 'string', value: 'cores x GB', help: 'Size of a server, such as 4x16.' },
}

const command: Command = {
  name: 'cost',
  summary: 'tell what each rung costs a month, and what would cost less',
  usage: 'rung cost [rung] [app-file] [options]',
  help: [
    'From what a rung runs to what one buys and pays: by part, for 10,000 monthly users, as a',
    'share of revenue, by route and module (from the record), since the last deploy, and at the',
    'traffic to come. It is compared with what is reported for each rung. Without a rung it is',
    'the one that runs, otherwise that of the settings.',
    '',
    'Prices are in US dollars, each with its source and date (--json). A list without a price',
    'that is needed is an error (PRICE_MISSING). Your own prices stand for those of the list:',
    '',
    '  [{ "item": "server", "cores": 4, "memoryGb": 8, "month": [60, 80],',
    '     "source": "invoice", "date": "2026-11-01" }]',
    '',
    `Items: ${Object.keys(items).join(', ')}.`,
    '',
    'The guide: docs/guides/cost.md.',
  ].join('\n'),
  settings: ['rung', 'processes', 'data.replicas', 'cdn', 'prometheus'],
  examples: [
    'rung cost --users 8000 --revenue 0.50',
    'rung cost 100k --list hetzner --prices prices.json',
    'rung cost 1k --rate 40 --times 5',
  ],
  options: {
    list: {
      type: 'string',
      value: 'name',
      help: `Prices of: ${priceLists.map(({ name }) => name).join(', ')} (generic).`,
    },
    prices: { type: 'string', value: 'file', help: 'Your own prices, which stand for those of the list.' },
    users: {
      type: 'string',
      value: 'number',
      help: 'Monthly users (recorded, otherwise what the name of the rung says).',
    },
    revenue: { type: 'string', value: 'dollars', help: 'Revenue of one user in a month, such as 0.50.' },
    ...boughtOptions,
    storage: { type: 'string', value: 'GB', help: 'Files and backups in object storage (50, assumed).' },
    egress: { type: 'string', value: 'GB', help: 'What leaves in a month (100, assumed).' },
    rate: { type: 'string', value: 'number', help: 'Requests per second in the peak hour (from the record).' },
    times: {
      type: 'string',
      value: 'number',
      help: 'The traffic to come, as a multiple of today (the trend of the record, in 90 days).',
    },
    ...settingOptions('process.dataDir', 'processes.web', 'processes.worker', 'data.replicas'),
  },
  async run(input) {
    const { cwd, out, values } = input
    const { rung: named, app: given } = rungAndApp(input.positionals)
    const app = findApp(given, cwd)
    const dataDir = dataDirOfInput(input)
    const rung = named ?? ((await runningFleet(dataDir))?.rung || undefined)
    const topology = await topologyOf(input, app, rung)
    const list = await listIn(input)
    const quantities = quantitiesIn(input)
    const cost = costOf(purchasesOf(topology, quantities), list)
    const bought = orNothing(() => costOf(purchasesOf(topology, { ...quantities, managed: true }), list))
    const revenue = numberIn(input, 'revenue')
    const now = systemClock.now()
    const { recorded, deploys, ...known } = await knownOf(input, now)
    const usage = recorded?.usage
    const monthly = usage?.isWholeMonth && usage.monthly ? usage.monthly : undefined
    const users = numberIn(input, 'users') ?? monthly ?? bands.find((one) => one.rung === topology.rung)!.users
    const use = recorded && useOf(recorded, now)
    const grown = await grownCost()
    const work = recorded ? await workOf(recorded, dataDir) : []
    const perUser = middleOf(cost) / users
    const view = {
      rung: topology.rung,
      problems: problemsOf(known),
      list: { name: list.name, about: list.about },
      cost,
      band: againstBand(cost, topology.rung, bought),
      rungs: await Promise.all(bands.map(rungRow)),
      users,
      per10k: { ...per10k(cost, users), reported: reportedPer10k },
      revenue: revenue === undefined ? null : { perUser: revenue, share: perUser / revenue },
      forecast: grown ?? null,
      ...(values.times !== undefined && !grown && { forecastProblem: unknownGrowth() }),
      routes: sharesOf(cost, work, 'name'),
      modules: sharesOf(cost, work, 'module'),
      deploy: sinceDeploy(cost, recorded, deploys, now) ?? null,
      suggestions: suggestionsFor(cost, list, { use, topology, grown: grown?.cost ?? undefined }),
      assumed: [
        ...(values.storage === undefined ? [`${quantities.storageGb} GB of object storage`] : []),
        ...(values.egress === undefined ? [`${quantities.egressGb} GB of traffic`] : []),
        ...(values.users === undefined && monthly === undefined ? [`${amount(users)} monthly users`] : []),
      ],
    }
    return result(view, () => {
      for (const line of linesOf(view)) out.line(line)
    })

    async function rungRow({ rung, users, ...reported }: (typeof bands)[number]) {
      if (!(rungNames as readonly string[]).includes(rung)) return { rung, users, reported, derived: null }
      // Settings of this rung, such as RUNG_WEB, may not suit the other ones.
      const other = await topologyOf(input, app, rung).catch((error) => {
        if (isRungError(error, 'CONFIG_INVALID')) return undefined
        throw error
      })
      const derived = other && orNothing(() => costOf(purchasesOf(other, quantities), list))
      return { rung, users, reported, derived: derived ? { low: derived.low, high: derived.high } : null }
    }

    function unknownGrowth(): string {
      const what = `What ${amount(numberIn(input, 'times', timesMost)!)} times today's traffic costs is not known`
      return rateNow() ? `${what}: no rung carries it.` : `${what}: no rate is recorded. Say it with --rate.`
    }

    function rateNow(): number | undefined {
      const peaks = recorded?.peaks ?? []
      return numberIn(input, 'rate', rateMost) ?? usage?.rate ?? (peaks.length > 0 ? lastPeakOf(peaks) : undefined)
    }

    /** The lowest rung, from this one on, that carries the traffic to come, and what that costs. */
    async function grownCost() {
      const peaks = recorded?.peaks ?? []
      const rate = rateNow()
      const today = Math.floor(now / 86_400_000)
      const times = numberIn(input, 'times', timesMost) ?? (rate && timesIn90Days(peaks, today))
      if (rate === undefined || rate === 0 || times === undefined) return undefined
      const demands = await readDemands(dataDir)
      const cores = demands?.cores ?? availableParallelism()
      const measured = measuredOf(recorded, { topology, cores, measured: demands && measuredBy(demands) })
      for (const name of rungNames.slice(rungNames.indexOf(topology.rung))) {
        const other = await topologyOf(input, app, name)
        const { times: then } = forecastOf({
          ...{
            topology: other,
            objective: objectiveIn(input, demands?.limit),
            users: { rate },
            peaks: [],
            today,
            times,
          },
          ...{ cores, spread: other.balancer.engine !== 'none' },
          ...(measured && { measured }),
        })
        const needs = then?.needs ?? []
        if (needs.length === 0 || needs.some(({ needs }) => needs === undefined)) continue
        const counts = Object.fromEntries(needs.map(({ name, needs }) => [name, needs!]))
        const grown = purchasesOf(withCounts(other, counts), { ...quantities, ...sizesFor(other, counts, quantities) })
        return { times, rung: name, cost: orNothing(() => costOf(grown, list)) ?? null, size: largestIn(grown) }
      }
      return undefined
    }
  },
}
export default command

const hourMs = 3_600_000
/** Beyond these no rung is found, and the search for one takes long. */
const [rateMost, timesMost] = [1_000_000, 1_000]
/** Dollars a month, and cores and GB: a slip of the keyboard is no price. 0 is one: some things are free. */
const priceMost = 10_000_000

function withCounts(topology: Topology, counts: Readonly<Record<string, number>>): Topology {
  const { processes, data } = topology
  return {
    ...topology,
    processes: { ...processes, web: counts.web ?? processes.web, worker: counts.worker ?? processes.worker },
    data: { ...data, replicas: counts.replica ?? data.replicas },
  }
}

/** The largest server of a purchase, in words. */
function largestIn(purchases: readonly Purchase[]): string {
  const largest = purchases.flatMap(({ size }) => (size ? [size] : [])).sort((a, b) => b.cores - a.cores)[0]
  return largest ? `a server of ${largest.cores} cores and ${largest.memoryGb} GB` : 'no server'
}

/** The cores that are needed, with as much memory for each as before. */
function sizesFor(
  topology: Topology,
  counts: Readonly<Record<string, number>>,
  { server }: Quantities,
): Partial<Quantities> {
  const isSpread = topology.balancer.engine !== 'none'
  const size = server ?? sizes[isSpread ? 'spread' : 'alone']
  const needed = Math.ceil((isSpread ? counts.postgres : counts.machine) ?? 0)
  if (needed <= size.cores) return {}
  const larger = { cores: needed, memoryGb: Math.ceil((needed * size.memoryGb) / size.cores) }
  return isSpread ? { databaseServer: larger } : { server: larger }
}

/** Growth of the trend; nothing where it is not known. */
function timesIn90Days(peaks: Recorded['peaks'], today: number): number | undefined {
  if (peaks.length === 0) return undefined
  const trend = trendOf(peaks)
  if ('unknown' in trend) return undefined
  const at = (day: number) => quantile(trend.at(day), 0.5)
  const growth = at(today + 90) / at(today)
  return growth > 1 ? growth : undefined
}

/** What cannot be priced is left out where it is only a comparison. */
export function orNothing<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    if (isRungError(error) && error.code === 'PRICE_MISSING') return undefined
    throw error
  }
}

function all(values: Readonly<Record<string, number>>, test: (name: string) => boolean = () => true): number {
  return Object.entries(values).reduce((sum, [name, value]) => sum + (test(name) ? value : 0), 0)
}

function useOf({ hours, frames }: Recorded, now: number): Use | undefined {
  const week = hours.filter(({ from }) => from >= now - 7 * 24 * hourMs)
  if (week.length < hoursMin || frames.length === 0) return undefined
  const most = (of: (hour: Hour) => number) => Math.max(...week.map(of))
  const mean = (of: (hour: Hour) => number) => week.reduce((sum, hour) => sum + of(hour), 0) / week.length
  return {
    coresMost: most(({ cores }) => all(cores)),
    coresMean: mean(({ cores }) => all(cores)),
    memoryBytesMost: most(({ memoryBytes }) => all(memoryBytes)),
    hourMost: most(({ requests }) => requests),
    hourMean: mean(({ requests }) => requests),
    databaseCoresMost: most(({ cores }) => all(cores, isDatabase)),
    hours: week.length,
  }
}

/** By CPU time where a load test has measured that of every busy route, otherwise by the time that requests took. */
async function workOf({ frames }: Recorded, dataDir: string): Promise<Work[]> {
  const done = doneIn(frames)
  const routes = (await readDemands(dataDir))?.routes ?? {}
  const cpuMs = (name: string) => Object.values(routes[name] ?? {}).reduce((sum, ms) => sum + ms, 0)
  const requests = done.filter(({ module }) => module !== '(jobs)')
  const seconds = requests.reduce((sum, one) => sum + one.seconds, 0)
  const isMeasured = requests.every((one) => one.seconds < 0.01 * seconds || cpuMs(one.name) > 0)
  const cpuSeconds = requests.reduce((sum, { name, count }) => sum + (count * cpuMs(name)) / 1000, 0)
  return done.map(({ name, module, count, seconds: took }) => {
    const byCpu = isMeasured && module !== '(jobs)' && cpuSeconds > 0
    return { name, module, amount: byCpu ? (seconds * count * cpuMs(name)) / 1000 / cpuSeconds : took }
  })
}

/** What a request costs since the last deploy, against before, in CPU of all processes and engines. */
function sinceDeploy(cost: Cost, recorded: Recorded | undefined, deploys: readonly Deploy[], now: number) {
  const last = deploys.find(
    ({ outcome, previous, startedBy }) => outcome === 'done' && previous !== null && startedBy !== 'rung climb',
  )
  if (!last || !recorded) return undefined
  const at = (last.endedAt ?? last.startedAt).getTime()
  const length = Math.min(now - at, 7 * 24 * hourMs)
  const cpuMsIn = (some: readonly Hour[]) => {
    const requests = some.reduce((sum, hour) => sum + hour.requests, 0)
    const cpuMs = some.reduce((sum, hour) => sum + all(hour.cores) * hour.coveredMs, 0)
    return requests >= 1_000 ? { requests, cpuMs: cpuMs / requests } : undefined
  }
  const before = cpuMsIn(recorded.hours.filter(({ from, to }) => to <= at && from >= at - length))
  const after = cpuMsIn(recorded.hours.filter(({ from }) => from >= at && from < at + length))
  if (!before || !after) return undefined
  const change = after.cpuMs / before.cpuMs - 1
  return {
    ...{ build: last.build, at: new Date(at).toISOString(), before: before.cpuMs, after: after.cpuMs, change },
    aMonth: middleOf(computingOf(cost)) * (1 - 1 / (1 + change)),
  }
}

/** The topology of an app at a rung, with the settings of the command. */
export async function topologyOf(input: Input, app: string | undefined, rung: string | undefined): Promise<Topology> {
  return deploymentOf(await settingsOf(input, { app, rung }), engines).topology
}

export function quantitiesIn(input: Input): Quantities {
  const { server, managed } = input.values
  const size = server === undefined ? undefined : sizeIn(String(server))
  return {
    ...(size && { server: size }),
    managed: managed === true,
    storageGb: numberIn(input, 'storage') ?? 50,
    egressGb: numberIn(input, 'egress') ?? 100,
  }
}

function sizeIn(text: string): Size {
  const [, cores, memoryGb] = /^(\d+)x(\d+)$/.exec(text) ?? []
  if (Number(cores) > 0 && Number(memoryGb) > 0) return { cores: Number(cores), memoryGb: Number(memoryGb) }
  throw new RungError('COMMAND_INVALID', `--server must be cores and GB such as 4x16; it is "${text}".`)
}

/** @throws COMMAND_INVALID */
export function numberIn({ values }: Input, name: string, max = Number.MAX_VALUE): number | undefined {
  const text = values[name]
  if (text === undefined) return undefined
  const value = Number(text)
  if (String(text).trim() !== '' && value > 0 && value <= max) return value
  const most = max === Number.MAX_VALUE ? '' : ` and at most ${amount(max)}`
  throw new RungError('COMMAND_INVALID', `--${name} must be a number above 0${most}; it is "${text}".`)
}

/** @throws COMMAND_INVALID */
export async function listIn({ values, cwd }: Input): Promise<PriceList> {
  const wanted = String(values.list ?? 'generic')
  const list = priceLists.find(({ name }) => name === wanted)
  if (!list) {
    const names = priceLists.map(({ name }) => name).join(', ')
    throw new RungError('COMMAND_INVALID', `There is no list of prices "${wanted}". There are: ${names}.`)
  }
  return typeof values.prices === 'string' ? withOwn(list, await pricesIn(path.resolve(cwd, values.prices))) : list
}

/** @throws COMMAND_INVALID */
async function pricesIn(file: string): Promise<Price[]> {
  const invalid = (what: string) =>
    new RungError(
      'COMMAND_INVALID',
      `${file} ${what}. Write [{ "item": "balancer", "month": 18, "source": "invoice", "date": "2026-11-01" }, …]; see: rung cost --help`,
    )
  if (!existsSync(file)) throw invalid('does not exist')
  let rows: unknown
  try {
    rows = JSON.parse(await readFile(file, 'utf8'))
  } catch {
    throw invalid('is not JSON')
  }
  if (!Array.isArray(rows)) throw invalid('is not a list of prices')
  return rows.map((row, index) => priceIn(row) ?? fail(index))
  function fail(index: number): never {
    throw invalid(`has no valid price in row ${index + 1}`)
  }
}

function priceIn(row: unknown): Price | undefined {
  const { item, name, cores, memoryGb, month, source, date } = (row ?? {}) as Record<string, unknown>
  const [low, high = low] = Array.isArray(month) ? month : [month]
  const isAmount = (value: unknown): value is number => typeof value === 'number' && value >= 0 && value <= priceMost
  const isSized = cores === undefined ? memoryGb === undefined : isAmount(cores) && isAmount(memoryGb)
  if (typeof item !== 'string' || !Object.hasOwn(items, item) || !isAmount(low) || !isAmount(high) || low > high)
    return undefined
  if (!isSized || typeof source !== 'string' || typeof date !== 'string' || Number.isNaN(Date.parse(date)))
    return undefined
  return {
    ...{ item: item as Price['item'], low, high, source, date },
    ...(typeof name === 'string' && { name }),
    ...(cores !== undefined && { cores: cores as number, memoryGb: memoryGb as number }),
  }
}

interface View {
  rung: string
  /** What could not be read. */
  problems: readonly string[]
  list: { name: string; about: string }
  cost: Cost
  band: string
  rungs: readonly { rung: string; users: number; reported: Span; derived: Span | null }[]
  users: number
  per10k: Span & { reported: typeof reportedPer10k }
  revenue: { perUser: number; share: number } | null
  forecast: { times: number; rung: string; cost: Cost | null; size: string } | null
  /** Why there is none, where it was asked for. */
  forecastProblem?: string
  routes: readonly Share[]
  modules: readonly Share[]
  deploy: ReturnType<typeof sinceDeploy> | null
  suggestions: readonly Suggestion[]
  assumed: readonly string[]
}

const sharesShown = 8

function linesOf(view: View): string[] {
  const { cost, list, users, revenue, forecast, deploy } = view
  const paragraphs = [
    `${spanOf(cost)} a month at rung ${view.rung}. Prices: ${list.name} (${list.about}).${view.assumed.length > 0 ? ` Assumed: ${view.assumed.join(', ')}.` : ''}`,
    `For 10,000 monthly users that is ${spanOf(view.per10k)}. Teams report ${dollars(view.per10k.reported.before)} before and ${dollars(view.per10k.reported.after)} after they had tuned theirs.${middleOf(view.per10k) > view.per10k.reported.before ? ` With ${amount(users)} users the least that one can buy is shared by few.` : ''}`,
    ...view.problems,
    ...(revenue
      ? [`Of ${dollars(revenue.perUser)} that a user brings in a month it is ${percent(revenue.share)}.`]
      : []),
    `For rung ${view.rung} ${view.band}`,
    ...(forecast
      ? [
          forecast.cost
            ? `At ${amount(forecast.times)} times today's traffic: ${spanOf(forecast.cost)} a month at rung ${forecast.rung}.`
            : `At ${amount(forecast.times)} times today's traffic: rung ${forecast.rung} carries it, with ${forecast.size}, for which the list has no price.`,
        ]
      : []),
    ...(view.forecastProblem === undefined ? [] : [view.forecastProblem]),
    ...(deploy
      ? [
          `Since the deploy of ${deploy.at.slice(0, 10)} (${deploy.build.slice(0, 12)}) a request takes ${percent(Math.abs(deploy.change))} ${deploy.change < 0 ? 'less' : 'more'} CPU: ${amount(deploy.before)} ms before, ${amount(deploy.after)} ms now; at this traffic ${dollars(Math.abs(deploy.aMonth))} a month ${deploy.change < 0 ? 'less' : 'more'} of what computes.`,
        ]
      : []),
  ]
  return [
    ...tableLines(
      [18, -6, 16, -16],
      [['part', 'count', 'what', 'a month'], ...cost.lines.map(lineCells), ['', '', '', spanOf(cost)]],
    ),
    ...paragraphs.flatMap((text) => ['', ...hanging('', text)]),
    '',
    ...tableLines(
      [6, -18, -18],
      [
        ['rung', 'derived', 'reported'],
        ...view.rungs.map(({ rung, derived, reported }) => [rung, derived ? spanOf(derived) : '—', spanOf(reported)]),
      ],
    ),
    ...shareTable('route or job', view.routes),
    ...shareTable('module', view.modules),
    ...(view.routes.length === 0 ? ['', 'By route and module: nothing was recorded in the last seven days.'] : []),
    ...view.suggestions.flatMap(({ what, why, saving, risk }) => [
      '',
      ...hanging(
        `${spanOf({ low: Math.max(0, saving.low), high: saving.high })} less  `,
        `${what} ${why} Risk: ${risk}`,
      ),
    ]),
  ]
}

function lineCells(line: Cost['lines'][number]): string[] {
  const { part, count, size, item } = line
  const isByGb = item === 'storage' || item === 'egress'
  const what = size ? `${size.cores} × CPU, ${size.memoryGb} GB` : isByGb ? 'GB' : item
  return [part, amount(count), what, spanOf(line)]
}

function shareTable(head: string, shares: readonly Share[]): string[] {
  if (shares.length === 0) return []
  const rows = shares.slice(0, sharesShown).map((one) => [one.name, percent(one.share), spanOf(one)])
  return ['', ...tableLines([40, -8, -16], [[head, 'share', 'a month'], ...rows])]
}
