import { performance } from 'node:perf_hooks'
import { atMost, every, sleep, systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { type Random, seededRandom } from '../kernel/random.ts'
import { inThread } from '../kernel/threads.ts'
import { arrivals } from './arrivals.ts'
import { type Connections, openConnections } from './connections.ts'
import { createHistogram, type Histogram, type HistogramJson } from './histogram.ts'
import { limitedStatus, limitedText } from './limited.ts'
import { countersIn, createMeter, type Second, sharedCounters } from './live.ts'
import { checkScenario, type Journey, type Scenario } from './scenario.ts'
import { createVisitor, JourneyOver } from './visitor.ts'

export interface LoadResult {
  /** Journeys that began. */
  journeys: number
  /** From the first beginning to the last answer. */
  seconds: number
  /** By route. Latencies count from when a request was due, and include those of failures. */
  routes: ReadonlyMap<string, RouteResult>
  /** By journey: the sum of its requests' latencies, without the time to think. A journey fails once at most. */
  byJourney: ReadonlyMap<string, RouteResult>
  /** All routes together, and what failed in journeys beside their requests. */
  all: RouteResult
  timeline: readonly Second[]
  generator: Generator
}

export interface LoadOptions {
  /** Called after each second of the load. */
  onSecond?(second: Second): void
  /** When aborted, no further journey begins. Of `runLoad` alone. */
  over?: AbortSignal
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
  routes: Results
  byJourney: Results
  late: HistogramJson
  tooLate: number
  waited: number
  busy: number
}

type Results = [name: string, latency: HistogramJson, failures: Record<string, number>][]

/**
 * Runs a scenario in this thread, and returns when all its journeys are over.
 * @throws LOAD_INVALID, and LOAD_BOTTLENECK if the generator was too slow for the figures to mean anything
 */
export async function runLoad<Data>(scenario: Scenario<Data>, options: LoadOptions = {}): Promise<LoadResult> {
  const data = await setUp(scenario)
  return measured(1, options, async (memory) => [await runShare(scenario, data, 0, 1, memory, options.over)])
}

/**
 * Runs a scenario in several threads, each with its share of the journeys. The module's default export makes it of the input.
 * @throws LOAD_INVALID, LOAD_BOTTLENECK
 */
export async function runLoadInThreads(
  module: URL,
  input: unknown,
  threads = 1,
  options: LoadOptions = {},
): Promise<LoadResult> {
  const data = await setUp(await scenarioIn(module.href, input))
  const run = inThread<ThreadInput, Share>(new URL(import.meta.url), {
    timeout: '2h',
    threads,
    memoryMax: '1GiB',
  })
  return measured(threads, options, (memory) =>
    Promise.all(
      Array.from({ length: threads }, (_, index) => run({ module: module.href, input, data, index, threads, memory })),
    ),
  )
}

interface ThreadInput {
  module: string
  input: unknown
  data: unknown
  index: number
  threads: number
  memory: SharedArrayBuffer
}

/** What a thread does. */
export default async function runInThread(one: ThreadInput): Promise<Share> {
  return runShare(await scenarioIn(one.module, one.input), one.data, one.index, one.threads, one.memory)
}

async function scenarioIn(module: string, input: unknown): Promise<Scenario> {
  const { default: scenarioOf } = (await import(module)) as { default(input: unknown): Scenario | Promise<Scenario> }
  return scenarioOf(input)
}

/** @throws LOAD_INVALID */
async function setUp<Data>(scenario: Scenario<Data>): Promise<Data | undefined> {
  const url = checkScenario(scenario)
  if (!scenario.setup) return undefined
  const { seed = 1, timeoutMs = timeoutMsDefault } = scenario
  const connections = connectionsTo(url, 1)
  let isLimited = false
  const tally = {
    sent() {},
    answered(_route: string, _latencyMs: number, failure: string | undefined) {
      isLimited ||= failure === limitedStatus
    },
    failed() {},
  }
  const visitor = createVisitor({
    ...{ number: 0, random: seededRandom(seed), data: undefined, connections, host: url.host, timeoutMs },
    tally,
    dueAt: systemClock.ticks(),
  })
  try {
    return await scenario.setup(visitor)
  } catch (cause) {
    const why = isLimited ? limitedText : messageOf(cause)
    throw new RungError('LOAD_INVALID', `The setup of the scenario failed: ${why}`, { cause })
  } finally {
    connections.close()
  }
}

/** Runs a load, and looks each second at what its threads count. */
async function measured(
  threads: number,
  { onSecond = () => {} }: LoadOptions,
  run: (memory: SharedArrayBuffer) => Promise<readonly Share[]>,
): Promise<LoadResult> {
  const memory = sharedCounters(threads)
  const meter = createMeter(memory)
  const timeline: Second[] = []
  const startedAt = systemClock.ticks()
  let lookedAt = startedAt
  const endTimer = every(1_000, () => {
    const now = systemClock.ticks()
    const second = meter((now - startedAt) / 1_000, (now - lookedAt) / 1_000)
    lookedAt = now
    timeline.push(second)
    onSecond(second)
  })
  try {
    return resultOf(await run(memory), timeline)
  } finally {
    endTimer()
  }
}

const timeoutMsDefault = 10_000

function connectionsTo(url: URL, connectionsMax: number): Connections {
  return openConnections(url.hostname.replace(/^\[|\]$/g, ''), Number(url.port || 80), connectionsMax)
}

async function runShare<Data>(
  scenario: Scenario<Data>,
  data: Data | undefined,
  index: number,
  threads: number,
  memory: SharedArrayBuffer,
  over?: AbortSignal,
): Promise<Share> {
  const url = checkScenario(scenario)
  const { journeys, closed, seed = 1, timeoutMs = timeoutMsDefault } = scenario
  const { connectionsMax = 1_000, lateMsMax = 10 } = scenario
  const connections = connectionsTo(url, connectionsMax)
  const [routes, byJourney] = [new Map<string, RouteResult>(), new Map<string, RouteResult>()]
  const counters = countersIn(memory, index)
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
    let failure: string | undefined
    const tally = {
      sent: counters.sent,
      answered(route: string, latencyMs: number, kind: string | undefined) {
        failure ??= kind
        addResult(routes, route, latencyMs, kind)
        counters.answered(latencyMs, kind !== undefined)
      },
      failed(kind: string) {
        failure ??= kind
        addTo(failed, kind, 1)
      },
    }
    const visitor = createVisitor({
      ...{ number, random, data: data as Data, connections, host: url.host, timeoutMs, tally, dueAt },
    })
    const journey = choose(journeys, random)
    await journey.run(visitor).catch((error: unknown) => {
      if (!(error instanceof JourneyOver)) tally.failed(`error: ${error}`)
    })
    addResult(byJourney, journey.name, visitor.waitedMs(), failure)
  }

  const idleBefore = performance.eventLoopUtilization()
  const startedAt = systemClock.ticks()
  try {
    if (closed) await runClosed(closed, index, threads, run)
    else {
      const running = new Set<Promise<void>>()
      let number = -1
      for (const dueMs of dueTimes(scenario)) {
        number += 1
        if (number % threads !== index) continue
        const dueAt = startedAt + dueMs
        // Several that are due begin together: a timer costs a millisecond.
        while (systemClock.ticks() < dueAt && !over?.aborted)
          await sleep(Math.max(1, Math.floor(dueAt - systemClock.ticks())), over).catch(() => {})
        if (over?.aborted) break
        const one = run(number, dueAt).finally(() => running.delete(one))
        running.add(one)
      }
      // Thinking is bounded by the journeys themselves, and every request by its time limit.
      const lastedMs = systemClock.ticks() - startedAt
      await atMost(lastedMs + 10 * timeoutMs, Promise.all(running))
      if (running.size > 0) addTo(failed, 'unfinished', running.size)
    }
    const { utilization } = performance.eventLoopUtilization(idleBefore)
    return {
      journeys: count,
      seconds: (systemClock.ticks() - startedAt) / 1_000,
      failed,
      routes: plain(routes),
      byJourney: plain(byJourney),
      late: late.toJson(),
      tooLate,
      waited: connections.waited,
      busy: utilization,
    }
  } finally {
    connections.close()
  }
}

