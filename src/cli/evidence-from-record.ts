import { total } from '../observe/record/frame.ts'
import { counted, distributed, gauged, quantile } from '../observe/record/groups.ts'
import { type Hour, isDatabase, type Recorded } from '../observe/record/hours.ts'
import { coveredMsMin } from '../observe/record/usage.ts'
import { doneIn } from '../observe/record/work.ts'
import { calibrated } from '../planner/calibrated.ts'
import { countsOf } from '../planner/demand.ts'
import type { Diagnosis, Evidence, PoolUse, Prices, ProcessUse, QueueUse, RouteUse } from '../planner/evidence.ts'
import { forecastOf, type Measured } from '../planner/forecast.ts'
import type { Objective } from '../planner/queueing.ts'
import type { Topology } from '../topology/topology.ts'
import { moduleFacts, modulesIn } from './extract-facts.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs

/** Statements on Rung's own tables, and the ends of transactions, are nothing that an author can change. */
const isOfApp = (text: string) => !/\brung\.\w/.test(text) && !/^\s*(begin|commit)\s*$/i.test(text)

/** What the record alone does not say. */
export interface Setting {
  topology: Topology
  cores: number
  spread: boolean
  objective: Objective
  /** A load test, which counts for more than the calibration from the record. */
  measured?: Measured | undefined
  doctor?: readonly Diagnosis[]
  prices?: Prices
}

const inHours = (ms: number) => Math.round((100 * ms) / hourMs) / 100

/** Puts the evidence for advice together. Pure. */
export function evidenceOf(recorded: Recorded | undefined, setting: Setting): Evidence {
  const { topology, cores, spread, doctor = [], prices } = setting
  const { hours = [], frames = [], peaks = [], weeks = [], until = 0, usage } = recorded ?? {}
  const week = hours.filter(({ from }) => from >= until - 7 * dayMs)
  const seconds = (metric: string, by: readonly string[]) =>
    distributed(frames, metric, by).map(({ labels, value }) => ({ labels, seconds: value.sum }))
  const statementsBy = (target: string) =>
    seconds('db_statement_duration_seconds', ['target'])
      .filter(({ labels }) => labels.target === target)
      .reduce((sum, one) => sum + one.seconds, 0)
  const judged = forecastFrom(recorded, setting)
  return {
    ...{ today: Math.floor(until / dayMs), topology, cores, spread, peaks, weeks, doctor },
    window: {
      hours: inHours(week.reduce((sum, { coveredMs }) => sum + coveredMs, 0)),
      requests: week.reduce((sum, { requests }) => sum + requests, 0),
    },
    routes: routesIn(recorded),
    statements: counted(frames, 'db_statement_seconds_total', ['text'])
      .filter(({ labels }) => isOfApp(labels.text!))
      .map(({ labels, value }) => ({
        text: labels.text!,
        seconds: value,
        calls: counted(frames, 'db_statement_calls_total', ['text']).find((one) => one.labels.text === labels.text)!
          .value,
      })),
    database: {
      readSeconds: statementsBy('read'),
      writeSeconds: statementsBy('write'),
      ...databaseCoresIn(week),
    },
    pools: (['read', 'write'] as const).flatMap((target) => poolIn(recorded, target)),
    processes: processesIn(week),
    services: distributed(frames, 'outgoing_duration_seconds', ['service']).map(({ labels, value }) => ({
      service: labels.service!,
      calls: total(value),
      seconds: value.sum,
      p95Ms: 1_000 * (quantile(value, 0.95) ?? 0),
      failures: distributed(frames, 'outgoing_duration_seconds', ['service', 'outcome'])
        .filter((one) => one.labels.service === labels.service && one.labels.outcome !== 'ok')
        .reduce((sum, one) => sum + total(one.value), 0),
    })),
    queues: queuesIn(hours.filter(({ from }) => from >= until - dayMs)),
    cache: cacheIn(recorded),
    modules: modulesIn(recorded).map((module) => moduleFacts(module, recorded)),
    ...(usage?.monthly !== undefined && { monthlyUsers: usage.monthly }),
    ...judged,
    ...(prices && { prices }),
  }
}

/** Servers are looked at every ten minutes: in an hour without two looks at one process, what it used is not known. */
function databaseCoresIn(week: readonly Hour[]): { coresMost?: number } {
  const known = week.flatMap(({ cores }) => {
    const used = Object.entries(cores).flatMap(([name, used]) => (isDatabase(name) ? [used] : []))
    return used.length > 0 ? [used.reduce((sum, one) => sum + one, 0)] : []
  })
  return known.length > 0 ? { coresMost: Math.max(...known) } : {}
}

/** From a load test if there is one, otherwise calibrated by production; priors alone are no evidence. */
export function measuredOf(
  recorded: Recorded | undefined,
  { topology, cores, measured }: Pick<Setting, 'topology' | 'cores' | 'measured'>,
): Measured | undefined {
  if (measured) return measured
  const week = recorded?.hours.filter(({ from }) => from >= recorded.until - 7 * dayMs) ?? []
  const samples = week
    .filter(({ coveredMs }) => coveredMs >= coveredMsMin)
    .map(({ requests, p95Ms, coveredMs, cores }) => ({
      rate: requests / (coveredMs / 1_000),
      p95Ms,
      cores: Object.fromEntries(
        ['app', 'web', 'worker', 'postgres', 'replica', 'edge', 'balancer', 'pooler', 'redis']
          .map((part) => [part, coresOf(part, cores)] as const)
          .filter(([, used]) => used > 0),
      ),
    }))
  const work = routesIn(recorded)
  const requests = work.reduce((sum, one) => sum + one.requests, 0)
  return calibrated(samples, {
    ...{ counts: countsOf(topology), cores },
    ...(topology.placement.cpu !== undefined && { nodeCpu: topology.placement.cpu }),
    // Times stand for costs: only how much they differ from route to route counts.
    routes: work.map((one) => ({ share: one.requests / requests, cpuMs: (1_000 * one.seconds) / one.requests })),
  })
}

