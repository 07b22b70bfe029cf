import { rungAfter, rungs } from '../topology/catalog.ts'
import type { RungName, Topology } from '../topology/topology.ts'
import { waitedFor } from './advise-efficiency.ts'
import type { Span } from './cost.ts'
import { type Evidence, hoursMin } from './evidence.ts'
import type { Draft } from './finding.ts'
import { freeEnough, type Pressure } from './pressure.ts'
import { dayText } from './trend.ts'
import { amount, countOf, percent, span } from './words.ts'

/** Days of work. No source: to try it on a copy, to move, to watch. A rung takes 30 to 60 days until it is done, but not of work alone. */
const work = {
  processes: { low: 0.1, high: 0.5 },
  machine: { low: 0.5, high: 1 },
  database: { low: 2, high: 5 },
  replica: { low: 0.5, high: 2 },
  rung: { low: 3, high: 8 },
} as const
const none: Span = { low: 0, high: 0 }
/** Reads of the time of all statements, for a replica to take them away. */
const readsMin = 0.5
/** Of the cores in use, for the database to have a machine of its own. */
const databaseOwnShare = 0.5

/**
 * What adds parts or costs money: one step for what is used up first, or the reason for none. Pure.
 * @param small what makes the app need less; if that is enough, it comes first
 */
export function capacitySteps(evidence: Evidence, pressure: Pressure, small: readonly Draft[]): Draft[] {
  if (!pressure.isDue) return [stay(evidence, pressure), ...replicaOfNoUse(evidence)]
  const isOfWorkers =
    bottleneckOf(evidence) === 'worker' && small.some(({ verdict, kind }) => verdict === 'now' && kind === 'processes')
  if (isOfWorkers) {
    const why = 'Workers are used up first, and one more of them is enough; it delays no request.'
    return [stay(evidence, { why, revisitWhen: `day >= ${dayText(evidence.today + 14)}` })]
  }
  const step = stepFor(evidence, pressure)
  const enough = enoughOf(evidence, small)
  if (!enough) return [step, ...replicaOfNoUse(evidence)]
  return [
    {
      ...step,
      verdict: 'not yet',
      what: `Do the ${enough.steps === 1 ? 'step' : `${enough.steps} steps`} above first. Not yet: ${step.what}`,
      rule: `${enough.steps === 1 ? 'It frees' : 'They free'} up to ${percent(enough.freed)} of what is used up first, and then ${percent(enough.free)} of the capacity is free, for no money.`,
      gain: 'The small steps already free this capacity.',
      revisitWhen: `day >= ${dayText(evidence.today + 14)}`,
      gainShare: 0,
    },
    ...replicaOfNoUse(evidence),
  ]
}

/** The answer is "not yet", as a decision that can be kept and looked at again. */
function stay(evidence: Evidence, { why, revisitWhen }: { why: string; revisitWhen: string }): Draft {
  const { forecast, topology, monthlyUsers, window, leastP95Ms } = evidence
  const first = bottleneckOf(evidence)
  const [waits] = waitedFor(evidence)
  const users =
    monthlyUsers === undefined
      ? ''
      : ` ${countOf(monthlyUsers, 'user')} came in 30 days; that decides nothing by itself.`
  return {
    kind: 'rung',
    verdict: 'not yet',
    what: `Stay at rung ${topology.rung}, as it is.`,
    seen: `${
      forecast?.headroom && window.hours >= hoursMin
        ? `The ceiling is ${span(forecast.ceiling)} requests/s, ${amount(forecast.users.rate!.likely)} came in the busiest hour of the last week; ${first} would be used up first.`
        : `${amount(window.requests)} requests in ${amount(window.hours)} hours of the last week.`
    }${users}${leastP95Ms === undefined ? '' : ` Without any queue the p95 would be ${amount(leastP95Ms)} ms. More capacity would not meet the objective.`}${waits ? ` Requests wait for "${waits.service}", which no rung helps.` : ''}`,
    rule: why,
    gain: 'No money, no days, and no further part that can fail.',
    cost: { money: none, days: none },
    change: 'Nothing.',
    undo: 'Nothing to undo.',
    revisitWhen,
    gainShare: 0,
  }
}

/** What is used up first in most of the simulations. */
function bottleneckOf({ forecast }: Evidence): string {
  return forecast?.stations.toSorted((a, b) => b.first - a.first)[0]?.name ?? 'nothing'
}

/** Whether what costs no money leaves enough free. */
function enoughOf(evidence: Evidence, small: readonly Draft[]) {
  const first = bottleneckOf(evidence)
  const databaseShare = shareOfDatabase(evidence)
  /** How much of the work of the first part is the database's. */
  const ofFirst =
    first === 'postgres' || first === 'replica' || first === 'pools' ? 1 : first === 'machine' ? databaseShare : 0
  const steps = small.filter(({ verdict, relief }) => verdict === 'now' && relief !== undefined)
  const left = steps.reduce((left, { relief }) => left * (1 - relief!.share * (relief!.of === 'all' ? 1 : ofFirst)), 1)
  const free = 1 - (1 - evidence.forecast!.headroom!.free.likely) * left
  return left < 1 && free >= freeEnough ? { steps: steps.length, freed: 1 - left, free } : undefined
}

