import { writeFile } from 'node:fs/promises'
import { availableParallelism, constants, setPriority } from 'node:os'
import { type FleetStatus, fleetStatus } from '../fleet/status.ts'
import { type Saturated, saturatedIn, type Usage, watchUsage } from '../fleet/usage.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { isRungError } from '../kernel/errors.ts'
import { seededRandom } from '../kernel/random.ts'
import { findLimit, type Limit, type Objective, type Step } from '../load/break.ts'
import {
  countsOfKinds,
  type Demand,
  type Demands,
  demandOf,
  demandsOfRoutes,
  type Look,
  type MeasuredJourney,
  mixOf,
} from '../load/demands.ts'
import { limitedShare, limitedText } from '../load/limited.ts'
import { htmlReport, short } from '../load/report.ts'
import { runLoadInThreads } from '../load/run.ts'
import { type ScenarioFile, scenarioThread } from '../load/scenario-file.ts'
import { type Figures, summaryOf } from '../load/summary.ts'
import { keepDemands, readDemands } from './demands-file.ts'
import { tableLines } from './table.ts'

export interface BreakOptions {
  given: ScenarioFile
  /** Names of the journeys. */
  journeys: readonly string[]
  scenario: string
  dataDir: string
  objective: Objective
  stepSeconds: number
  from: number
  rateMax: number
  rounds: number
  seed: number
  threads: number
  note(text: string): void
}

export interface Breaking extends Limit {
  url: string
  objective: Objective
  /** What was used up at the lowest rate at which the objective did not hold; empty where nothing that is measured was. */
  saturated: readonly Saturated[]
  /** The rates that could not be sent, and why. */
  unsent: readonly { rate: number; why: string }[]
  usages: readonly { rate: number; usage: Usage }[]
  /** Where they are kept for later; `undefined` if nothing runs on the data directory, so that no part could be watched. */
  demands: Demands | undefined
  demandsFile: string | undefined
  /** Where most of what was to be measured was refused, so that no costs are kept: the journey, and the share that was. */
  refused?: { journey: string; share: number }
}

const settleMs = 500
/** A refusal costs less than the work that it stands for: with more of them than this the costs are not those of work. */
const refusedMax = 0.05

/** Share of the requests that were answered with 4xx although the scenario did not expect it. Pure. */
export function refusedShare({ count, failures }: Pick<Figures, 'count' | 'failures'>): number {
  const refused = Object.entries(failures).reduce((sum, [kind, one]) => sum + (/^4\d\d$/.test(kind) ? one : 0), 0)
  return count === 0 ? 0 : refused / count
}

/** CPU time is counted in ticks of 10 ms, so that it takes many journeys to tell what one costs. */
const demandLoad = { visitors: 16, journeys: 400 }

