import type { Static, TSchema } from 'typebox'
import type { Invalidating } from '../primitives/cache/cache.ts'
import type { SqlTag } from '../primitives/data/sql.ts'
import type { ConsumerOptions, Delivered, Event, Publish } from '../primitives/events/events.ts'
import type { CronOptions } from '../primitives/jobs/cron.ts'
import type { Enqueue, Job } from '../primitives/jobs/jobs.ts'
import type { JobRun } from '../primitives/jobs/work.ts'
import type { Indexing } from '../primitives/search/search.ts'

/** The handle of a transaction: it runs statements, and collects events, jobs and other changes that ride the commit. */
export interface Tx extends SqlTag, Enqueue, Publish, Indexing, Invalidating {}

/** Work of a module outside of requests, described by `handle`, `on` and `cron`. */
export type Work = HandledJob | Consumer | Scheduled

export interface HandledJob {
  kind: 'job'
  job: Job
  run(input: never, run: JobRun<Tx>): PromiseLike<unknown> | unknown
}

export interface Consumer {
  kind: 'event'
  event: Event
  run(delivered: Delivered, tx: Tx): PromiseLike<unknown> | unknown
  options: ConsumerOptions
}

export interface Scheduled {
  kind: 'cron'
  pattern: string
  job: Job
  input: unknown
  options: CronOptions
}

/**
 * Implements a job. It may run more than once (a crash, a failure): writes inside `run.complete` happen once, and other effects must allow
 * a repetition.
 * @example handle(sendReport, async ({ month }, run) => { … })
 */
export function handle<Schema extends TSchema>(
  job: Job<Schema>,
  run: (input: Static<Schema>, run: JobRun<Tx>) => PromiseLike<unknown> | unknown,
): Work {
  return { kind: 'job', job: job as unknown as Job, run: run as never }
}

/**
 * Handles an event. Writes with `tx` are committed together with the end of the delivery, so they happen exactly once.
 * @example on(orderPlaced, async ({ payload }, tx) => { … })
 */
export function on<Schema extends TSchema>(
  event: Event<Schema>,
  run: (delivered: Delivered<Schema>, tx: Tx) => PromiseLike<unknown> | unknown,
  options: ConsumerOptions = {},
): Work {
  return { kind: 'event', event: event as unknown as Event, run: run as never, options }
}

/** Enqueues a job at regular times, once for each time in the whole fleet: `cron('0 9 * * 1', sendReport, {})`. */
export function cron<Schema extends TSchema>(
  pattern: string,
  job: Job<Schema>,
  input: Static<Schema>,
  options: CronOptions = {},
): Work {
  return { kind: 'cron', pattern, job: job as unknown as Job, input, options }
}
