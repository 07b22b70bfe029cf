import { rungAfter } from '../topology/catalog.ts'
import {
  type Diagnosis,
  type Evidence,
  growthOf,
  hoursMin,
  type PoolUse,
  type QueueUse,
  type RouteUse,
  type ServiceUse,
} from './evidence.ts'
import type { Draft } from './finding.ts'
import type { Pressure } from './pressure.ts'
import { dayText } from './trend.ts'
import { amount, percent } from './words.ts'

/** A statement that takes so long is slow: the limit of the log of slow statements. */
const slowMs = 100
/** Of the time of all statements, or of all requests. */
const muchShare = 0.25
const free = { low: 0, high: 0 }
/** Days of work. No source: what such changes take a person who knows the app, with tests and a deploy. */
const work = {
  index: { low: 0.25, high: 0.5 },
  query: { low: 0.5, high: 2 },
  route: { low: 0.5, high: 1 },
  pool: { low: 0.1, high: 0.25 },
  queue: { low: 0.25, high: 1 },
  service: { low: 1, high: 3 },
  memory: { low: 1, high: 3 },
} as const

/** What makes the app need less, without a further part. Pure. */
export function efficiencySteps(evidence: Evidence, pressure: Pressure): Draft[] {
  return [
    ...evidence.doctor.filter(isIndex).map(indexStep),
    ...queries(evidence),
    ...evidence.pools.flatMap((pool) => poolStep(pool, evidence)),
    ...services(evidence),
    ...memory(evidence),
    ...evidence.queues.flatMap((queue) => queueStep(queue, evidence)),
    ...routes(evidence, pressure),
    ...evidence.doctor.filter(isOther).map(doctorStep),
  ]
}

const isIndex = ({ kind }: Diagnosis) => kind === 'missing-index' || kind === 'missing-foreign-key-index'
const isQuery = ({ kind }: Diagnosis) => kind === 'n-plus-one' || kind === 'slow-statement'
const isOther = (one: Diagnosis) => one.severity === 'act' && !isIndex(one) && !isQuery(one)

const number = (value: unknown) => (typeof value === 'number' ? value : undefined)

function indexStep(found: Diagnosis): Draft {
  const { costBefore, costAfter, timeShare, calls, meanMs } = found.evidence
  const better = number(costBefore) && number(costAfter) ? 1 - number(costAfter)! / number(costBefore)! : 0
  const share = (number(timeShare) ?? 0) * better
  return {
    kind: 'index',
    verdict: 'now',
    what: found.what,
    seen: `${number(calls) === undefined ? 'The database was examined today' : `${amount(number(calls)!)} runs, ${amount(number(meanMs) ?? 0)} ms on average, ${percent(number(timeShare) ?? 0)} of the time of all statements, since its counters began`}.`,
    rule: 'An index is advised only after it was tried and the planner used it at a third of the cost or less.',
    gain: found.gain,
    cost: { money: free, days: work.index },
    change: found.migration === undefined ? found.sql : `${found.sql}\n-- in ${found.migration}`,
    undo: found.undo,
    gainShare: Math.max(share, 0.01),
    ...(share > 0 && { relief: { of: 'database', share } }),
  }
}

