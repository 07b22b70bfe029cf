import { availableParallelism } from 'node:os'
import { examine } from '../doctor/examine.ts'
import { withMigrationFiles } from '../doctor/migration-files.ts'
import { runningFleet, withQuotaOf } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import { messageOf, sentence } from '../kernel/errors.ts'
import type { Usage } from '../observe/record/usage.ts'
import { readSightings } from '../observe/sighting-table.ts'
import { type Cost, costOf, middleOf, purchasesOf, type Quantities, type Span } from '../planner/cost.ts'
import type { Diagnosis, Evidence, Prices } from '../planner/evidence.ts'
import { forecastOf } from '../planner/forecast.ts'
import type { Interval } from '../planner/interval.ts'
import { cheapest, type PriceList } from '../planner/prices.ts'
import type { Deploy } from '../runtime/deploys.ts'
import { findApp, loadApp } from '../runtime/load-app.ts'
import { rungNames } from '../topology/catalog.ts'
import type { Topology } from '../topology/topology.ts'
import { type Input, numberOption, type Options, settingOptions } from './command.ts'
import { boughtOptions, listIn, orNothing, quantitiesIn, topologyOf } from './cost.ts'
import type { OpenDatabase } from './database.ts'
import { readDemands } from './demands-file.ts'
import { carrying, evidenceOf } from './evidence-from-record.ts'
import { dataDirOfInput } from './input-settings.ts'
import { measuredBy, objectiveIn } from './plan.ts'
import { knownOf, problemsOf } from './recorded.ts'

/** Of the commands that judge the app as it runs. */
export const evidenceOptions: Options = {
  cores: { type: 'string', value: 'number', help: 'Cores of the machine (of the load test, otherwise of this one).' },
  spread: { type: 'boolean', help: 'Each part has a machine of its own, with so many cores.' },
  p95: { type: 'string', value: 'time', help: 'Objective: 95 of 100 requests are answered within this time.' },
  list: { type: 'string', value: 'name', help: 'Prices; see rung cost --help (generic).' },
  prices: { type: 'string', value: 'file', help: 'Your own prices, which stand for those of the list.' },
  ...boughtOptions,
  ...settingOptions('process.dataDir'),
}

export interface AppEvidence {
  evidence: Evidence
  usage?: Usage
  /** Requests per second, as "rung plan" says it: by priors where nothing was measured. */
  ceiling: Interval
  /** Whether the record, or the Prometheus instead of it, could be read; there may be nothing in it yet. */
  isRecordRead: boolean
  /** The newest first. */
  deploys: readonly Deploy[]
  /** By what was used of it and what runs; nothing where a price is missing. */
  cost?: Cost
  /** `undefined` where the database could not be examined. */
  examined: boolean
  /** What could not be looked at, as sentences. */
  problems: string[]
}

/** Gathers what there is: the record, a load test, the doctor's findings, what runs, and what steps cost. */
export async function evidenceOfApp(
  input: Input,
  appFile?: string,
  more: (open: OpenDatabase) => Promise<void> = async () => {},
): Promise<AppEvidence> {
  const { cwd, values, out } = input
  const app = findApp(appFile, cwd)
  const dataDir = dataDirOfInput(input)
  const fleet = await runningFleet(dataDir)
  const topology = withQuotaOf(await topologyOf(input, app, fleet?.rung || undefined), fleet)
  const list = await listIn(input)
  const problems: string[] = []
  let doctor: readonly Diagnosis[] = []
  let examined = false
  const { recorded, deploys, ...known } = await knownOf(input, systemClock.now(), async (open) => {
    const { adminConnection, database } = open
    try {
      const seen = await readSightings(database).catch(() => [])
      out.note('Examining the database …')
      const { findings } = await examine(adminConnection, { seen })
      const loaded = app === undefined ? undefined : await loadApp(appFile, cwd).catch(() => undefined)
      doctor = loaded ? await withMigrationFiles(findings, loaded, cwd) : findings
      examined = true
    } catch (error) {
      problems.push(`The database could not be examined: ${sentence(messageOf(error))}`)
    }
    await more(open)
  })
  problems.unshift(...problemsOf(known))
  const demands = await readDemands(dataDir)
  const spread = values.spread === true
  const setting = {
    ...{ topology, spread, doctor },
    cores: numberOption(input, 'cores', { max: 1_024, otherwise: demands?.cores ?? availableParallelism() }),
    objective: objectiveIn(input, demands?.limit),
    ...(demands && { measured: measuredBy(demands) }),
  }
  // The same rung with more processes, if something spreads requests over them, and the higher ones.
  const others = await Promise.all(
    rungNames
      .slice(rungNames.indexOf(topology.rung))
      .map(async (one) => withQuotaOf(await topologyOf(input, app, one), fleet)),
  )
  const next = carrying(
    recorded,
    setting,
    others.filter(({ edge }) => edge.engine !== 'none'),
  )
  const evidence = evidenceOf(recorded, {
    ...setting,
    prices: pricesOf(topology, list, setting.cores, quantitiesIn(input), next),
  })
  const today = Math.floor(systemClock.now() / 86_400_000)
  const cost = orNothing(() => costOf(purchasesOf(topology, quantitiesIn(input)), list))
  return {
    evidence: { ...evidence, today },
    ...(recorded && { usage: recorded.usage }),
    ceiling: (evidence.forecast ?? forecastOf({ ...setting, users: {}, peaks: [], today })).ceiling,
    isRecordRead: known.recordProblem === undefined,
    ...(cost && { cost }),
    deploys,
    examined,
    problems,
  }
}

/** What each step costs more than what runs; those without a price are left out. */
function pricesOf(
  topology: Topology,
  list: PriceList,
  cores: number,
  quantities: Quantities,
  next: ReturnType<typeof carrying>,
): Prices {
  const cost = (of: Topology) => orNothing(() => costOf(purchasesOf(of, quantities), list))
  const now = cost(topology)
  const moreThan = (later: Span | undefined): Span | undefined =>
    now && later && { low: Math.max(0, later.low - now.low), high: Math.max(0, later.high - now.high) }
  const { data, processes } = topology
  const server = now?.lines.find(({ item }) => item === 'server')
  const size = server?.size
  const present = cheapest(list.prices, 'server', { cores, memoryGb: 0 })
  const larger = cheapest(list.prices, 'server', { cores: 2 * cores, memoryGb: present?.memoryGb ?? 0 })
  const own = (size && cheapest(list.prices, 'server', size)) ?? undefined
  const bought = cheapest(list.prices, 'database')
  const database = [own, bought].filter((one) => one !== undefined).sort((a, b) => middleOf(a) - middleOf(b))[0]
  const replica = moreThan(cost({ ...topology, data: { ...data, replicas: data.replicas + 1 } }))
  const worker = moreThan(cost({ ...topology, processes: { ...processes, worker: processes.worker + 1 } }))
  const climbed = next && cost({ ...next.topology, processes: { ...next.topology.processes, web: next.web } })
  const more = moreThan(climbed)
  return {
    ...(present &&
      larger &&
      larger !== present && {
        larger: {
          size: { cores: larger.cores!, memoryGb: larger.memoryGb! },
          more: { low: Math.max(0, larger.low - present.high), high: larger.high - present.low },
        },
      }),
    ...(replica && replica.high > 0 && { replica }),
    ...(database && { database: { low: database.low, high: database.high } }),
    ...(worker && { worker }),
    ...(next && {
      rung: {
        rung: next.topology.rung,
        ...(next.web !== next.topology.processes.web && { web: next.web }),
        ...(more && { more }),
      },
    }),
  }
}
