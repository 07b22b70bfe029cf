import { performance } from 'node:perf_hooks'
import { atMost, sleep, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Random, seededRandom } from '../kernel/random.ts'
import { inThread } from '../kernel/threads.ts'
import { arrivals, secondsOf } from './arrivals.ts'
import { openConnections } from './connections.ts'
import { createHistogram, type Histogram, type HistogramJson } from './histogram.ts'
import { checkScenario, type Journey, type Scenario } from './scenario.ts'
import { createVisitor, JourneyOver } from './visitor.ts'

export interface LoadResult {
  /** Journeys that began. */
  journeys: number
  /** From the first beginning to the last answer. */
  seconds: number
  /** By route. Latencies count from when a request was due, and include those of failures. */
  routes: ReadonlyMap<string, RouteResult>
  /** All routes together, and what failed in journeys beside their requests. */
  all: RouteResult
  generator: Generator
}

export interface RouteResult {
  latency: Histogram
  /** By kind: a status, `timeout`, `refused`, `broken`, `malformed`; of journeys `check: …`, `error: …`, `unfinished`. */
  failures: Record<string, number>
}

/** What the generator says of itself. */
export interface Generator {
  /** How much later than due journeys began. */
  late: Histogram
  /** Journeys that began later than `lateMsMax`. */
  tooLate: number
  /** Requests that waited for a connection. */
  waited: number
  /** Share of the time in which the busiest thread was not idle. */
  busy: number
}

/** One thread's part, as plain data. */
interface Share {
  journeys: number
  seconds: number
  failed: Record<string, number>
  routes: [name: string, latency: HistogramJson, failures: Record<string, number>][]
  late: HistogramJson
  tooLate: number
  waited: number
  busy: number
}

/**
 * Runs a scenario in this thread, and returns when all its journeys are over.
 * @throws LOAD_INVALID, and LOAD_BOTTLENECK if the generator was too slow for the figures to mean anything
 */
export async function runLoad(scenario: Scenario): Promise<LoadResult> {
  return resultOf([await runShare(scenario, 0, 1)])
}

/**
 * Runs a scenario in several threads, each with its share of the journeys. The module's default export makes it of the input.
 * @throws LOAD_INVALID, LOAD_BOTTLENECK
 */
export async function runLoadInThreads(module: URL, input: unknown, threads = 1): Promise<LoadResult> {
  const run = inThread<ThreadInput, Share>(new URL(import.meta.url), {
    timeout: '2h',
    threads,
    memoryMax: '1GiB',
  })
  const shares = Array.from({ length: threads }, (_, index) => run({ module: module.href, input, index, threads }))
  return resultOf(await Promise.all(shares))
}

interface ThreadInput {
  module: string
  input: unknown
  index: number
  threads: number
}

/** What a thread does. */
export default async function runInThread({ module, input, index, threads }: ThreadInput): Promise<Share> {
  const { default: scenarioOf } = (await import(module)) as { default: (input: unknown) => Scenario }
  return runShare(scenarioOf(input), index, threads)
}

