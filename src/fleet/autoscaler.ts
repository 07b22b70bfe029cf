import { formatMs } from '../kernel/units.ts'
import type { Range } from '../topology/topology.ts'

/** What the autoscaler does with the processes of a role. */
export interface ScalingStatus extends Range {
  readonly reason: string
}

/**
 * Decides how many processes of a kind should run. Pure: it knows the time only from the look, and remembers only what it returns.
 *
 * - *Demand* is counted in processes. Each measure asks for `Σ measure / target` of them, as Kubernetes' HPA does
 *   (ratio of the measure to its target, times the number of processes); the largest counts. Within `tolerance` nothing changes.
 * - A process whose CPU is used up cannot show how much more there is to do. Then the demand is also `arrivals × CPU time of a
 *   request / target` (the utilisation law, U = X · S), with the CPU time learned before, and at least twice the processes.
 * - The *median of the last three* demands counts, so that one odd look changes nothing.
 * - The *forecast* is Holt's linear smoothing of the demand, one start of a new process ahead.
 * - *Fewer* only down to the largest number that any look of the last `cooldownMs` asked for, and never while a rise is forecast.
 * - *The floor* is the largest of the least number, that of the schedule, and a share of the peak of the last week. The share is
 *   that of the start of a process in a minute: processes that start at once follow a peak, others must wait for it.
 */
export interface ScalePolicy {
  readonly least: number
  readonly most: number
  /** Processes beyond the demand: they take what comes until new ones have started. */
  readonly spare: number
  /** Where each measure of one process should be. A measure without a target does not count. */
  readonly targets: Readonly<Partial<Record<Measure, number>>>
  /** Requests should be answered within this time at the 95th percentile. Above it there is one process more for each two. */
  readonly p95MsMax: number
  /** Requests should wait for a connection of their process at most this long at the 95th percentile; the same holds. */
  readonly queueMsMax: number
  /** HPA's: a demand of 0.9 to 1.1 times the present number changes nothing. */
  readonly tolerance: number
  /** A process counts when it has been ready for this long: before that it compiles, and the balancer spares it. */
  readonly settleMs: number
  /** HPA's stabilisation window. */
  readonly cooldownMs: number
  /** Returns the least number that a schedule asks for at this time. */
  scheduled?(now: number): number
}

/** `cpu`: share of what a process may use. `loop`: utilisation of its event loop. `inFlight`: requests being answered. */
export type Measure = 'cpu' | 'loop' | 'inFlight'

/** What was seen at one time. */
export interface ScaleLook {
  /** ms since the epoch. */
  readonly now: number
  /** All processes of this kind, also those that are starting. */
  readonly processes: readonly ProcessLook[]
  /** Of all requests since the last look. */
  readonly p95Ms?: number | undefined
  readonly queueMs?: number | undefined
  /** Requests that arrived, per second. */
  readonly arrivals?: number | undefined
  /** How long a new process takes from the decision until it answers. */
  readonly startMs: number
}

export interface ProcessLook {
  /** How long it has been ready; `undefined` while it is not. */
  readonly readyMs: number | undefined
  /** Missing when it could not be asked. */
  readonly measures?: Readonly<Partial<Record<Measure, number>>> | undefined
}

/** What a decision leaves for the next one. May be written as JSON. */
export interface ScaleMemory {
  readonly at: number
  readonly target: number
  /** The last three demands. */
  readonly demands: readonly number[]
  /** Holt's level, in processes, and trend, in processes per second. */
  readonly level: number
  readonly trend: number
  /** CPU time of a request, as a share of a process-second. */
  readonly cost: number | undefined
  /** The largest number asked for, by slots of a tenth of the cooldown. */
  readonly wanted: readonly Slot[]
  /** The largest demand of each hour of the last week. */
  readonly peaks: readonly Slot[]
}

interface Slot {
  readonly since: number
  readonly most: number
}

export interface ScaleDecision {
  readonly target: number
  /** A sentence for people. */
  readonly reason: string
  readonly memory: ScaleMemory
}

/** Of one process that answers requests. */
export const webPolicy = {
  spare: 1,
  targets: { cpu: 0.6, loop: 0.7, inFlight: 50 },
  p95MsMax: 500,
  queueMsMax: 100,
  tolerance: 0.1,
  settleMs: 3_000,
  cooldownMs: 300_000,
} as const satisfies Omit<ScalePolicy, 'least' | 'most'>