function queries({ doctor, statements, database, window }: Evidence): Draft[] {
  const all = database.readSeconds + database.writeSeconds
  // The record keeps the beginning of a statement.
  const useOf = (statement = '') => statements.find(({ text }) => plain(statement).startsWith(plain(text)))
  const shareOf = (statement?: string) => {
    const use = useOf(statement)
    return use && all > 0 ? Math.min(1, use.seconds / all) : undefined
  }
  /** One that is quick most of the time had to wait: rung doctor tells of it, and it is no reason to write it anew. */
  const isSlow = ({ statement, evidence }: Diagnosis) => {
    const use = useOf(statement)
    return (number(evidence.meanMs) ?? (use ? (1_000 * use.seconds) / use.calls : 0)) >= slowMs
  }
  const indexed = new Set(doctor.filter(isIndex).map(({ statement }) => statement && plain(statement)))
  const told = doctor.filter(
    (one) =>
      isQuery(one) && (one.kind === 'n-plus-one' || isSlow(one)) && !indexed.has(one.statement && plain(one.statement)),
  )
  const known = new Set(doctor.map(({ statement }) => statement && plain(statement)))
  const slow = statements.filter(
    ({ text, calls, seconds }) =>
      (1_000 * seconds) / calls >= slowMs &&
      seconds >= muchShare * all &&
      ![...known].some((one) => one?.startsWith(plain(text))),
  )
  return [
    ...told.map((one): Draft => {
      const isNPlusOne = one.kind === 'n-plus-one'
      const share = shareOf(one.statement) ?? number(one.evidence.timeShare) ?? 0.02
      // Ten round trips or more become one.
      const relief = isNPlusOne ? 0.9 * share : 0.5 * share
      return {
        kind: 'query',
        verdict: 'now',
        what: one.what,
        seen: `${figuresIn(one)}.${one.statement === undefined ? '' : ` The statement: ${cut(plain(one.statement))}`}`,
        rule: isNPlusOne
          ? 'A unit of work that runs one statement ten times or more asks once for each row.'
          : `A statement is slow from ${slowMs} ms on, and no index that was tried helps it.`,
        gain: one.gain,
        cost: { money: free, days: work.query },
        change: one.sql,
        undo: one.undo,
        gainShare: relief,
        relief: { of: 'database', share: relief },
      }
    }),
    ...slow.map(({ text, calls, seconds }): Draft => {
      const share = seconds / all
      return {
        kind: 'query',
        verdict: 'now',
        what: `One statement takes ${percent(share)} of the time of all: ${text}`,
        seen: `${amount(calls)} runs, ${amount((1_000 * seconds) / calls)} ms on average, in ${amount(window.hours)} hours of the last week.`,
        rule: `A statement of ${slowMs} ms or more with a quarter of the time of all is worth more than any machine.`,
        gain: `Up to ${percent(share)} of the time of all statements.`,
        cost: { money: free, days: work.query },
        change: `explain (analyze, buffers) ${text}; then ask for fewer rows, keep a sum, or take it off the request.`,
        undo: 'Revert the commit.',
        gainShare: share / 2,
        relief: { of: 'database', share: share / 2 },
      }
    }),
  ]
}

const figuresIn = ({ evidence }: Diagnosis) =>
  Object.entries(evidence)
    .map(([name, value]) => `${name} ${typeof value === 'number' ? amount(value) : value}`)
    .join(', ')
const cut = (text: string) => (text.length <= 200 ? text : `${text.slice(0, 199)}…`)
const plain = (text: string) => text.replace(/\s+/g, ' ').trim()

/** Waiting is much from here on: of the time of the statements that waited, and in ms for one in twenty. */
const waitShare = 0.1
const waitMs = 5
const waitsMin = 1_000
/** A database that is so busy answers nothing sooner through more connections. */
const databaseBusy = 0.8

/** Connections of a pool where nothing is set. */
const poolDefault = 10

