import { hostname } from 'node:os'
import type { Work } from '../app/work.ts'
import { RungError } from '../kernel/errors.ts'
import { secret } from '../kernel/random.ts'
import { type Consumed, groupLines, subscriptionsOf, toDelivered } from '../primitives/events/events.ts'
import { type CronEntry, checkCron, cronLook, startCron } from '../primitives/jobs/cron.ts'
import type { Job } from '../primitives/jobs/jobs.ts'
import { deliveryHandler, jobHandler, jobLines } from '../primitives/jobs/work.ts'
import { type Handler, type Line, Worker } from '../primitives/jobs/worker.ts'
import type { Primitives } from './primitives.ts'

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
export function addWork(to: AppWork, module: string, work: readonly Work[], { data, queue }: Primitives): void {
  const { write } = data.forModule(module)
  for (const one of work) {
    if (one.kind === 'job') to.jobs.push({ job: one.job, handler: jobHandler(one.job, one.run, queue, write) })
    else if (one.kind === 'event') {
      const { event, options, run } = one
      const handler = deliveryHandler(options, (item, tx) => run(toDelivered(item), tx as never), queue, write)
      to.consumed.push({ event, group: options.group ?? module, options, handler })
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
  workerOf(lines: readonly Line[]): Worker
  /** Enqueues the jobs of crons that are due. */
  lookAtCrons(): Promise<void>
}

/** @param own lines of Rung's own */
export function prepareWork(work: AppWork, { data, queue }: Primitives, own: readonly Line[]): PreparedWork {
  const name = `${hostname()}:${process.pid}:${secret(3)}`
  return {
    lines: [...jobLines(work.jobs), ...groupLines(work.consumed), ...own],
    workerOf: (lines) => new Worker({ queue, lines, name, database: data.database }),
    lookAtCrons: cronLook(work.crons, data.forModule(undefined), data.database),
  }
}

/**
 * Starts to work.
 * @returns what ends it, after `graceMs` at most for what runs
 */
export function startWork(
  work: AppWork,
  primitives: Primitives,
  graceMs: number,
  own: readonly Line[] = [],
): () => Promise<void> {
  const { lines, workerOf, lookAtCrons } = prepareWork(work, primitives, own)
  const worker = workerOf(lines)
  worker.start()
  primitives.worker = worker
  primitives.signals.listen('jobs', (queues) => worker.wake(queues))
  const endCron = startCron(lookAtCrons)
  return async () => {
    await endCron()
    await worker.stop(graceMs)
    primitives.worker = undefined
  }
}

/** Before anything is published by this process: every group has to get it. */
export async function subscribe(work: AppWork, { outbox }: Primitives): Promise<void> {
  await outbox.subscribe(subscriptionsOf(work.consumed))
}