const hourMs = 3_600_000
const weekMs = 168 * hourMs
/** A start that takes this long must not be waited for at a peak: the floor is the whole peak. */
const slowStartMs = 60_000
const slotsOfCooldown = 10
/** From this CPU or event loop on, a process may have more to do than it shows. */
const saturated = 0.9
/** What is not in proportion to the load asks for at most this many times as many at once. */
const slowFactor = 1.5
const fullFactor = 2
/** More processes do not help requests that wait elsewhere: below this CPU, and event loop, nothing is slow because of the processes. */
const idle = 0.3
/** Holt: how long the level and the trend remember, in ms; the trend at least as long as a start, or its noise would be multiplied. */
const levelMs = 5_000
const trendMs = 30_000
/** A forecast is at most this many times the present demand. */
const forecastFactor = 1.5
/** A trend that adds less than this share until a new process has started is no rise. */
const riseShare = 0.05
const costMs = 60_000

const names: Readonly<Record<Measure, (value: number) => string>> = {
  cpu: (value) => `CPU is at ${percent(value)}`,
  loop: (value) => `the event loop is busy for ${percent(value)} of the time`,
  inFlight: (value) => `each process answers ${Math.round(value)} requests at a time`,
}

/** Decides from a look and what the last decision left. */
export function scaleByLoad(policy: ScalePolicy, last: ScaleMemory | undefined, look: ScaleLook): ScaleDecision {
  const { now, processes, startMs } = look
  const present = processes.length
  const demand = demandOf(policy, last, look)
  // After a long gap only what holds for long still counts.
  const before = last && now - last.at < policy.cooldownMs ? last : undefined
  if (demand === undefined) return withoutFigures(policy, last, look)

  const demands = [...(before?.demands ?? []), demand.processes].slice(-3)
  const asked = median(demands)
  const holt = smooth(before, asked, now, startMs)
  const ahead = Math.min(holt.level + (holt.trend * startMs) / 1000, forecastFactor * Math.max(asked, holt.level))
  const rises = ahead > Math.max(asked, holt.level) * (1 + riseShare)
  const peaks = slots(last?.peaks ?? [], now, Math.min(asked, demand.measured), hourMs, weekMs)
  const floor = floorOf(policy, peaks, look)

  const needed = Math.max(asked, rises ? ahead : 0)
  const byLoad = enough(needed, present - policy.spare, policy.tolerance) + policy.spare
  const wanted = clamp(byLoad, floor.processes, policy.most)
  const slot = policy.cooldownMs / slotsOfCooldown
  const memory = { at: now, demands, ...holt, cost: demand.cost, peaks }
  const recent = slots(before?.wanted ?? [{ since: now, most: present }], now, wanted, slot, policy.cooldownMs)
  const held = clamp(Math.max(...recent.map(({ most }) => most)), floor.processes, policy.most)

  const decided = (target: number, reason: string): ScaleDecision => ({
    target,
    reason,
    memory: { ...memory, target, wanted: recent },
  })
  if (wanted > present) {
    const full = byLoad > policy.most ? `; ${byLoad} would be needed` : ''
    if (byLoad < wanted) return decided(wanted, `${floor.reason}.`)
    const why = rises && ahead > asked ? `a rise is forecast within ${formatMs(startMs)}` : demand.reason
    return decided(wanted, `${wanted} instead of ${present}: ${why}${full}.`)
  }
  if (present > policy.most) return decided(policy.most, `${policy.most} are the most.`)
  if (byLoad > policy.most) return decided(present, `${present} are the most; ${byLoad} would be needed.`)
  if (held < present && rises) return decided(present, `${present}: fewer would do now, but a rise is forecast.`)
  if (held < present) {
    const floored = held === floor.processes && held > byLoad ? `; ${floor.reason}` : ''
    return decided(
      held,
      `${held} instead of ${present}: no more were needed for ${formatMs(policy.cooldownMs)}${floored}.`,
    )
  }
  if (wanted < present) {
    return decided(present, `${present}: ${wanted} would do, but not for ${formatMs(policy.cooldownMs)} yet.`)
  }
  return decided(present, wanted > byLoad ? `${floor.reason}.` : `${present} are enough: ${demand.reason}.`)
}

interface Demand {
  readonly processes: number
  /** Without what is only guessed while the processes have no time left. */
  readonly measured: number
  readonly reason: string
  readonly cost: number | undefined
}