function poolStep(pool: PoolUse, { database, cores, window, topology }: Evidence): Draft[] {
  const seconds = pool.target === 'read' ? database.readSeconds : database.writeSeconds
  const share = pool.waitSeconds / (pool.waitSeconds + seconds)
  if (pool.waits < waitsMin || !(share >= waitShare) || pool.waitMs95 < waitMs) return []
  // Whether more connections help depends on what Postgres has to spare. Where that is not known, only a pool below the default is too small.
  const { coresMost } = database
  if (coresMost === undefined && pool.max >= poolDefault) return []
  // A load test of some minutes fills a pool that users never fill, and what Postgres used in a few minutes says nothing of its busiest hour.
  const isEarly = window.hours < hoursMin
  const isBusy = coresMost !== undefined && coresMost / cores >= databaseBusy
  const isDue = !isBusy && !isEarly
  const variable = pool.target === 'read' ? 'RUNG_POOL_READ' : 'RUNG_POOL_WRITE'
  const more = pool.max < poolDefault ? poolDefault : 2 * pool.max
  const processes = topology.processes.both + topology.processes.web + topology.processes.worker
  return [
    {
      kind: 'pool',
      verdict: isDue ? 'now' : 'not yet',
      what: isBusy
        ? `Leave the ${pool.target} pool at ${pool.max} connections: Postgres itself is full.`
        : isEarly
          ? `Measure first: the ${pool.target} pool may be too small, and less than a day is recorded.`
          : `Raise the ${pool.target} pool of each process from ${pool.max} to ${more} connections.`,
      seen: `Statements waited ${percent(share)} of their time for a connection, one in twenty for ${amount(pool.waitMs95)} ms or more; ${coresMost === undefined ? 'what Postgres used is not known here' : `Postgres used ${amount(coresMost)} of ${amount(cores)} cores in the busiest hour`}; ${amount(window.hours)} hours of the last week.`,
      rule: `A pool is too small where a tenth of the time is spent waiting for it while Postgres has cores to spare (less than ${percent(databaseBusy)} used).`,
      gain: isBusy
        ? 'None: requests would wait in Postgres instead.'
        : `Up to ${percent(share)} of the time of these statements.`,
      cost: { money: free, days: work.pool },
      change: isBusy
        ? 'Nothing here; relieve Postgres first.'
        : `${variable}=${more}, then restart. Postgres of Rung allows for it by itself; another one needs max_connections for ${processes} × ${more} of this pool.`,
      undo: `${variable}=${pool.max}`,
      ...(isBusy && { revisitWhen: `database_share < ${databaseBusy}` }),
      ...(isEarly && { revisitWhen: `hours_recorded >= ${hoursMin}` }),
      gainShare: isDue ? share : 0,
    },
  ]
}

/** Of the time of all requests. */
const serviceShare = 0.4

/**
 * Services that requests wait for. Calls by jobs count among those of a service: where they took longer than all requests, they are not of requests.
 */
export function waitedFor({ services, routes }: Pick<Evidence, 'services' | 'routes'>): ServiceUse[] {
  const all = routes.reduce((sum, { seconds }) => sum + seconds, 0)
  return services.filter(({ seconds }) => all > 0 && seconds >= serviceShare * all && seconds <= 1.05 * all)
}

function services(evidence: Evidence): Draft[] {
  const { routes, window } = evidence
  const all = routes.reduce((sum, { seconds }) => sum + seconds, 0)
  return waitedFor(evidence).map(({ service, calls, seconds, p95Ms, failures }): Draft => {
    const share = Math.min(1, seconds / all)
    return {
      kind: 'service',
      verdict: 'now',
      what: `Wait less for "${service}": no rung makes another service faster.`,
      seen: `${amount(calls)} calls in ${amount(window.hours)} hours of the last week took as long as ${percent(share)} of all requests, the p95 ${amount(p95Ms)} ms; ${percent(failures / Math.max(1, calls))} failed.`,
      rule: `Where ${percent(serviceShare)} of the time is spent waiting for a service, CPUs, replicas and processes are not what is missing.`,
      gain: `Up to ${percent(share)} of the time of requests.`,
      cost: { money: free, days: work.service },
      change:
        'Call it in a job and answer before it (tx.enqueue), keep its answers in the cache, or give it a shorter time limit and something to show without it.',
      undo: 'Revert the commit.',
      gainShare: share,
    }
  })
}

/** The memory of the cache has a limit of half of that by default, and grows to it. */
const leak = { hoursMin: 12, fit: 0.9, grownBytes: 64 * 1024 ** 2 }

function memory({ processes }: Evidence): Draft[] {
  return processes.flatMap(({ node, role, memoryBytes, requests }): Draft[] => {
    const growth = growthOf(memoryBytes)
    if (!growth || memoryBytes.length < leak.hoursMin || growth.fit < leak.fit) return []
    const [first, last] = [memoryBytes[0]!, memoryBytes.at(-1)!]
    if (last - first < leak.grownBytes) return []
    // More requests at the same time need more memory; they are no leak.
    const load = growthOf(requests)
    const mean = requests.reduce((sum, one) => sum + one, 0) / requests.length
    if (load && load.fit >= leak.fit && load.perHour * requests.length > 0.2 * mean) return []
    const mb = (bytes: number) => amount(bytes / 1024 ** 2)
    return [
      {
        kind: 'memory',
        verdict: 'now',
        what: `Find what the ${role} process keeps: its memory only grows. A larger machine would postpone the end, not prevent it.`,
        seen: `${node} grew from ${mb(first)} to ${mb(last)} MB in ${memoryBytes.length} hours, ${mb(24 * growth.perHour)} MB a day, while requests did not.`,
        rule: `Memory that rises on a line (${percent(growth.fit)} of its scatter) for ${leak.hoursMin} hours or more, and requests that do not, is a leak.`,
        gain: 'The process does not end for lack of memory.',
        cost: { money: free, days: work.memory },
        change:
          'Start it with node --heapsnapshot-signal=SIGUSR2, take two snapshots an hour apart, and compare them. "rung doctor" lists variables that requests change.',
        undo: 'Revert the commit.',
        gainShare: 0.3,
      },
    ]
  })
}