async function runShare(scenario: Scenario, index: number, threads: number): Promise<Share> {
  const url = checkScenario(scenario)
  const { journeys, phases, closed, seed = 1, timeoutMs = 10_000, connectionsMax = 1_000, lateMsMax = 10 } = scenario
  const connections = openConnections(url.hostname.replace(/^\[|\]$/g, ''), Number(url.port || 80), connectionsMax)
  const routes = new Map<string, RouteResult>()
  const tally = {
    answered(route: string, latencyMs: number, failure: string | undefined) {
      let result = routes.get(route)
      if (!result) {
        result = { latency: createHistogram(), failures: {} }
        routes.set(route, result)
      }
      result.latency.add(latencyMs)
      if (failure !== undefined) addTo(result.failures, failure, 1)
    },
    failed: (kind: string) => addTo(failed, kind, 1),
  }
  const failed: Record<string, number> = {}
  const late = createHistogram()
  let [count, tooLate] = [0, 0]

  async function run(number: number, dueAt: number): Promise<void> {
    count += 1
    // What one visitor does depends on the seed and its number alone, also with more threads.
    const random = seededRandom(seed + Math.imul(number + 1, 0x9e3779b1))
    const lateMs = systemClock.ticks() - dueAt
    late.add(lateMs)
    if (lateMs > lateMsMax) tooLate += 1
    const visitor = createVisitor({ number, random, connections, host: url.host, timeoutMs, tally, dueAt })
    const journey = choose(journeys, random)
    await journey.run(visitor).catch((error: unknown) => {
      if (!(error instanceof JourneyOver)) tally.failed(`error: ${error}`)
    })
  }

  const idleBefore = performance.eventLoopUtilization()
  const startedAt = systemClock.ticks()
  try {
    if (closed) await runClosed(closed, index, threads, run)
    else {
      const running = new Set<Promise<void>>()
      const random = scenario.arrivals === 'even' ? undefined : seededRandom(seed)
      let number = -1
      for (const dueMs of arrivals(phases!, random)) {
        number += 1
        if (number % threads !== index) continue
        const dueAt = startedAt + dueMs
        // Several that are due begin together: a timer costs a millisecond.
        while (systemClock.ticks() < dueAt) await sleep(Math.max(1, Math.floor(dueAt - systemClock.ticks())))
        const one = run(number, dueAt).finally(() => running.delete(one))
        running.add(one)
      }
      // Thinking is bounded by the journeys themselves, and every request by its time limit.
      await atMost(secondsOf(phases!) * 1_000 + 10 * timeoutMs, Promise.all(running))
      if (running.size > 0) addTo(failed, 'unfinished', running.size)
    }
    const { utilization } = performance.eventLoopUtilization(idleBefore)
    return {
      journeys: count,
      seconds: (systemClock.ticks() - startedAt) / 1_000,
      failed,
      routes: Array.from(routes, ([name, { latency, failures }]) => [name, latency.toJson(), failures]),
      late: late.toJson(),
      tooLate,
      waited: connections.waited,
      busy: utilization,
    }
  } finally {
    connections.close()
  }
}

async function runClosed(
  { visitors, journeys }: NonNullable<Scenario['closed']>,
  index: number,
  threads: number,
  run: (number: number, dueAt: number) => Promise<void>,
): Promise<void> {
  let next = index
  const each = Math.ceil(visitors / threads)
  await Promise.all(
    Array.from({ length: each }, async () => {
      for (let number = next; number < journeys; number = next) {
        next += threads
        await run(number, systemClock.ticks())
      }
    }),
  )
}

function choose(journeys: readonly Journey[], random: Random): Journey {
  const all = journeys.reduce((sum, { weight = 1 }) => sum + weight, 0)
  let left = random() * all
  for (const journey of journeys) {
    left -= journey.weight ?? 1
    if (left < 0) return journey
  }
  return journeys.at(-1)!
}

function resultOf(shares: readonly Share[]): LoadResult {
  const routes = new Map<string, RouteResult>()
  const all: RouteResult = { latency: createHistogram(), failures: {} }
  const generator: Generator = { late: createHistogram(), tooLate: 0, waited: 0, busy: 0 }
  for (const share of shares) {
    for (const [name, latency, failures] of share.routes) {
      const one = routes.get(name) ?? { latency: createHistogram(), failures: {} }
      routes.set(name, one)
      for (const sum of [one, all]) {
        sum.latency.merge(latency)
        for (const [kind, count] of Object.entries(failures)) addTo(sum.failures, kind, count)
      }
    }
    for (const [kind, count] of Object.entries(share.failed)) addTo(all.failures, kind, count)
    generator.late.merge(share.late)
    generator.tooLate += share.tooLate
    generator.waited += share.waited
    generator.busy = Math.max(generator.busy, share.busy)
  }
  const journeys = shares.reduce((sum, share) => sum + share.journeys, 0)
  if (generator.tooLate > journeys / 100)
    throw new RungError(
      'LOAD_BOTTLENECK',
      `The generator began ${generator.tooLate} of ${journeys} journeys too late, so it measured itself. Use more threads, a lower rate, or a less busy machine.`,
      { facts: { lateMs99: generator.late.at(0.99), busy: generator.busy } },
    )
  return { journeys, seconds: Math.max(...shares.map(({ seconds }) => seconds)), routes, all, generator }
}

function addTo(counts: Record<string, number>, kind: string, count: number): void {
  counts[kind] = (counts[kind] ?? 0) + count
}