function forecastFrom(recorded: Recorded | undefined, setting: Setting) {
  const { topology, cores, spread, objective } = setting
  const usage = recorded?.usage
  const measured = measuredOf(recorded, setting)
  if (!measured) return undefined
  const question = {
    ...{ topology, cores, spread, objective, users: {}, ...(usage && { recorded: usage }) },
    ...{ peaks: recorded?.peaks ?? [], today: Math.floor((recorded?.until ?? 0) / dayMs) },
  }
  const forecast = forecastOf({ ...question, measured })
  if (forecast.ceiling.likely > 0) return { forecast }
  // What requests wait for in any case breaks the objective by itself. Whether CPUs are short is judged without it.
  return { forecast: forecastOf({ ...question, measured: { ...measured, steps: [] } }), leastP95Ms: forecast.p95Ms }
}

/** The rate that a step should carry, as a multiple of today's. */
const stepTimes = 2

/**
 * Returns the first of these topologies that carries twice the rate of today, and how many web processes that takes; nothing if none does on machines
 * with these cores. Pure.
 */
export function carrying(
  recorded: Recorded | undefined,
  setting: Setting,
  topologies: readonly Topology[],
): { topology: Topology; web: number } | undefined {
  const { cores, objective } = setting
  const usage = recorded?.usage
  const found = measuredOf(recorded, setting)
  if (!found || !usage?.rate) return undefined
  // No rung takes away what requests wait for in any case.
  const measured = { ...found, steps: [] }
  for (const topology of topologies) {
    const { times } = forecastOf({
      ...{ topology, cores, spread: topology.balancer.engine !== 'none', objective, measured },
      ...{ users: {}, recorded: usage, peaks: [], today: 0, times: stepTimes },
    })
    const needs = times?.needs ?? []
    const fits = needs.every(({ needs, unit }) => needs !== undefined && (unit !== 'cores' || needs <= cores))
    if (needs.length > 0 && fits) return { topology, web: needs.find(({ name }) => name === 'web')?.needs ?? 1 }
  }
  return undefined
}

function coresOf(part: string, cores: Hour['cores']): number {
  if (part === 'app') return cores.both ?? 0
  if (part !== 'replica') return cores[part] ?? 0
  return Object.entries(cores).reduce((sum, [name, used]) => sum + (/^postgres-\d+$/.test(name) ? used : 0), 0)
}

function routesIn(recorded: Recorded | undefined): RouteUse[] {
  return doneIn(recorded?.frames ?? [])
    .filter(({ module, count }) => module !== '(jobs)' && count > 0)
    .map(({ name, count, ...done }) => ({ route: name, requests: count, ...done }))
}

function poolIn(recorded: Recorded | undefined, target: PoolUse['target']): PoolUse[] {
  const frames = recorded?.frames ?? []
  const [waits] = distributed(frames, 'db_pool_wait_seconds', ['target']).filter(
    ({ labels }) => labels.target === target,
  )
  const max = gauged(frames, 'db_pool_connections', ['target', 'state']).find(
    ({ labels }) => labels.target === target && labels.state === 'max',
  )
  if (!waits || !max) return []
  const { value } = waits
  return [
    {
      ...{ target, max: max.value.max, waits: total(value), waitSeconds: value.sum },
      waitMs95: 1_000 * (quantile(value, 0.95) ?? 0),
    },
  ]
}

function processesIn(week: readonly Hour[]): ProcessUse[] {
  const found = new Map<string, { role: string; loopMost: number; memoryBytes: number[]; requests: number[] }>()
  for (const { nodes, requests } of week) {
    for (const { node, role, memoryBytes, loop } of nodes) {
      const known = found.get(node) ?? { role, loopMost: 0, memoryBytes: [], requests: [] }
      known.loopMost = Math.max(known.loopMost, loop)
      known.memoryBytes.push(memoryBytes)
      known.requests.push(requests)
      found.set(node, known)
    }
  }
  return [...found].map(([node, use]) => ({ node, ...use }))
}

function queuesIn(day: readonly Hour[]): QueueUse[] {
  const names = new Set(day.flatMap(({ queues }) => queues.map(({ queue }) => queue)))
  return [...names].map((queue) => {
    const own = day.map(({ queues }) => queues.find((one) => one.queue === queue))
    const sum = (of: 'done' | 'failed' | 'seconds') => own.reduce((all, one) => all + (one?.[of] ?? 0), 0)
    return {
      queue,
      waiting: own.map((one) => one?.waiting ?? 0),
      oldestSecondsMost: Math.max(...own.map((one) => one?.oldestSeconds ?? 0)),
      ...{ done: sum('done'), failed: sum('failed'), seconds: sum('seconds') },
    }
  })
}

const hitOutcomes = new Set(['memory', 'shared', 'grace', 'coalesced'])

function cacheIn(recorded: Recorded | undefined): Evidence['cache'] {
  const modules = new Map<string, { requests: number; hits: number }>()
  for (const { labels, value } of counted(recorded?.frames ?? [], 'cache_requests_total', ['module', 'outcome'])) {
    const module = labels.module ?? ''
    const known = modules.get(module) ?? { requests: 0, hits: 0 }
    const hits = hitOutcomes.has(labels.outcome ?? '') ? value : 0
    modules.set(module, { requests: known.requests + value, hits: known.hits + hits })
  }
  return [...modules].map(([module, use]) => ({ module, ...use }))
}