const backlog = { grownMin: 100, oldestSeconds: 300, fit: 0.8 }
const loopBusy = 0.7
const failedShare = 0.2

/** Which queue cannot keep up, and whether more workers would help. */
function queueStep(queue: QueueUse, evidence: Evidence): Draft[] {
  const { waiting, oldestSecondsMost, done, failed, seconds } = queue
  const [first, last] = [waiting[0] ?? 0, waiting.at(-1) ?? 0]
  const growth = growthOf(waiting)
  const grows = growth !== undefined && growth.fit >= backlog.fit && last - first >= backlog.grownMin
  if (!grows || oldestSecondsMost < backlog.oldestSeconds) return []
  const runs = done + failed
  const workers = evidence.processes.filter(({ role }) => role === 'worker' || role === 'both')
  const loop = Math.max(0, ...workers.map(({ loopMost }) => loopMost))
  const slow = evidence.services.toSorted((a, b) => b.seconds - a.seconds)[0]
  const seen = `${amount(first)} jobs of "${queue.queue}" waited a day ago and ${amount(last)} wait now, the oldest for ${amount(oldestSecondsMost)} s; ${amount(runs)} ran, ${percent(failed / Math.max(1, runs))} failed; workers were busy for ${percent(loop)} of the busiest hour.`
  const common = {
    seen,
    cost: { money: free, days: work.queue },
    undo: 'Take the change back; jobs that wait are kept.',
    gainShare: 0.3,
  }
  if (failed >= failedShare * runs) {
    return [
      {
        ...common,
        kind: 'queue',
        verdict: 'now',
        what: `Mend the jobs of "${queue.queue}" that fail: they run again and keep others waiting.`,
        rule: `Where ${percent(failedShare)} of the runs fail, more workers fail more often.`,
        gain: 'The queue keeps up again.',
        change: 'rung errors; rung jobs list --state dead',
      },
    ]
  }
  if (loop >= loopBusy) {
    const { rung, processes } = evidence.topology
    const above = processes.both > 0 ? rungAfter(rung) : undefined
    return [
      {
        ...common,
        kind: 'processes',
        verdict: 'now',
        what: 'Start one worker more.',
        rule: `Jobs arrive faster than they run, and workers have no time left (${percent(loopBusy)} or more busy).`,
        gain: `${amount(runs / Math.max(1, workers.length))} jobs a day more.`,
        cost: { money: evidence.prices?.worker ?? null, days: work.queue },
        change:
          above === undefined
            ? `rung scale worker=${processes.worker + 1}`
            : `rung climb ${above}, which has a worker of its own`,
        undo: above === undefined ? `rung scale worker=${processes.worker}` : 'rung climb --undo',
      },
    ]
  }
  const waits = slow !== undefined && slow.seconds >= 0.5 * seconds
  return [
    {
      ...common,
      kind: 'queue',
      verdict: waits ? 'not yet' : 'now',
      what: waits
        ? `No more workers: the jobs of "${queue.queue}" wait for "${slow.service}".`
        : `Let more jobs of "${queue.queue}" run at a time.`,
      rule: waits
        ? 'Workers that wait for another service are not short of CPU; more of them send it more calls.'
        : 'Jobs wait while workers have time: the limit of the queue is what holds them.',
      gain: waits ? 'None.' : 'The queue keeps up without a further process.',
      change: waits
        ? `Ask who runs "${slow.service}" how many calls at a time it takes, then set the concurrency of the queue to that.`
        : 'Raise `concurrency` of the job in its module.',
      gainShare: waits ? 0 : 0.3,
      ...(waits && { revisitWhen: `day >= ${dayText(evidence.today + 14)}` }),
    },
  ]
}