/** Finds the limit of what runs, watches its parts meanwhile, and measures what a journey costs each of them. */
export async function loadToBreak(options: BreakOptions): Promise<Breaking> {
  const { given, objective, note, dataDir, seed, threads, stepSeconds } = options
  preferGenerator()
  const status = await fleetStatus(dataDir)
  const parts = status.running ? status.parts : []
  const quota = status.running && status.cpuQuota?.problem === undefined ? status.cpuQuota?.cores : undefined
  const usages: { rate: number; usage: Usage }[] = []
  const looks: (Look & { rate: number })[] = []
  const unsent: { rate: number; why: string }[] = []
  let count = 0

  /** Runs a load, with the usage of all parts. A pause of the machine makes journeys late, so a load that was late runs once more. */
  async function measure(how: Pick<ScenarioFile, 'phases' | 'closed' | 'only'>) {
    const first = await measureOnce(how)
    if (first.measured) return first.measured
    const { measured, why } = await measureOnce(how)
    if (!measured && how.phases) unsent.push({ rate: how.phases[0]!.rate, why: why! })
    return measured
  }

  async function measureOnce(how: Pick<ScenarioFile, 'phases' | 'closed' | 'only'>) {
    count += 1
    await sleep(settleMs)
    const { phases: _, ...scenario } = given
    const watched = await watchUsage(parts, quota)
    const running = runLoadInThreads(scenarioThread, { ...scenario, ...how, seed: seed + count }, threads)
    // Also a load that fails ends the watch: its connections would keep the process alive.
    const usage = await running.then(watched, watched)
    try {
      return { measured: { summary: summaryOf(await running), usage } }
    } catch (error) {
      if (!isRungError(error, 'LOAD_BOTTLENECK')) throw error
      return { why: error.message }
    }
  }

  const idle = await (await restOf(parts, quota))()
  const limit = await findLimit({
    ...{ objective, from: options.from, rateMax: options.rateMax, rounds: options.rounds, random: seededRandom(seed) },
    async measure(rate) {
      const measured = await measure({ phases: [{ seconds: stepSeconds, rate }] })
      if (!measured) return undefined
      const { all, seconds, journeys, routes } = measured.summary
      usages.push({ rate, usage: measured.usage })
      looks.push({ rate, journeys, routes, used: measured.usage })
      return {
        rate,
        p95: all.p95,
        failing: all.failing,
        limited: limitedShare(all.count, all.failures),
        goodput: ((1 - all.failing) * all.count) / Math.max(seconds, stepSeconds),
      }
    },
    onStep: (step) => note(stepLine(step)),
  })
  const broken = limit.steps.filter(({ held }) => !held).map(({ rate }) => rate)
  const firstBroken = broken.length > 0 ? Math.min(...broken) : undefined
  const at = usages.filter(({ rate }) => rate === firstBroken).at(-1)
  const saturated = at ? saturatedIn(at.usage, objective.p95Ms) : []

  let demands: Demands | undefined
  let refused: Breaking['refused']
  if (parts.length > 0 && limit.rate > 0) {
    note('What one journey costs each part:')
    const found = new Map<string, MeasuredJourney>()
    for (const name of options.journeys) {
      const measured = await measure({ closed: demandLoad, only: [name] })
      if (!measured) continue
      const { journeys, routes, all } = measured.summary
      const share = refusedShare(all)
      if (share > refusedMax) {
        refused = { journey: name, share }
        break
      }
      const demand = demandOf(measured.usage, idle, journeys)
      found.set(name, { journeys, demand, routes })
      note(`  ${name}: ${demandText(demand)}`)
    }
    if (!refused) {
      const held = limit.steps.filter((one) => one.held).map(({ rate }) => rate)
      // Far below the limit most of what a journey costs is what the parts do once, however many come.
      const near = looks.filter(({ rate }) => held.includes(rate) && rate >= limit.rate / 2)
      const routes = demandsOfRoutes([...found.values()])
      const mix = mixOf(near.length > 0 ? near : looks, idle, routes)
      const facts = { routes, before: await readDemands(dataDir), first: saturated[0]?.part, nodeCpu: quota }
      demands = demandsWith(found, status, { ...options, ...facts, limit, mix })
    }
  }
  const demandsFile = demands && (await keepDemands(demands, dataDir))
  return {
    ...limit,
    ...{ url: given.url!, objective, unsent, usages, demands, demandsFile },
    saturated,
    ...(refused && { refused }),
  }
}

async function restOf(parts: Parameters<typeof watchUsage>[0], quota: number | undefined) {
  const watched = await watchUsage(parts, quota)
  await sleep(2_000)
  return watched
}

/** The generator must be on time also where the app uses all cores. Only an administrator may ask for it. */
function preferGenerator(): void {
  try {
    setPriority(constants.priority.PRIORITY_ABOVE_NORMAL)
  } catch {
    // it stays as it is, and says so if it is late
  }
}

interface Found extends Pick<BreakOptions, 'scenario' | 'objective'>, Pick<Demands, 'mix' | 'routes'> {
  limit: Limit
  before: Demands | undefined
  first: string | undefined
  nodeCpu: number | undefined
}