/** When journeys are due, in ms since the start. */
function dueTimes<Data>({ phases, trace, arrivals: kind, seed = 1 }: Scenario<Data>): Iterable<number> {
  return trace ?? arrivals(phases!, kind === 'even' ? undefined : seededRandom(seed))
}

function plain(results: ReadonlyMap<string, RouteResult>): Results {
  return Array.from(results, ([name, { latency, failures }]) => [name, latency.toJson(), failures])
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

function choose<Data>(journeys: readonly Journey<Data>[], random: Random): Journey<Data> {
  const all = journeys.reduce((sum, { weight = 1 }) => sum + weight, 0)
  let left = random() * all
  for (const journey of journeys) {
    left -= journey.weight ?? 1
    if (left < 0) return journey
  }
  return journeys.at(-1)!
}

function resultOf(shares: readonly Share[], timeline: readonly Second[]): LoadResult {
  const [routes, byJourney] = [new Map<string, RouteResult>(), new Map<string, RouteResult>()]
  const all: RouteResult = { latency: createHistogram(), failures: {} }
  const generator: Generator = { late: createHistogram(), tooLate: 0, waited: 0, busy: 0 }
  for (const share of shares) {
    for (const [into, results] of [
      [routes, share.routes],
      [byJourney, share.byJourney],
    ] as const)
      for (const [name, latency, failures] of results) {
        const one = resultIn(into, name)
        for (const sum of into === routes ? [one, all] : [one]) {
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
  // One pause of the machine makes one journey late, which says nothing of the others.
  if (generator.tooLate > Math.max(1, journeys / 100))
    throw new RungError(
      'LOAD_BOTTLENECK',
      `The generator began ${generator.tooLate} of ${journeys} journeys too late, so it measured itself. Use more threads, a lower rate, or a less busy machine.`,
      { facts: { lateMs99: generator.late.at(0.99), busy: generator.busy } },
    )
  const seconds = Math.max(...shares.map((share) => share.seconds))
  return { journeys, seconds, routes, byJourney, all, timeline, generator }
}

function addResult(into: Map<string, RouteResult>, name: string, latencyMs: number, failure: string | undefined): void {
  const result = resultIn(into, name)
  result.latency.add(latencyMs)
  if (failure !== undefined) addTo(result.failures, failure, 1)
}

function resultIn(results: Map<string, RouteResult>, name: string): RouteResult {
  let result = results.get(name)
  if (!result) {
    result = { latency: createHistogram(), failures: {} }
    results.set(name, result)
  }
  return result
}

function addTo(counts: Record<string, number>, kind: string, count: number): void {
  counts[kind] = (counts[kind] ?? 0) + count
}