const ttlSeconds = 10
const routeShare = 0.2
const cachedShare = 0.1

/** CPU ms of the app for an answer that it has kept. Source: bench/results/conduit.json, cached routes: 0.04 to 0.05 ms, doubled for slower machines. */
const keptAnswerMs = 0.1

/** CPU ms of one request to a route: by its share of the time, of what the app uses for all; without a forecast its whole time, which is more. */
function cpuMsOf({ requests, seconds }: RouteUse, share: number, { forecast, routes }: Evidence): number {
  const demand = forecast?.stations.find(({ name }) => name === 'app' || name === 'web')?.demandMs.likely
  const all = routes.reduce((sum, one) => sum + one.requests, 0)
  return demand === undefined ? (1_000 * seconds) / requests : (demand * share * all) / requests
}

/** GET routes that take much of the time and are not kept by any cache. */
function routes(evidence: Evidence, pressure: Pressure): Draft[] {
  const { routes, window, cache, forecast } = evidence
  if (window.hours < 1) return []
  const all = routes.reduce((sum, { seconds }) => sum + seconds, 0)
  const limitMs = forecast?.objective.p95Ms ?? 200
  const isUncached = ({ module, requests }: RouteUse) => {
    const own = cache.filter((one) => one.module === module).reduce((sum, one) => sum + one.requests, 0)
    return own < cachedShare * requests
  }
  return routes
    .filter((one) => one.route.startsWith('GET ') && one.seconds >= routeShare * all && isUncached(one))
    .flatMap((one): Draft[] => {
      const perSecond = one.requests / (3_600 * window.hours)
      const kept = 1 - 1 / (perSecond * ttlSeconds)
      if (!(kept > 0.5)) return []
      const share = one.seconds / all
      const isOne = !one.route.includes(':')
      const isSlow = one.p95Ms > limitMs
      const isNow = (pressure.isDue || isSlow) && window.hours >= hoursMin
      const frees = kept * share * (1 - Math.min(1, keptAnswerMs / cpuMsOf(one, share, evidence)))
      return [
        {
          kind: 'route',
          verdict: isNow ? 'now' : 'not yet',
          what: isNow ? `Keep the answer of ${one.route} for ${ttlSeconds} seconds.` : `No cache for ${one.route} yet.`,
          seen: `${amount(one.requests)} requests in ${amount(window.hours)} hours of the last week (${amount(perSecond)}/s), ${percent(share)} of the time of all, p95 ${amount(one.p95Ms)} ms; its module has ${percent(cachedShare)} or less of them from a cache.`,
          rule: isNow
            ? `${isSlow ? `Its p95 is above ${amount(limitMs)} ms` : pressure.why.replace(/\.$/, '')}; ${amount(perSecond * ttlSeconds)} requests in ${ttlSeconds} seconds need one answer.`
            : `${pressure.why} A cache is one more thing that can be wrong; how many users there are says nothing of it.`,
          gain: isOne
            ? `${percent(kept)} of its requests, so ${percent(frees)} of the time of all.`
            : `Up to ${percent(frees)} of the time of all, if few of its addresses are asked again and again; how many different ones there are is not recorded.`,
          cost: { money: free, days: work.route },
          change: `In the module: http.get('${one.route.slice(4)}', { config: { cache: { ttl: '${ttlSeconds}s', tags: ['…'] } } }, …), and tx.invalidate(['…']) where it changes. Not if its answer depends on who asks.`,
          undo: 'Remove `config.cache`.',
          ...(!isNow && !pressure.isDue && { revisitWhen: pressure.revisitWhen }),
          gainShare: isOne ? frees : frees / 4,
          ...(isNow && isOne && { relief: { of: 'all', share: frees } }),
        },
      ]
    })
}

function doctorStep(found: Diagnosis): Draft {
  return {
    kind: 'doctor',
    verdict: 'now',
    what: found.what,
    seen: `${figuresIn(found)}.`,
    rule: 'rung doctor says that it should be acted on.',
    gain: found.gain,
    cost: { money: free, days: work.index },
    change: found.sql,
    undo: found.undo,
    gainShare: 0.05,
  }
}
