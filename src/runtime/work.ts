import { hostname } from 'node:os'
import type { Work } from '../app/work.ts'
import { RungError } from '../kernel/errors.ts'
import { secret } from '../kernel/random.ts'
import type { Database } from '../primitives/data/contract.ts'
import { type Broker, logQueue } from '../primitives/events/contract.ts'
import { type Consumed, groupLines, subscriptionsOf, toDelivered } from '../primitives/events/events.ts'
import { startMesh } from '../primitives/events/mesh.ts'
import { type CronEntry, checkCron, cronLook, keepCronRuns, startCron } from '../primitives/jobs/cron.ts'
import type { Job } from '../primitives/jobs/jobs.ts'
import { deliveryHandler, jobHandler, jobLines } from '../primitives/jobs/work.ts'
import { type Handler, type Line, Worker } from '../primitives/jobs/worker.ts'
import { startUpkeep, type UpkeepTask } from '../primitives/upkeep/upkeep.ts'
import type { Primitives, Waking } from './primitives.ts'
import type { Store, Stores } from './stores.ts'
import { upkeepOf } from './upkeep.ts'
import { openEventsLease, openUpkeepLease } from './wire.ts'

/** What the modules of an app do off the request path, put together. */
export interface AppWork {
  jobs: { job: Job; handler: Handler }[]
  consumed: Consumed[]
  crons: CronEntry[]
}

/**
 * From a module's inert descriptions to handlers that write as that module.
 * @throws APP_INVALID
 */
export function addWork(to: AppWork, module: string, work: readonly Work[], { stores }: Primitives): void {
  const { database } = stores.of(module)
  const { write } = stores.data(module)
  const home = { database, write, foreignClaimsIn: (other: Database) => stores.in(other).foreignClaims }
  for (const one of work) {
    if (one.kind === 'job') to.jobs.push({ job: one.job, handler: jobHandler(one.job, one.run, home) })
    else if (one.kind === 'event') {
      const { event, options, run } = one
      const handler = deliveryHandler(options, (item, tx) => run(toDelivered(item), tx as never), home)
      to.consumed.push({ event, group: options.group ?? module, module, options, handler })
    } else {
      const { pattern, job, input, options } = one
      const entry = { name: options.name ?? job.name, pattern, timeZone: options.timeZone ?? 'UTC', job, input }
      checkCron(entry)
      job.check(input)
      if (to.crons.some(({ name }) => name === entry.name)) {
        throw new RungError('APP_INVALID', `Two crons are named "${entry.name}"; give one of them a name of its own.`)
      }
      to.crons.push(entry)
    }
  }
}

/** Everything that works off an app's queues, before it is started. */
export interface PreparedWork {
  readonly lines: readonly Line[]
  /** Makes a worker for each database. */
  workersOf(lines: readonly Line[]): Worker[]
  /** Enqueues the jobs of crons that are due. */
  lookAtCrons(): Promise<void>
}

/**
 * @param own lines of Rung's own
 * @param name of this process, unique in the fleet
 */
export function prepareWork(
  work: AppWork,
  { stores }: Primitives,
  own: readonly Line[] = [],
  name: string = nameOfProcess(),
): PreparedWork {
  return {
    lines: [...jobLines(work.jobs), ...groupLines(work.consumed), ...own],
    workersOf: (lines) => stores.all.map(({ queue, database }) => new Worker({ queue, lines, name, database })),
    lookAtCrons: cronLook(work.crons, stores.data(undefined), stores.main.database),
  }
}

/** Returns a name for this start of this process, unique in the fleet: `host:pid:random`. */
export function nameOfProcess(): string {
  return `${hostname()}:${process.pid}:${secret(3)}`
}

export interface WorkOptions {
  /** What runs at a stop has this long to end. */
  graceMs: number
  /** Lines of Rung's own. */
  lines?: readonly Line[]
  /** Upkeep of the main database besides that of its store. */
  upkeep?: readonly UpkeepTask[]
  /** Carries events, where there is one. */
  broker?: Broker | undefined
  /** Events of a log are kept this long at least, ms. */
  eventsKeptMs?: number
  failed?(error: unknown, task?: string): void
}