function demandOf(policy: ScalePolicy, before: ScaleMemory | undefined, look: ScaleLook): Demand | undefined {
  const ready = look.processes.filter(({ readyMs }) => readyMs !== undefined)
  const settled = ready.filter(({ readyMs }) => readyMs! >= policy.settleMs)
  const known = settled.filter(({ measures }) => measures !== undefined)
  if (known.length === 0 || known.length * 2 < settled.length) return undefined
  // One that could not be asked counts as just busy enough: it asks neither for more nor for fewer.
  const unknown = settled.length - known.length
  const sum = (measure: Measure) => known.reduce((total, { measures }) => total + (measures![measure] ?? 0), 0)
  const mean = (measure: Measure) => sum(measure) / known.length

  const asking: { processes: number; reason: string }[] = (Object.keys(names) as Measure[]).flatMap((measure) => {
    const target = policy.targets[measure]
    if (target === undefined) return []
    // Requests that wait pile up, so their number is not in proportion to the load.
    const processes = Math.min(sum(measure) / target, measure === 'inFlight' ? fullFactor * known.length : Infinity)
    return [{ processes: processes + unknown, reason: names[measure](mean(measure)) }]
  })
  const measured = Math.max(...asking.map(({ processes }) => processes))
  const isIdle = mean('cpu') < idle && mean('loop') < idle
  const slow = (what: string, ms: number | undefined, msMax: number) => {
    if (ms === undefined || ms <= msMax || isIdle) return
    asking.push({ processes: settled.length * Math.min(slowFactor, ms / msMax), reason: `${what} ${formatMs(ms)}` })
  }
  slow('p95 is', look.p95Ms, policy.p95MsMax)
  slow('requests wait for a connection for', look.queueMs, policy.queueMsMax)

  const isFull = mean('cpu') > saturated || mean('loop') > saturated
  const cpuTarget = policy.targets.cpu
  if (isFull) {
    asking.push({ processes: fullFactor * settled.length, reason: 'the processes have no time left' })
    if (before?.cost !== undefined && look.arrivals !== undefined && cpuTarget !== undefined) {
      const processes = (look.arrivals * before.cost) / cpuTarget
      asking.push({ processes, reason: `${Math.round(look.arrivals)} requests arrive each second` })
    }
  }
  const [most] = asking.toSorted((a, b) => b.processes - a.processes)
  return {
    ...most!,
    measured,
    cost:
      isFull || settled.length < ready.length ? before?.cost : costOf(before, look, sum('cpu') + unknown * mean('cpu')),
  }
}

/** Learns the CPU time of a request while there is time left, and slowly: the mix of requests changes slowly. */
function costOf(before: ScaleMemory | undefined, { arrivals, now }: ScaleLook, cpu: number): number | undefined {
  if (arrivals === undefined || arrivals < 1 || cpu < idle / 2) return before?.cost
  const cost = cpu / arrivals
  return before?.cost === undefined ? cost : before.cost + weight(now - before.at, costMs) * (cost - before.cost)
}

function smooth(before: ScaleMemory | undefined, asked: number, now: number, startMs: number) {
  if (!before || now <= before.at) return { level: before?.level ?? asked, trend: before?.trend ?? 0 }
  const ms = now - before.at
  const expected = before.level + (before.trend * ms) / 1000
  const level = Math.max(0, expected + weight(ms, levelMs) * (asked - expected))
  const trend =
    before.trend + weight(ms, Math.max(trendMs, startMs)) * (((level - before.level) * 1000) / ms - before.trend)
  return { level, trend }
}

/** The weight of a new value, for exponential smoothing over uneven times. */
function weight(ms: number, memoryMs: number): number {
  return 1 - Math.exp(-ms / memoryMs)
}

function floorOf({ least, most, spare, scheduled }: ScalePolicy, peaks: readonly Slot[], { now, startMs }: ScaleLook) {
  const peak = Math.max(...peaks.map((slot) => slot.most))
  const share = Math.min(1, startMs / slowStartMs)
  const floors = [
    { processes: least, reason: `${least} are the least` },
    { processes: scheduled?.(now) ?? 0, reason: `the schedule asks for ${scheduled?.(now)}` },
    // A share of less than one process is no reason to keep a spare one for it.
    {
      processes: Math.floor(peak * share) + (share === 1 ? spare : 0),
      reason: `the peak of the last week needed ${count(peak)}`,
    },
  ]
  const [highest] = floors.toSorted((a, b) => b.processes - a.processes)
  return { ...highest!, processes: Math.min(highest!.processes, most) }
}