function demandsWith(
  found: ReadonlyMap<string, MeasuredJourney>,
  status: FleetStatus,
  { scenario, objective, limit, routes, mix, before, first, nodeCpu }: Found,
): Demands {
  const rung = status.running ? (status.rung ?? '1k') : '1k'
  const parts = status.running ? status.parts : []
  const build = parts.find((one) => one.build !== undefined)?.build
  const counts = countsOfKinds(parts.map(({ name }) => name))
  const when = {
    at: new Date(systemClock.now()).toISOString(),
    rung,
    ...(build !== undefined && { build }),
    ...(nodeCpu !== undefined && { nodeCpu }),
  }
  const { rate, least, most, isOpen, steps } = limit
  const web = counts.web ?? counts.app ?? 1
  // Limits of other numbers of web processes tell how the app scales.
  const others = before?.scenario === scenario ? [before.limit, ...before.earlier] : []
  return {
    ...when,
    cores: availableParallelism(),
    scenario,
    journeys: Object.fromEntries([...found].map(([name, { demand }]) => [name, demand])),
    ...{ routes, counts, mix },
    limit: {
      ...when,
      ...{ web, rate, least, most, isOpen, ...objective },
      requests: Object.values(mix.requests).reduce((sum, one) => sum + one, 0),
      ...(first !== undefined && { first }),
    },
    earlier: others.filter((one) => one.web !== web),
    steps: steps.map(({ rate, p95, failing, held }) => ({ rate, p95, failing, held })),
  }
}

export function stepLine({ stage, rate, p95, failing, limited, goodput, held }: Step): string {
  const failed = failing > 0 ? `  ${short(100 * failing)} % failed` : ''
  const why = !held && limited > 0 ? `\n        ${limitedText}` : ''
  return `${stage.padEnd(6)}  ${short(rate).padStart(6)}/s  p95 ${short(p95).padStart(6)} ms  ${short(goodput).padStart(6)} good/s${failed}  ${held ? 'held' : 'not held'}${why}`
}

function demandText(demand: Demand): string {
  const parts = Object.entries(demand).filter(([, ms]) => ms > 0)
  return parts.map(([part, ms]) => `${part} ${short(ms)} ms`).join(', ') || 'nothing that could be measured'
}

export function breakLines(view: Breaking): string[] {
  const { objective, rate, least, most, confidence, throughput, isOpen, saturated, demands, demandsFile, unsent } = view
  const wanted = [
    ...(objective.p95Ms === undefined ? [] : [`p95 at most ${short(objective.p95Ms)} ms`]),
    `at most ${short(100 * objective.failing)} % failed`,
  ].join(', ')
  if (view.steps.length === 0) {
    const rates = [...new Set(unsent.map((one) => short(one.rate)))].join(' and ')
    return ['', `Nothing could be measured, also not at ${rates} journeys/s. ${unsent[0]?.why ?? ''}`.trimEnd()]
  }
  const isLimited = view.steps.some((one) => !one.held && one.limited > 0)
  const limit = isOpen
    ? `The objective (${wanted}) held at every rate that could be sent, up to ${short(rate)} journeys/s.`
    : rate === 0
      ? `The objective (${wanted}) held at no rate down to ${short(Math.min(...view.steps.map((one) => one.rate)))} journeys/s.`
      : `The objective (${wanted}) holds up to ${short(rate)} journeys/s (${short(least)} to ${short(most)}, ${Math.round(100 * confidence)} %).`
  const beyond = view.steps.filter(({ stage }) => stage === 'beyond')
  const first = saturated[0]
  return [
    '',
    limit,
    ...(isLimited ? [limitedText] : []),
    ...unsent.slice(0, 1).map((one) => `Not measured at ${short(one.rate)}/s: ${one.why}`),
    `The most good answers in a second were ${short(throughput)}${beyond.length > 0 ? `; beyond the limit: ${beyond.map((one) => `${short(one.goodput)} at ${short(one.rate)}/s`).join(', ')}` : ''}.`,
    ...(isOpen
      ? []
      : [
          first
            ? `First used up: ${saturated.map(({ part, figure }) => `${part} (${figure})`).join('; ')}.`
            : 'None of what is measured was used up: look for slow statements (rung doctor) or limits.',
        ]),
    ...(view.refused
      ? [
          '',
          `Nothing was kept: ${Math.round(100 * view.refused.share)} % of the requests of "${view.refused.journey}" were refused (4xx), and a refusal`,
          'costs less than the work. Where limits refuse them, start the app with RUNG_LIMITS=off.',
        ]
      : []),
    ...(demands ? ['', ...demandLines(demands), '', `Kept for later in ${demandsFile}.`] : []),
  ]
}