function shareOfDatabase({ forecast, database }: Evidence): number {
  const rate = forecast?.users.rate?.likely ?? 0
  const all = forecast?.stations.find(({ name }) => name === 'machine')?.demandMs.likely
  const { coresMost } = database
  // What was not measured is no reason to give the database more.
  return all && rate > 0 && coresMost !== undefined ? Math.min(1, (1_000 * coresMost) / (all * rate)) : 0
}

const reads = ({ database: { readSeconds, writeSeconds } }: Evidence) =>
  readSeconds + writeSeconds > 0 ? readSeconds / (readSeconds + writeSeconds) : undefined

/** Where the database is busy with writes, more copies of it do not help: each of them does all the writes. */
function replicaOfNoUse(evidence: Evidence): Draft[] {
  const [share, { coresMost = 0 }] = [reads(evidence), evidence.database]
  const busy = coresMost / evidence.cores
  if (share === undefined || share >= readsMin || busy < 0.5) return []
  return [
    {
      kind: 'replica',
      verdict: 'not yet',
      what: 'No replica: writes are the load.',
      seen: `${percent(1 - share)} of the time of all statements is writes; Postgres used ${percent(busy)} of its cores in the busiest hour.`,
      rule: `A replica takes reads, and repeats all writes: below ${percent(readsMin)} of reads it frees little.`,
      gain: `At most ${percent(share)} of the time of statements.`,
      cost: { money: evidence.prices?.replica ?? null, days: work.replica },
      change: 'Nothing here.',
      undo: 'Nothing to undo.',
      revisitWhen: `read_share > ${readsMin}`,
      gainShare: 0,
    },
  ]
}

function stepFor(evidence: Evidence, pressure: Pressure): Draft {
  const { forecast, topology, prices, spread, cores } = evidence
  const first = bottleneckOf(evidence)
  const free = Math.max(0, forecast!.headroom!.free.likely)
  const common = {
    verdict: 'now' as const,
    seen: `The ceiling is ${span(forecast!.ceiling)} requests/s, ${amount(forecast!.users.rate!.likely)} came in the busiest hour of the last week; ${first} is used up first in ${percent(forecast!.stations.find(({ name }) => name === first)?.first ?? 0)} of 500 simulations.`,
    gainShare: 1 - free,
  }
  const { why } = pressure
  const readShare = reads(evidence)
  if (first === 'web' && topology.balancer.engine !== 'none') {
    const { least = topology.processes.web, most = topology.processes.web } = topology.scaling.web ?? {}
    const range = (most: number) => (topology.scaling.web ? `${least}..${most}` : String(most))
    return {
      ...common,
      kind: 'processes',
      what: 'Let one web process more run.',
      rule: `${why} Web processes are used up first, and behind a balancer one more is a command.`,
      gain: `${percent(1 / most)} more of what is used up first.`,
      cost: { money: none, days: work.processes },
      change: `rung scale web=${range(most + 1)}`,
      undo: `rung scale web=${range(most)}`,
    }
  }
  if (first === 'machine') {
    const ownShare = shareOfDatabase(evidence)
    const larger = prices?.larger
    const own = prices?.database
    const isOwn =
      ownShare >= databaseOwnShare && own !== undefined && (larger === undefined || own.high < larger.more.low)
    if (isOwn) return ownDatabase(common, why, ownShare, own)
    return {
      ...common,
      kind: 'machine',
      what: larger
        ? `Take a machine of ${larger.size.cores} cores and ${larger.size.memoryGb} GB.`
        : `Take a machine with more than ${cores === 1 ? 'one core' : `${cores} cores`}.`,
      rule: `${why} All parts share its cores, and none of them is full by itself: a larger machine first, since it adds no part.`,
      gain: larger ? `${amount(larger.size.cores / cores)} times the cores.` : 'More cores for all parts.',
      cost: { money: larger?.more ?? null, days: work.machine },
      change:
        'Resize it, with one restart; or restore a backup on the larger one and start there (docs/guides/backups.md).',
      undo: 'Resize it back, with one restart.',
    }
  }
  if (first === 'postgres' || first === 'replica') {
    if (spread && (first === 'replica' || (readShare !== undefined && readShare >= readsMin))) {
      const { replicas } = topology.data
      const isClimb = topology.balancer.engine === 'none'
      const then = isClimb ? rungs['100k'].data.replicas : replicas + 1
      return {
        ...common,
        kind: 'replica',
        what: isClimb ? 'Climb to rung 100k, for its replicas.' : 'Add a replica.',
        rule: `${why} The database is used up first, and ${percent(readShare ?? 1)} of the time of its statements is reads.`,
        gain: isClimb
          ? `${then} replicas take reads off the primary.`
          : `${then} replicas share the reads instead of ${replicas}.`,
        cost: isClimb
          ? { money: (prices?.rung?.rung === '100k' && prices.rung.more) || null, days: work.rung }
          : { money: prices?.replica ?? null, days: work.replica },
        ...(isClimb
          ? changeToRung(topology, '100k')
          : { change: `rung scale replicas=${then}`, undo: `rung scale replicas=${replicas}` }),
      }
    }
    if (!spread && prices?.database) return ownDatabase(common, why, shareOfDatabase(evidence), prices.database)
    return {
      ...common,
      kind: 'machine',
      what: 'Take a larger machine for the primary.',
      rule: `${why} The primary is used up first, and what it does is writes, which no copy takes away.`,
      gain: 'More cores for the primary.',
      cost: { money: prices?.larger?.more ?? null, days: work.database },
      change:
        'Resize its machine, with one restart. A Postgres that runs elsewhere: make a replica on a larger machine, let it take over, and remove the former primary.',
      undo: 'Resize it back, or let a smaller replica take over.',
    }
  }
  if (first === 'pools') {
    const { readConnectionsMax } = topology.data
    return {
      ...common,
      kind: 'pool',
      what: 'Raise the pools.',
      rule: `${why} Connections are used up before cores; how long one is held is a prior, so watch the waits.`,
      gain: 'Requests that wait for a connection do not.',
      cost: { money: none, days: work.processes },
      change: `RUNG_POOL_READ=${2 * readConnectionsMax}, then restart`,
      undo: `RUNG_POOL_READ=${readConnectionsMax}`,
    }
  }
  if (first === 'worker') {
    const { worker } = topology.processes
    return {
      ...common,
      kind: 'processes',
      what: 'Start one worker more.',
      rule: `${why} Workers are used up first.`,
      gain: `${percent(1 / worker)} more jobs.`,
      cost: { money: prices?.worker ?? null, days: work.processes },
      change: `rung scale worker=${worker + 1}`,
      undo: `rung scale worker=${worker}`,
    }
  }
  return nextRung(common, evidence, why, first)
}