/** Starts a worker for each database, the crons, and the upkeep. Returns what ends it. */
export function startWork(
  work: AppWork,
  primitives: Primitives,
  { graceMs, lines: own = [], upkeep = [], broker, eventsKeptMs, failed = () => {} }: WorkOptions,
): () => Promise<void> {
  const { stores, signals } = primitives
  const { main } = stores
  const name = nameOfProcess()
  const { lines, workersOf, lookAtCrons } = prepareWork(work, primitives, own, name)
  const workers = workersOf(lines)
  const logs = new Map(stores.all.map(({ database, log }) => [database.name, log]))
  const woken = (queues: ReadonlySet<string>) => {
    if (!waking.wake(queues)) signals.send('jobs', queues)
  }
  const meshes = broker
    ? stores.all.map(({ database, log }) =>
        startMesh({ database, log, logs, broker, lease: openEventsLease(database), holder: name, woken }),
      )
    : []
  const waking: Waking = {
    wake(queues) {
      const ofLog = queues?.has(logQueue) ?? true
      const woken = [
        ...(ofLog ? meshes.map((mesh) => mesh.wake()) : []),
        ...(ofLog && queues?.size === 1 ? [] : workers.map((worker) => worker.wake(queues))),
      ]
      return woken.length > 0 && woken.every(Boolean) // wakes all of them
    },
  }
  for (const worker of workers) worker.start()
  primitives.worker = waking
  signals.listen('jobs', (queues) => waking.wake(queues))
  const endCron = startCron(lookAtCrons)
  const endRuns = keepCronRuns(work.crons, {
    databases: stores.all.map(({ database }) => database),
    ...{ database: main.database, worker: name },
  })
  const endUpkeep = stores.all.map((store) =>
    startUpkeep({
      lease: openUpkeepLease(store.database),
      holder: name,
      tasks: [
        ...upkeepOf(store, waking.wake, { stores, keptMs: eventsKeptMs, woken: broker ? undefined : woken }),
        ...(store === main ? upkeep : []),
      ],
      failed,
    }),
  )
  return async () => {
    await endCron()
    await Promise.all(meshes.map((mesh) => mesh.stop()))
    await Promise.all([...endUpkeep.map((end) => end()), ...workers.map((worker) => worker.stop(graceMs))])
    await endRuns()
    primitives.worker = undefined
  }
}

/** Before anything is published by this process: every group has to get it. */
export async function subscribe(work: AppWork, { stores }: Primitives): Promise<void> {
  if (stores.events === 'table') {
    // The publisher adds the deliveries, wherever it publishes.
    await Promise.all(stores.all.map(({ outbox }) => outbox.subscribe(subscriptionsOf(work.consumed))))
  } else await Promise.all(stores.all.map((store) => subscribeTo(work, store, stores)))
}

/** Groups take events into the database of their modules; one with several, into that of the first by name, in every process. */
async function subscribeTo({ consumed }: AppWork, store: Store, stores: Stores): Promise<void> {
  const byName = consumed.toSorted((a, b) => (a.module < b.module ? 1 : -1)) // the last entry of a group wins
  const homes = new Map(byName.map(({ group, module }) => [group, stores.of(module)]))
  const wanted = subscriptionsOf(consumed.filter(({ group }) => homes.get(group) === store))
  if (wanted.length === 0) return
  await store.outbox.subscribe(wanted)
  const marks = await store.log.marks()
  for (const { database, log } of stores.all) {
    if (database === store.database) continue
    const begun = new Set(
      marks.filter(({ source }) => source === database.name).map(({ event, group }) => `${event} ${group}`),
    )
    const fresh = wanted.filter(({ event, group }) => !begun.has(`${event} ${group}`))
    if (fresh.length === 0) continue
    while ((await log.number(1_000)) > 0);
    await store.log.begin(database.name, fresh, await log.state())
  }
}