function demandLines({ journeys, routes }: Demands): string[] {
  const parts = [...new Set(Object.values(journeys).flatMap((one) => Object.keys(one)))].slice(0, 5)
  const of = (head: string, demands: Readonly<Record<string, Demand>>) => {
    const rows = Object.entries(demands).map(([name, one]) => [name, ...parts.map((part) => short(one[part] ?? 0))])
    return tableLines([31, ...parts.map(() => -8)], [[head, ...parts], ...rows], ' ')
  }
  return [...of('CPU ms for one journey', journeys), '', ...of('for one request', routes)]
}

export async function writeBreakReport(file: string, view: Breaking): Promise<void> {
  const steps = view.steps.toSorted((a, b) => a.rate - b.rate)
  const x = steps.map(({ rate }) => rate)
  const usages = view.usages.toSorted((a, b) => a.rate - b.rate)
  const names = [...new Set(usages.flatMap(({ usage }) => usage.parts.map(({ name }) => name)))]
  const limit = [{ name: 'the limit', from: view.least, to: view.most }]
  const page = await htmlReport({
    title: `The limit of ${view.url}`,
    lines: breakLines({ ...view, demands: undefined }).filter(Boolean),
    figures: [
      { name: 'limit', value: `${short(view.rate)}/s`, note: `${short(view.least)} to ${short(view.most)}` },
      { name: 'most good answers', value: `${short(view.throughput)}/s` },
      ...view.saturated.slice(0, 1).map(({ part, figure }) => ({ name: 'first used up', value: part, note: figure })),
    ],
    charts: [
      {
        title: 'p95',
        unitX: 'journeys/s',
        unitY: 'ms',
        x,
        bands: limit,
        lines: [{ name: 'p95', values: steps.map(({ p95 }) => p95) }],
      },
      {
        ...{ title: 'Good answers', unitX: 'journeys/s', unitY: 'per s', x, bands: limit },
        lines: [{ name: 'good answers', values: steps.map(({ goodput }) => goodput) }],
      },
      {
        ...{ title: 'CPU', unitX: 'journeys/s', unitY: 'cores', x: usages.map(({ rate }) => rate), bands: limit },
        lines: names.map((name) => ({
          name,
          values: usages.map(({ usage }) => usage.parts.find((one) => one.name === name)?.cores ?? null),
        })),
      },
    ],
    tables: [
      {
        title: 'Steps',
        heads: ['journeys/s', 'stage', 'p95 ms', 'failed %', 'good/s', 'objective'],
        rows: steps.map(({ rate, stage, p95, failing, goodput, held }) => [
          ...[short(rate), stage, short(p95), short(100 * failing), short(goodput), held ? 'held' : 'not held'],
        ]),
      },
      ...(view.demands
        ? [
            {
              title: 'CPU ms for one journey',
              heads: ['journey', 'parts'],
              rows: Object.entries(view.demands.journeys).map(([name, one]) => [name, demandText(one)]),
            },
            {
              title: 'CPU ms for one request',
              heads: ['route', 'parts'],
              rows: Object.entries(view.demands.routes).map(([name, one]) => [name, demandText(one)]),
            },
          ]
        : []),
    ],
  })
  await writeFile(file, page)
}