/** One thread is full: more of it needs a rung, or more of its processes where nginx spreads requests over them. */
function nextRung(common: Common, { topology, prices }: Evidence, why: string, first: string): Draft {
  const above = rungAfter(topology.rung)
  if (above === undefined) {
    return {
      ...common,
      kind: 'machine',
      what: `Give ${first} a machine with faster cores.`,
      rule: `${why} ${first} runs on one thread: it can use no further core.`,
      gain: 'As much as the cores are faster.',
      cost: { money: null, days: work.machine },
      change: 'Move it; see docs/guides/climb.md.',
      undo: 'Move it back.',
    }
  }
  const next = prices?.rung ?? { rung: above, more: undefined, web: undefined }
  const isClimb = next.rung !== topology.rung
  const { change, undo } = changeToRung(topology, next.rung, next.web)
  const with_ = next.web === undefined ? '' : ` with ${next.web} web processes`
  return {
    ...common,
    kind: isClimb ? 'rung' : 'processes',
    what: `${isClimb ? `Climb to rung ${next.rung}` : `Run rung ${next.rung}`}${with_}.`,
    rule: `${why} ${first} runs on one thread: it can use no further core, so more of it needs ${isClimb ? 'a rung' : 'another process'}.`,
    gain: prices?.rung
      ? 'Twice the rate of today is carried there.'
      : `What is used up first at ${topology.rung} is spread there.`,
    cost: { money: next.more ?? null, days: isClimb ? work.rung : work.processes },
    change: `${change}; the same code. First "rung doctor" and "rung test --nodes 2": what one process keeps, a second one misses.`,
    undo,
  }
}

/** Brings a running fleet to another rung and back. Without a balancer the number of its web processes is that of a start. */
export function changeToRung(from: Topology, to: RungName, web?: number): Pick<Draft, 'change' | 'undo'> {
  const usual = rungs[to]
  const climb = { change: `rung climb ${to}`, undo: 'rung climb --undo' }
  if (to !== from.rung && (web === undefined || web === usual.processes.web)) return climb
  if (usual.balancer.engine !== 'none') return { ...climb, change: `${climb.change}, then rung scale web=${web}` }
  return {
    change: `rung stop && rung up ${to} --web ${web}`,
    undo: `rung stop && rung up ${from.rung}${to === from.rung ? ` --web ${from.processes.web}` : ''}`,
  }
}

type Common = Pick<Draft, 'verdict' | 'seen' | 'gainShare'>

function ownDatabase(common: Common, why: string, share: number, money: Span): Draft {
  return {
    ...common,
    kind: 'database',
    what: 'Give Postgres a machine of its own, or buy it as a service.',
    rule: `${why} ${percent(share)} of the cores in use are those of Postgres, and the app is not what fills the machine.`,
    gain: `${percent(share)} of the machine for the app, and as much for Postgres as its own machine has.`,
    cost: { money, days: work.database },
    change: 'Stop, restore a backup there (docs/guides/backups.md), set DATABASE_URL=postgres://…, and start.',
    undo: 'The same in the other direction, without DATABASE_URL.',
  }
}
