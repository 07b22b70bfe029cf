import { type ScaleLook, type ScaleMemory, type ScalePolicy, scaleByLoad } from '../../src/fleet/autoscaler.ts'

/**
 * A fleet on a virtual clock, for tests and benches of the autoscaler. Requests arrive as told, with seeded noise; they are spread
 * evenly over the ready processes, each of which does `perSecond` of them; what is too much waits in a queue, and what would wait for
 * longer than `waitMsMax` is refused.
 */
export interface Simulated {
  /** Requests per second at a time in s. */
  load(second: number): number
  seconds: number
  /** Time from the decision until a new process answers. */
  startMs: number
  /** Processes in the beginning. */
  first: number
  seed?: number
  /** Requests that one process can do in a second. */
  perSecond?: number
  /** Share of looks that have no figures, or those in which there are none. */
  missing?: number | ((second: number) => boolean)
  objectiveMs?: number
  scaler: Scaler
}

export interface Scaler {
  name: string
  /** Returns the number of processes that should run. Called every second. */
  look(look: ScaleLook): { target: number; reason: string }
}

export interface Outcome {
  /** For each second. */
  load: number[]
  processes: number[]
  p95Ms: number[]
  reasons: string[]
  /** Seconds in which requests were late or refused. */
  secondsOutside: number
  /** Changes of direction: more after fewer, or fewer after more. With the second of each. */
  reversals: number[]
  /** Processes × seconds. */
  cost: number
}

const stepMs = 100
const baseMs = 20
const waitMsMax = 2_000

/** mulberry32: the same numbers for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

export function simulate(options: Simulated): Outcome {
  const { load, seconds, startMs, first, seed = 1, perSecond = 100, objectiveMs = 500, missing = 0, scaler } = options
  const random = seeded(seed)
  const isMissing = typeof missing === 'number' ? () => random() < missing : missing
  let processes: { readyAt: number }[] = Array.from({ length: first }, () => ({ readyAt: -60_000 }))
  let waiting = 0
  let direction = 0
  const outcome: Outcome = {
    load: [],
    processes: [],
    p95Ms: [],
    reasons: [],
    secondsOutside: 0,
    reversals: [],
    cost: 0,
  }

  for (let second = 0; second < seconds; second++) {
    let arrived = 0
    let refused = 0
    let worst = 0
    const busyMs = new Map<object, number>()
    for (let at = second * 1000; at < (second + 1) * 1000; at += stepMs) {
      const ready = processes.filter(({ readyAt }) => readyAt <= at)
      const capacity = (ready.length * perSecond * stepMs) / 1000
      const noise = 1 + 0.3 * (random() + random() + random() - 1.5)
      const arriving = (load(at / 1000) * noise * stepMs) / 1000
      arrived += arriving
      waiting += arriving
      const done = Math.min(waiting, capacity)
      waiting -= done
      const room = (ready.length * perSecond * waitMsMax) / 1000
      refused += Math.max(0, waiting - room)
      waiting = Math.min(waiting, room)
      const share = capacity === 0 ? 1 : done / capacity
      for (const one of ready) busyMs.set(one, (busyMs.get(one) ?? 0) + share * stepMs)
      // A queue of one server (M/M/1), cut off where the backlog itself says more; 3 is the 95th percentile of an exponential time.
      const queueMs = ready.length === 0 ? waitMsMax : (waiting / (ready.length * perSecond)) * 1000
      worst = Math.max(worst, (3 * baseMs) / (1 - Math.min(0.9, share)) + queueMs)
    }
    if (worst > objectiveMs || refused > 0.5) outcome.secondsOutside += 1
    const now = (second + 1) * 1000
    const isGone = isMissing(second)
    const { target, reason } = scaler.look({
      now,
      startMs,
      arrivals: isGone ? undefined : arrived,
      p95Ms: isGone ? undefined : worst,
      processes: processes.map((one) => {
        const readyMs = one.readyAt <= now ? now - one.readyAt : undefined
        if (readyMs === undefined || isGone) return { readyMs }
        const busy = Math.min(1, (busyMs.get(one) ?? 0) / 1000)
        // It compiles what it runs for the first time.
        const cpu = Math.min(1, busy + (readyMs < 3_000 ? 0.5 : 0))
        const inFlight = (arrived / processes.length) * (worst / 3 / 1000)
        return { readyMs, measures: { cpu, loop: cpu, inFlight } }
      }),
    })
    if (target !== processes.length) {
      const to = Math.sign(target - processes.length)
      if (direction !== 0 && to !== direction) outcome.reversals.push(second)
      direction = to
      if (to < 0) processes = processes.toSorted((a, b) => a.readyAt - b.readyAt).slice(0, target)
      else while (processes.length < target) processes.push({ readyAt: now + startMs })
    }
    outcome.load.push(Math.round(arrived))
    outcome.processes.push(processes.length)
    outcome.p95Ms.push(Math.round(worst))
    outcome.reasons.push(reason)
    outcome.cost += processes.length
  }
  return outcome
}

export function autoscaler(policy: ScalePolicy): Scaler {
  let memory: ScaleMemory | undefined
  return {
    name: 'rung',
    look(look) {
      const decision = scaleByLoad(policy, memory, look)
      memory = decision.memory
      return decision
    },
  }
}

/** The plain rule: every 15 s one more above a CPU of 60 %, one fewer below 40 %; all processes count, missing figures are 0. */
export function plainRule({ least, most }: { least: number; most: number }): Scaler {
  let askedAt = Number.NEGATIVE_INFINITY
  return {
    name: 'CPU > 60 %',
    look({ now, processes }) {
      const target = processes.length
      if (now - askedAt < 15_000) return { target, reason: '' }
      askedAt = now
      const cpu = processes.reduce((sum, { measures }) => sum + (measures?.cpu ?? 0), 0) / processes.length
      const wanted = cpu > 0.6 ? target + 1 : cpu < 0.4 ? target - 1 : target
      return { target: Math.min(most, Math.max(least, wanted)), reason: `CPU ${Math.round(cpu * 100)} %` }
    },
  }
}

/** The most changes of direction within any `windowS` seconds. */
export function reversalsWithin(reversals: readonly number[], windowS: number): number {
  return Math.max(0, ...reversals.map((from) => reversals.filter((at) => at >= from && at < from + windowS).length))
}

/** Shapes of load, in requests per second. */
export const loads = {
  step: (from: number, to: number, at: number) => (second: number) => (second < at ? from : to),
  sawtooth: (low: number, high: number, periodS: number) => (second: number) =>
    low + ((high - low) * (second % periodS)) / periodS,
  diurnal: (low: number, high: number, periodS: number) => (second: number) =>
    low + ((high - low) * (1 - Math.cos((2 * Math.PI * second) / periodS))) / 2,
}