function withoutFigures(
  policy: ScalePolicy,
  before: ScaleMemory | undefined,
  { now, processes }: ScaleLook,
): ScaleDecision {
  const present = processes.length
  const least = Math.max(policy.least, policy.scheduled?.(now) ?? 0)
  const target = clamp(Math.max(before?.target ?? present, present), least, policy.most)
  const memory: ScaleMemory = before ?? {
    ...{ at: now, target, demands: [], level: present, trend: 0, cost: undefined },
    ...{ wanted: [], peaks: [] },
  }
  return { target, reason: `${target}, as before: there are no figures.`, memory: { ...memory, target } }
}

/** Adds a value to the largest values of periods of time. */
function slots(before: readonly Slot[], now: number, value: number, everyMs: number, keptMs: number): Slot[] {
  const kept = before.filter(({ since }) => since > now - keptMs)
  const last = kept.at(-1)
  if (last && now - last.since < everyMs) return [...kept.slice(0, -1), { ...last, most: Math.max(last.most, value) }]
  return [...kept, { since: now, most: value }]
}

/** Returns the number of processes for a demand; the present one, if that is nearly right. */
function enough(demand: number, present: number, tolerance: number): number {
  const isNear = present > 0 && Math.abs(demand / present - 1) <= tolerance
  return isNear ? present : Math.max(1, Math.ceil(demand - 1e-9))
}

/** What a decision on workers sees. */
export interface QueueLook {
  readonly now: number
  readonly workers: number
  /** How long the oldest job that could run has waited; `undefined` if nobody could be asked. */
  readonly oldestMs: number | undefined
}

export interface QueuePolicy {
  readonly least: number
  readonly most: number
  /** Jobs should wait at most this long. */
  readonly waitMsMax: number
  /** After a change so long passes before there are more, so that the new workers are seen at work. */
  readonly againMs: number
  /** Jobs must have waited for less than half of `waitMsMax` for this long before there is one worker fewer. */
  readonly cooldownMs: number
}

export interface QueueMemory {
  readonly changedAt: number
  /** Since when jobs have waited for less than half of what they may. */
  readonly calmSince: number | undefined
}

export const workerPolicy = {
  waitMsMax: 10_000,
  againMs: 10_000,
  cooldownMs: 300_000,
} as const satisfies Omit<QueuePolicy, 'least' | 'most'>

/** Decides on workers, by the age of the oldest job: in proportion to it, at most twice as many at a time. Pure. */
export function scaleByQueue(
  policy: QueuePolicy,
  before: QueueMemory | undefined,
  { now, workers, oldestMs }: QueueLook,
): { target: number; reason: string; memory: QueueMemory } {
  const { least, most, waitMsMax, againMs, cooldownMs } = policy
  const isCalm = oldestMs !== undefined && oldestMs < waitMsMax / 2
  const calmSince = isCalm ? (before?.calmSince ?? now) : undefined
  const memory = { changedAt: before?.changedAt ?? Number.NEGATIVE_INFINITY, calmSince }
  const stay = (reason: string) => ({ target: workers, reason: `${workers}: ${reason}.`, memory })
  const change = (target: number, reason: string) => ({
    target,
    reason: `${target} instead of ${workers}: ${reason}.`,
    memory: { changedAt: now, calmSince: undefined },
  })
  if (workers < least) return change(least, `${least} are the least`)
  if (workers > most) return change(most, `${most} are the most`)
  if (oldestMs === undefined) return stay('as before, there are no figures')
  const waits = `the oldest job has waited for ${formatMs(oldestMs)}`
  if (oldestMs > waitMsMax) {
    const target = clamp(Math.ceil(Math.max(1, workers) * Math.min(2, oldestMs / waitMsMax)), least, most)
    if (target <= workers) return stay(`${waits}, and these are the most`)
    return now - memory.changedAt < againMs ? stay(`${waits}; the last change must show first`) : change(target, waits)
  }
  if (calmSince !== undefined && now - calmSince >= cooldownMs && workers > Math.max(least, 0)) {
    return change(workers - 1, `no job waited for long in ${formatMs(cooldownMs)}`)
  }
  return stay(oldestMs > 0 ? waits : 'no job waits')
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted.length === 2 ? sorted[0]! : sorted[Math.floor(sorted.length / 2)]!
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value))
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

function count(demand: number): string {
  return String(Math.round(demand * 10) / 10)
}
